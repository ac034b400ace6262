"""A phone: our keys, our contacts, our mailbox and our relays, ready for calls.

    async with Phone(signaling="wss://signaling.example.org", relays=relays) as phone:
        call = await phone.call("bob", audio=ToneSource())
        if await call.connected():
            print(await call.ended())

A phone reads its mailbox, refuses what is not sealed, signed, fresh and new, and gives the rest to its calls. A call
from somebody who may not ring, by the policy, costs no relay and no answer. It talks to its own signaling server only,
whatever a card says: whoever runs another one would see where we are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from relaycall.call.call import Call
from relaycall.call.desk import Desk, HeldKeys, same_server
from relaycall.call.emitter import Emitter
from relaycall.call.ends import Ends, MediaOptions
from relaycall.call.ring import Ring
from relaycall.call.state import CallState, Input
from relaycall.call.switchboard import Switchboard
from relaycall.call.warm import WarmPool
from relaycall.errors import (
    ConfigError,
    IdentityMissing,
    PhoneClosed,
    RelaycallError,
    SignalingError,
    StoreError,
)
from relaycall.identity.card import Card
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.contacts import ContactBook
from relaycall.identity.own import OwnKeys, change_own, create_own, load_own
from relaycall.identity.sealer import EnvelopeSealer
from relaycall.media.audio import AudioSink
from relaycall.media.tracks import Audio
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import Video
from relaycall.quality.monitor import LOSS_LIMIT, RTT_LIMIT_MS
from relaycall.relays.credentials import CredentialsSource
from relaycall.relays.pool import PoolEvent
from relaycall.relays.server import RelayServer
from relaycall.signaling.base import Received, Signaling
from relaycall.signaling.opening import open_signaling
from relaycall.store import Store, open_store

logger = logging.getLogger(__name__)

T = TypeVar("T")

CARRIED = "manual:"
MAX_WAITING = 16  # rings that nobody has looked at


class Phone(Emitter):
    """Places and takes calls. An asynchronous context manager: it is open within.

    Events, for `@phone.on(name)`: "incoming" with each `Ring`; "refused" with the error for which a message was not
    believed or acted on; "signaling" with each new `SignalingState`; "relays" with each `PoolEvent` between calls. What
    a handler raises is logged.

    Args:
        signaling: the URL of our server, as `open_signaling` takes it; `manual:` for texts that people carry.
        relays: where media goes, in order of preference: each a URI or a `RelayServer`.
        credentials: gives user name and password for those relays that have none.
        name: what we call ourselves. With it, keys are made if the store has none.
        store: where keys and contacts are; by default the keyring or the vault, as `open_store` finds it.
        strangers, unverified: who may ring; who is not verified and may not is not called either.
        prewarm: keep relays allocated between calls, so that a call takes round trips and not seconds. The relays see
            that we are there for as long.
        protect: send audio over two paths that share no relay, always.
        max_bitrate: of all that a call sends, and of all that it is sent, in bit/s with all headers; 80000 at least.
            None for no limit.
        low_data: as little as a call can do with: video is small, or off.
        rtt_limit_ms, loss_limit: a path that is worse for five seconds is compared with the others, and left for a
            better one: its round trip in ms, or the share that is lost of ours. None for never.
        ssl_context: for the signaling server, one that trusts a private authority.
        laboratory: allow loopback and private addresses. For tests on one machine only.

    Attributes:
        refused: how many messages were refused, by the error's code.

    Raises:
        ConfigError: an argument is not usable, or the phone was opened before.
        IdentityMissing: on entering, there are no keys and no name to make some with.
        IdentityDamaged, StoreError: on entering, the keys cannot be read.
        SignalingError: on entering, the server cannot be used, by type.
    """

    def __init__(
        self,
        *,
        signaling: str,
        relays: Sequence[RelayServer | str],
        credentials: CredentialsSource | None = None,
        name: str | None = None,
        store: Store | None = None,
        strangers: Strangers = Strangers.CODE,
        unverified: Unverified = Unverified.RING,
        prewarm: bool = True,
        protect: bool = False,
        max_bitrate: int | None = None,
        low_data: bool = False,
        rtt_limit_ms: float | None = RTT_LIMIT_MS,
        loss_limit: float | None = LOSS_LIMIT,
        ssl_context: ssl.SSLContext | None = None,
        laboratory: bool = False,
    ) -> None:
        super().__init__()
        servers = [RelayServer.parse(relay) if isinstance(relay, str) else relay for relay in relays]
        self._url = signaling
        self._carried = signaling == CARRIED
        self._name = name
        self._given_store = store
        try:
            self._policy = Strangers(strangers), Unverified(unverified)
        except ValueError:
            raise ConfigError(
                "There is no such rule for who may ring.", "Give a Strangers and an Unverified."
            ) from None
        self._options = MediaOptions(
            protect=protect,
            max_bitrate=max_bitrate,
            low_data=low_data,
            rtt_limit_ms=rtt_limit_ms,
            loss_limit=loss_limit,
            laboratory=laboratory,
        )
        self._ssl_context = ssl_context
        self._laboratory = laboratory
        self._warm = WarmPool(
            servers,
            credentials=credentials,
            prewarm=prewarm,
            laboratory=laboratory,
            on_event=self._relays_say,
        )
        self._held: HeldKeys | None = None
        self._signaling: Signaling | None = None
        self._contacts: ContactBook | None = None
        self._board: Switchboard | None = None
        self._desk: Desk | None = None
        self._rings: asyncio.Queue[Ring | None] = asyncio.Queue(MAX_WAITING)
        self._failure: SignalingError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._entered = False
        self._closing: asyncio.Task[None] | None = None
        self.refused: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Phone with {len(self.calls)} calls>"

    async def __aenter__(self) -> Phone:
        if self._entered:
            raise ConfigError("A phone is opened once.", "Make another one.")
        self._entered = True
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- for its user -------------------------------------------------------------------------------------------------

    @property
    def card(self) -> Card:
        """Our card, to be given to others.

        Raises:
            PhoneClosed: it is not open.
        """
        return self._opened(self._held).own.card()

    @property
    def contacts(self) -> ContactBook:
        """Whom we know. Raises PhoneClosed: it is not open."""
        return self._opened(self._contacts)

    @property
    def signaling(self) -> Signaling:
        """Our mailbox; by `manual:`, what takes and gives the texts. Raises PhoneClosed: it is not open."""
        return self._opened(self._signaling)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those that are not over, ringing ones included."""
        return self._board.calls if self._board is not None else ()

    async def call(
        self,
        who: str | Card,
        *,
        audio: Audio,
        sink: AudioSink | None = None,
        video: Video | None = None,
        video_sink: VideoSink | None = None,
    ) -> Call:
        """Call somebody. Returns at once; the call says how it goes on, refusals included.

        If they are calling us at this moment, their call is accepted.

        Args:
            who: the name of a contact, or a card.
            audio: what to send: a source of relaycall, an aiortc track, or an asynchronous iterator of frames. The call
                closes it.
            sink: where what is heard goes: a `FileSink`, a `HeardTrack`, or anything with their two methods. The call
                closes it.
            video: what to show: a source of relaycall, an aiortc track, or an asynchronous iterator of frames. The call
                closes it. None: nothing yet; see `Call.show`.
            video_sink: where what they show goes: a `SeenTrack`, or anything with its two methods. The call closes it.
                None: we take no video, and none is sent to us.

        Raises:
            ConfigError: what is given is no sound, no video, or no place for them; or the card is our own.
            ContactUnknown, IdentityDamaged: there is no contact of that name.
            KeyChanged: a contact has the mailbox or the name of the card, with other keys.
            NotVerified: a contact that is not, and the phone has `unverified=Unverified.REFUSE`.
            OnAnotherServer: they are not on our signaling server.
            PhoneClosed: it is not open.
        """
        party = self._opened(self._desk).party_of(who)
        board, ends = self._opened(self._board), Ends.of(audio, sink, video, video_sink)
        return board.place(party, ends)

    async def incoming(self) -> AsyncIterator[Ring]:
        """The calls that come in, as they ring, until the phone is closed.

        Raises:
            PhoneClosed: it is not open.
            MailboxReplaced: another phone with our keys has taken the mailbox.
        """
        self._opened(self._board)
        while True:
            ring = await self._rings.get()
            if ring is None:
                self._rings.put_nowait(None)
                if self._failure is not None:
                    raise self._failure
                return
            if ring.rings:
                yield ring

    async def close(self) -> None:
        """End all calls and give everything up, within three seconds. May be called twice."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    # --- from beginning to end ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        store = await open_store() if self._given_store is None else self._given_store
        self._held = HeldKeys(await self._own_keys(store), store)
        self._contacts = ContactBook(store)
        await self._contacts.load()
        self._signaling = open_signaling(
            self._url,
            key=self._held.identity.mailbox_key,
            ssl_context=self._ssl_context,
            laboratory=self._laboratory,
        )
        self._signaling.on_state = lambda state: self.emit("signaling", state)
        await self._signaling.open()
        sealer = EnvelopeSealer(self._held, self._contacts, carried=self._carried)
        self._desk = Desk(self._held, self._contacts, sealer, self._signaling, url=self._url, carried=self._carried)
        strangers, unverified = self._policy
        self._board = Switchboard(
            self._desk,
            self._warm,
            strangers=strangers,
            unverified=unverified,
            options=self._options,
            on_ring=self._ring,
        )
        self._warm.start()
        self._start(self._read(self._signaling, self._desk, self._board))
        self._start(self._held.refresh_for_ever())

    async def _own_keys(self, store: Store) -> OwnKeys:
        now = time.time()
        try:
            own = await load_own(store, now)
        except IdentityMissing:
            if self._name is None:
                raise
            return await create_own(store, self._name, self._url, now)
        if self._carried or same_server(own.signaling, self._url):
            return own
        return await change_own(store, now, signaling=self._url)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._warm.stop()
        if self._board is not None:
            await self._board.close()
        await self._warm.close()
        if self._signaling is not None:
            await self._signaling.close()
        self._end_rings()

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(job))

    def _opened(self, part: T | None) -> T:
        if part is None or self._closing is not None:
            raise PhoneClosed
        return part

    # --- what comes in ------------------------------------------------------------------------------------------------

    async def _read(self, signaling: Signaling, desk: Desk, board: Switchboard) -> None:
        """Take in one message after the other, until the mailbox is closed or another phone's."""
        try:
            async for received in signaling.receive():
                if await self._take(desk, board, received):
                    with contextlib.suppress(SignalingError):
                        await signaling.acknowledge(received)
        except SignalingError as error:
            self._failure = error
            for call in self.calls:
                if not call.caller and call.state is CallState.RINGING:
                    call.happens(Input.ELSEWHERE)
        self._end_rings()

    async def _take(self, desk: Desk, board: Switchboard, received: Received) -> bool:
        """Act on a message. False if it has to stay with the server, for as long as that keeps it."""
        try:
            await board.hear(await desk.open(received.envelope))
        except StoreError as error:
            self._refuse(error)
            return False
        except RelaycallError as error:
            self._refuse(error)
        except Exception:
            logger.exception("a message could not be handled, for a reason that is not foreseen")
        return True

    def _relays_say(self, event: PoolEvent) -> None:
        self.emit("relays", event)

    def _refuse(self, error: RelaycallError) -> None:
        self.refused[error.code] += 1
        self.emit("refused", error)

    def _ring(self, call: Call) -> None:
        ring = Ring(call)
        self.emit("incoming", ring)
        if self._rings.full():  # who calls again and again pushes nobody out who still rings
            waiting = [self._rings.get_nowait() for _ in range(MAX_WAITING)]
            for one in [one for one in waiting if one is not None and one.rings][1 - MAX_WAITING :]:
                self._rings.put_nowait(one)
        self._rings.put_nowait(ring)

    def _end_rings(self) -> None:
        while self._rings.full():
            self._rings.get_nowait()
        self._rings.put_nowait(None)
