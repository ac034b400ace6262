"""One side of a call's media: relays, the record, the path, sound and video.

The order is: `prepare` allocates on the relays and gives our record; the two sides exchange records, sealed, over any
signaling; `connect` checks the paths and starts the audio. From then on signaling is not needed: what the two sides
have to tell each other goes over the media path, new relays and the end of the call included.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from time import monotonic

from relaycall.call.control import Control
from relaycall.call.control_format import ControlState, HangupReason
from relaycall.call.ends import Ends, MediaOptions
from relaycall.call.events import CallEvent, Ended, PeerChanged, RelayChanged
from relaycall.call.in_band import InBand
from relaycall.call.picture import TAKES
from relaycall.call.record import (
    KEY_SIZE,
    AudioPlan,
    CallRecord,
    RelayCandidate,
    VideoPlan,
    coarse_leg,
    decode_record,
    derive_call_key,
    encode_record,
)
from relaycall.call.running import Running
from relaycall.call.watch import Watch
from relaycall.errors import CallClosed
from relaycall.ice.candidate import MAX_CANDIDATES
from relaycall.ice.connection import CONNECT_TIMEOUT, Connection
from relaycall.ice.events import PathSelected, RelaySuspected
from relaycall.ice.failover import SETTLE
from relaycall.media.audio import AudioSink, AudioSource
from relaycall.media.session import AudioSession
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import VideoSource
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

SESSION_CLOSE_TIMEOUT = 0.4  # seconds; with the peer's 0.3 and the connection's 1.2 that keeps close() below two
KEEP = MAX_CANDIDATES - 1  # relays allocated at a time: there is room for a new one before an old one goes
REPORT_AFTER = 1.0  # seconds after a move: what is late has come by then
LOOK_BACK = 2.0  # seconds: a doubt that led to a move is not older


class MediaCall:
    """One side of a call. All media goes through the given relays; there is no other way for it.

    Args:
        relays: in order of preference; three are allocated at a time, and the others wait in case one fails. Or a
            `RelayPool` that is open and not lent, which has chosen; whoever opened it closes it.
        caller: whether this side placed the call. One side is the caller, the other is not.
        source: what to send. `close` closes it.
        sink: where to record what is heard. `close` closes it.
        video: what to show; None: nothing yet. `close` closes it.
        video_sink: where what they show goes; None: we take no video. `close` closes it.
        options: how media is sent.
        on_event: called with each `CallEvent`.

    Attributes:
        connection: the path, with its statistics.
        session: the audio, once there is a path.
    """

    def __init__(
        self,
        relays: Sequence[RelayServer] | RelayPool,
        *,
        caller: bool,
        source: AudioSource,
        sink: AudioSink | None = None,
        video: VideoSource | None = None,
        video_sink: VideoSink | None = None,
        options: MediaOptions = MediaOptions(),  # noqa: B008 - it cannot be changed
        on_event: Callable[[CallEvent], None] | None = None,
    ) -> None:
        self.on_event = on_event
        self._owns_pool = not isinstance(relays, RelayPool)
        if isinstance(relays, RelayPool):
            self._pool = relays
        else:
            keep = min(max(len(relays), 1), KEEP)
            self._pool = RelayPool(relays, measure=False, keep=keep, laboratory=options.laboratory, on_event=self._emit)
        self.connection = Connection(
            (), ice_controlling=caller, laboratory=options.laboratory, lender=self._pool, on_event=self._happened
        )
        self.session: AudioSession | None = None
        self._running: Running | None = None
        self._caller, self._muted = caller, False
        self._ends = Ends(source, sink, video, video_sink)
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._record: CallRecord | None = None
        self._in_band: InBand | None = None
        self._preparing = asyncio.Lock()
        self._opening: asyncio.Task[RelayPool] | None = None
        self._path: str | None = None
        self._peer_says = PeerChanged(muted=False, video=False)
        self._settled_at = float("inf")
        self._suspected_at = float("-inf")
        self._reports: set[asyncio.TimerHandle] = set()
        self._reason: str | None = None
        self._hanging_up: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<MediaCall as {'caller' if self._caller else 'callee'}>"

    async def __aenter__(self) -> MediaCall:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def prepare(self) -> bytes:
        """Allocate on the relays, at most five seconds. Returns our call record, to be sealed for the other side.

        Raises:
            NoRelay: not one relay could be used; it says why for each.
            ConfigError: the pool is not open, or serves another call.
            CallClosed: the call was closed, or is meanwhile.
        """
        self._not_closed()
        async with self._preparing:
            if self._record is None:
                await self._allocate()
                self._record = self._make_record()
            return encode_record(self._record)

    def _make_record(self) -> CallRecord:
        return CallRecord(
            ufrag=self.connection.local_username,
            pwd=self.connection.local_password,
            candidates=tuple(
                RelayCandidate(found.host, found.port, found.priority, coarse_leg(found.leg))
                for found in self.connection.local_candidates[:MAX_CANDIDATES]
            ),
            audio=AudioPlan(ssrc=1 + secrets.randbelow(2**32 - 1)),
            key=secrets.token_bytes(KEY_SIZE),
            video=VideoPlan(tuple(codec.value for codec in TAKES) if self._ends.video_sink is not None else ()),
        )

    async def _allocate(self) -> None:
        self._not_closed()
        if self._owns_pool:
            self._opening = self._loop.create_task(self._pool.__aenter__())
            try:
                await self._opening
            except asyncio.CancelledError:
                if self._opening.cancelled():
                    self._not_closed()
                raise
        self._not_closed()
        self._pool.lend(self.connection)
        if not self.connection.local_candidates:
            raise CallClosed

    def _not_closed(self) -> None:
        if self._closing is not None:
            raise CallClosed

    def give_way(self) -> None:
        """Both sides have called each other: this one becomes the callee. Before `connect` only."""
        self._caller = self.connection.ice_controlling = False

    async def connect(
        self, peer_record: bytes, *, call_key: bytes | None = None, timeout: float = CONNECT_TIMEOUT
    ) -> None:
        """Check the paths to the other side and start the audio on the first that works.

        Args:
            peer_record: the other side's record, as `prepare` gave it there.
            call_key: 32 bytes that only the two sides know, from a handshake. Without one it is made of the secrets in
                both records, which whoever carries them must not see.
            timeout: seconds.

        Raises:
            RecordRefused: the record breaks a rule.
            NoPath: no pair of relays carried packets in time.
            RelayForbiddenPeer: our relays forbid the other side's.
            CallClosed: `prepare` was not awaited, a record was connected to before, or the call was closed meanwhile.
        """
        mine = self._record
        if mine is None or self.session is not None:
            raise CallClosed
        theirs = decode_record(peer_record, laboratory=self._options.laboratory)
        key = derive_call_key(mine, theirs) if self._caller else derive_call_key(theirs, mine)
        self.connection.remote_username, self.connection.remote_password = theirs.ufrag, theirs.pwd
        for entry in theirs.candidates:
            self.connection.add_remote(entry.address, entry.priority, entry.leg_ms / 1000)
        self.session = AudioSession(
            self.connection,
            call_key=key if call_key is None else call_key,
            caller=self._caller,
            local_ssrc=mine.audio.ssrc,
            remote_ssrc=theirs.audio.ssrc,
            payload_type=mine.audio.payload_type,
            source=self._ends.audio,
            sink=self._ends.sink,
        )
        self.session.muted = self._muted
        await self._start(self.session, timeout)
        control = Control(
            ControlState(candidates=tuple(entry.address for entry in mine.candidates)),
            ControlState(candidates=tuple(entry.address for entry in theirs.candidates)),
            laboratory=self._options.laboratory,
        )
        self._settled_at = monotonic() + SETTLE
        self._in_band = InBand(self.session.transport, control, self._told)
        self.connection.on_candidates = self._tell_candidates
        self._tell_candidates()
        self._in_band.update(muted=self._muted)
        self.connection.watch()
        if self._options.protect:
            self.connection.protect(True)
            self._in_band.update(protect=True)
        if self._options.receive_limit is not None:
            self._in_band.update(receive_limit=self._options.receive_limit)
        self._running = Running(
            self.session,
            self.connection,
            self._ends,
            self._options,
            peer_takes=theirs.video.takes,
            on_advice=self._advised,
            on_event=self._emit,
            on_shown=self._shown,
        )

    async def _start(self, session: AudioSession, timeout: float) -> None:
        """Send as soon as the other side can be reached, and wait until it is sure that packets pass both ways."""
        connecting = asyncio.ensure_future(self.connection.connect(timeout))
        reached = asyncio.ensure_future(self.connection.reached.wait())
        try:
            await asyncio.wait([connecting, reached], return_when=asyncio.FIRST_COMPLETED)
            if self.connection.reached.is_set():
                await session.start()
            await connecting
        finally:
            connecting.cancel()
            reached.cancel()

    async def heard(self) -> None:
        """Wait until the peer's first packet of sound has come: a path may be there and the keys not be the same.

        Raises:
            CallClosed: `connect` has not returned yet.
        """
        if self.session is None:
            raise CallClosed
        await self.session.transport.begun.wait()

    @property
    def muted(self) -> bool:
        """Whether encoded silence is sent instead of the source. Set at any time; the peer is told."""
        return self._muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._muted = muted
        if self.session is not None:
            self.session.muted = muted
        if self._in_band is not None:
            self._in_band.update(muted=muted)

    def show(self, video: VideoSource | None) -> None:
        """Send this from now on; None: no video. What was sent before is closed.

        Raises:
            CallClosed: not connected.
            VideoNotTaken: the other side takes none. The source is closed.
        """
        if self._running is None or self._closing is not None:
            if video is not None:
                video.close()
            raise CallClosed
        self._running.show(video)

    @property
    def relays(self) -> list[tuple[RelayServer, str]]:
        """Ours that hold an allocation, each with the host that it relays from."""
        return [(one.server, one.relayed.host) for one in self._pool.allocations if one.relayed is not None]

    @property
    def watch(self) -> Watch | None:
        """How it goes, once it is connected, and how it went when it is over."""
        return self._running.watch if self._running is not None else None

    async def ended(self) -> Ended:
        """Wait until the call is over. Returns why."""
        error = await self.connection.ended()
        if error is not None:
            return Ended(error.code, error)
        return Ended(self._reason or "hung_up")

    async def close(self) -> None:
        """End the call within two seconds, whatever is dead, and close source and sink. May be called twice."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    # --- what happens -------------------------------------------------------------------------------------------------

    def _tell_candidates(self) -> None:
        if self._in_band is not None:
            ours = self.connection.local_candidates[:MAX_CANDIDATES]
            self._in_band.update(candidates=tuple(found.address for found in ours))

    def _told(self, news: ControlState) -> None:
        """The peer's state is another one now."""
        if news.hangup is not None:
            if self._closing is None:
                self._reason = "peer_hung_up"
                self._hanging_up = self._loop.create_task(self.connection.close())
            return
        self.connection.set_remotes(news.candidates)
        self.connection.protect(self._options.protect or news.protect)
        if self._running is not None:
            self._running.peer_limit(news.receive_limit)
        says = PeerChanged(news.muted, news.video)
        if says != self._peer_says:
            self._peer_says = says
            self._emit(says)

    def _happened(self, event: CallEvent) -> None:
        self._emit(event)
        if isinstance(event, RelaySuspected):
            self._suspected_at = monotonic()
        elif isinstance(event, PathSelected):
            old, self._path = self._path, event.relay
            settled = monotonic() >= self._settled_at  # the first choice may be corrected at once
            if old is not None and (settled or event.failed) and self._closing is None:
                self._report_later(old, event)

    def _advised(self) -> None:
        self.connection.compare()
        self._pool.remeasure()

    def _shown(self, shown: bool) -> None:
        if self._in_band is not None:
            self._in_band.update(video=shown)

    def _report_later(self, old: str, event: PathSelected) -> None:
        """Say what a move cost, when all that it delayed has arrived."""
        now = monotonic()
        since = self._suspected_at if now - self._suspected_at < LOOK_BACK else now

        def report() -> None:
            self._reports.discard(timer)
            if self.session is not None:
                arrivals = self.session.transport.arrivals
                gap_ms, lost = round(arrivals.gap_ms(since), 1), arrivals.lost(since)
                self._emit(RelayChanged(old, event.relay, event.failed, gap_ms, lost))

        timer = self._loop.call_later(REPORT_AFTER, report)
        self._reports.add(timer)

    def _emit(self, event: CallEvent) -> None:
        if self._running is not None:
            self._running.happened(event)
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                logger.exception("an event handler failed")

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        for timer in self._reports:
            timer.cancel()
        if self._running is not None:
            self._running.hush()  # the other side may let us wait, and listen
        try:
            if self._in_band is not None:
                await self._in_band.hang_up(HangupReason.FINISHED)
                self._in_band.close()
            parts = [part.close() for part in (self.session, self._running) if part is not None]
            if parts:
                closing = asyncio.gather(*parts, return_exceptions=True)
                await asyncio.wait([closing], timeout=SESSION_CLOSE_TIMEOUT)
            self._ends.close()  # what no part has used
        finally:
            if self._owns_pool:
                await self._pool.close()  # first, or it would still lend
            await self.connection.close()
            if self._hanging_up is not None:
                await self._hanging_up
            self._record = None  # its secrets
