"""One call: its state, its keys and its sound together.

What happens, to whom it is said and how long it may take is decided in `state`; here it is carried out. Whatever takes
time is a task of its own that ends as an input of the machine, so nothing waits for what does not answer, and whatever
fails ends the call with the error that says why.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from relaycall.call.emitter import Emitter
from relaycall.call.events import CallEvent, Ended
from relaycall.call.line import Line, Party
from relaycall.call.media_call import MediaCall
from relaycall.call.messages import Kind, is_tag, offer_body, tag
from relaycall.call.sound import Sound, close_both
from relaycall.call.state import CallMachine, CallState, Do, EndReason, Input
from relaycall.errors import CallClosed, HandshakeRefused, RelaycallError, SignalingError
from relaycall.ice.events import PeerHeard, PeerUnheard
from relaycall.identity.handshake import NONCE_SIZE, CalleeHandshake, CallerHandshake, CallKeys
from relaycall.identity.keys import KEY_SIZE
from relaycall.identity.safety import spoken_check
from relaycall.media.audio import AudioSink, AudioSource

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0  # seconds; the machine's own limit comes first
CARRIED_CONNECT_TIMEOUT = 600.0
LAST_WORDS = 1.5  # seconds for what is still to be said when a call ends
CLOSE_TIMEOUT = 1.9  # seconds

_SIMPLE = {
    Do.SEND_RINGING: Kind.RINGING,
    Do.SEND_DECLINED: Kind.DECLINED,
    Do.SEND_CANCELLED: Kind.CANCELLED,
}
_HEARD = {Kind.RINGING: Input.RINGS, Kind.DECLINED: Input.DECLINED, Kind.BUSY: Input.BUSY}


class Call(Emitter):
    """A call, from its first ring to its end. `Phone.call` and `Ring.accept` give it.

    Events, for `@call.on(name)`: "state" with the new `CallState`; "relay_changed", "peer_changed" and the other events
    of the path, by their class in snake case; "spoken_words" with them, once they are known; "ended" with `Ended`. What
    a handler raises is logged.

    Attributes:
        id: 16 bytes, the same on both sides.
        party: the other side.
    """

    def __init__(self, line: Line, party: Party, *, caller: bool, protect: bool = False) -> None:
        super().__init__()
        self.id = b""
        self.party = party
        self._line = line
        self._sound = Sound(line, protect=protect, on_event=self._media_says)
        self._machine = CallMachine(caller, line.carried)
        self._event_loop = asyncio.get_running_loop()
        self._calling: CallerHandshake | None = None
        self._called: CalleeHandshake | None = None
        self._keys: CallKeys | None = None
        self._answer = b""
        self._peer_record = b""
        self._error: RelaycallError | None = None
        self._unsent: SignalingError | None = None  # why nothing reached the other side so far
        self._posting: dict[tuple[Kind, bytes], asyncio.Task[None]] = {}  # what is on its way
        self._jobs: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[bool] = self._event_loop.create_future()
        self._ended: asyncio.Future[Ended] = self._event_loop.create_future()

    def __repr__(self) -> str:
        return f"<Call with {self.party!r}: {self.state}>"

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up()

    # --- for its user -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> CallState:
        """Where it stands."""
        return self._machine.state

    @property
    def caller(self) -> bool:
        """Whether this side is the caller; when both call at once, one of them no longer is."""
        return self._machine.caller

    @property
    def media(self) -> MediaCall | None:
        """The media, once there is some."""
        return self._sound.media

    @property
    def spoken_words(self) -> str:
        """Words for the two to compare by voice; "" while they are unknown. If they differ, somebody is between."""
        if self._keys is None or not self._keys.spoken or self._line.carried:  # nobody carries what the callee needs
            return ""
        return spoken_check(self._keys.spoken)

    @property
    def muted(self) -> bool:
        """Whether silence is sent. Set it while connected."""
        return self.media is not None and self.media.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        if self.media is None:
            raise CallClosed
        self.media.muted = muted

    async def connected(self) -> bool:
        """Wait until there is sound. False if the call ended before; `ended` says why.

        It takes two minutes at most; by `manual:`, ten for each text that is carried.
        """
        return await asyncio.shield(self._connected)

    async def ended(self) -> Ended:
        """Wait until it is over. Returns why: a value, never an exception."""
        return await asyncio.shield(self._ended)

    async def hang_up(self) -> Ended:
        """End it, in whatever state: cancel, decline or hang up. Returns when all is closed, within 2 seconds."""
        self.happens(Input.HANG_UP)
        return await self.ended()

    # --- for its phone ------------------------------------------------------------------------------------------------

    def place(self, source: AudioSource, sink: AudioSink | None) -> None:
        """Call them."""
        self._sound.give(source, sink)
        self._start(self._place)

    def ring(self, called: CalleeHandshake) -> None:
        """They call."""
        self._called = called
        self.id = called.call_id
        self.happens(Input.OFFERED)

    def accept(self, source: AudioSource, sink: AudioSink | None) -> None:
        """Our user accepts. If it does not ring any more, what is given is closed."""
        if self.caller or self.state is not CallState.RINGING:
            close_both(source, sink)
            return
        self._sound.give(source, sink)
        self.happens(Input.ACCEPT)

    def give_way(self, called: CalleeHandshake) -> None:
        """They call while we do, and theirs is the call that takes place: we are the callee, and accept."""
        if self._calling is not None:
            self._calling.erase()
        self._calling, self._called = None, called
        self.id = called.call_id
        self.happens(Input.OFFERED)

    def fail(self, error: RelaycallError) -> None:
        """Something of ours does not work, which ends the call unless it is over."""
        if self._error is None:
            self._error = error
        self.happens(Input.FAILED)

    def hear(self, kind: Kind, rest: bytes) -> None:
        """A message of the other side about this call.

        Raises:
            HandshakeRefused: it breaks a rule. A call that this concerns has failed.
        """
        if kind in _HEARD:
            self.happens(_HEARD[kind])
        elif kind is Kind.ANSWER:
            self._hear_answer(rest)
        elif kind is Kind.CONFIRM and self._called is not None:
            self._called.confirmed(rest)
            self._tell_words()
        elif kind is Kind.CANCELLED:
            self.happens(Input.CANCELLED)
        elif kind is Kind.HUNG_UP:
            keys = self._keys
            if keys is None or not is_tag(keys.from_callee if self.caller else keys.from_caller, self.id, rest):
                raise HandshakeRefused("it is not hung up by who holds the key")
            self.happens(Input.HUNG_UP)

    def happens(self, what: Input) -> None:
        """An input of the machine."""
        before = self.state
        self._machine.handle(what, self._event_loop.time())
        self._do(before)

    # --- doing --------------------------------------------------------------------------------------------------------

    def _do(self, before: CallState) -> None:
        """Carry out what the machine decided, and look again when it wants to."""
        machine = self._machine
        while machine.to_do:
            self._do_one(machine.to_do.popleft())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = machine.next_timeout()
        if at < float("inf"):
            self._timer = self._event_loop.call_at(at, self._time)
        if machine.state is not before:
            if machine.state is CallState.CONNECTED and not self._connected.done():
                self._connected.set_result(True)
            self.emit("state", machine.state)

    def _time(self) -> None:
        before = self.state
        self._machine.handle_timeout(self._event_loop.time())
        self._do(before)

    def _do_one(self, what: Do) -> None:
        if what in _SIMPLE:
            self._say(_SIMPLE[what], self.id)
        elif what is Do.SEND_OFFER and self._calling is not None:
            self._say(Kind.OFFER, offer_body(self._line.card, self._calling.offer))
        elif what is Do.SEND_ANSWER:
            self._say(Kind.ANSWER, self.id + self._answer)
        elif what is Do.SEND_CONFIRM and self._calling is not None:
            self._say(Kind.CONFIRM, self.id + self._calling.confirm())
        elif what is Do.SEND_HUNG_UP and self._keys is not None:
            key = self._keys.from_caller if self.caller else self._keys.from_callee
            self._say(Kind.HUNG_UP, self.id + tag(key, self.id))
        elif what is Do.PREPARE:
            self._start(self._prepare_answer)
        elif what is Do.CONNECT:
            self._start(self._connect)
        elif what is Do.CLOSE:
            self._finishing = self._event_loop.create_task(self._finish())
            self._finishing.add_done_callback(lambda _: self._tell_end())

    def _say(self, kind: Kind, body: bytes) -> None:
        """People carry offer and answer; the rest is not worth their while, and media says it too."""
        said = kind, body
        if self._line.carried and kind not in (Kind.OFFER, Kind.ANSWER):
            return
        if said not in self._posting:  # once is enough, however often they ask until it is there
            task = self._posting[said] = self._event_loop.create_task(self._guarded(lambda: self._post(kind, body)))
            task.add_done_callback(lambda _: self._posting.pop(said))

    def _hear_answer(self, answer: bytes) -> None:
        if self._answer and answer != self._answer:
            raise HandshakeRefused("another answer came before")
        if self.state in (CallState.CALLING, CallState.RINGING) and self._calling is not None:
            try:
                self._peer_record, self._keys = self._calling.accept(answer)
            except HandshakeRefused as error:
                self.fail(error)
                raise
            self._answer = answer
            self._tell_words()
        self.happens(Input.ANSWERED)

    def _tell_words(self) -> None:
        if words := self.spoken_words:
            self.emit("spoken_words", words)

    def _start(self, job: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = self._event_loop.create_task(self._guarded(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    async def _guarded(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except RelaycallError as error:
            self.fail(error)
        except Exception:
            logger.exception("a call failed for a reason that is not foreseen")
            self.fail(CallClosed())

    async def _post(self, kind: Kind, body: bytes) -> None:
        try:
            await self._line.post(self.party, kind, body)
            self._unsent = None
        except SignalingError as error:
            self._unsent = error  # what matters is said again, for as long as the call may take

    async def _place(self) -> None:
        introducing = self._start(self._introduce)
        record = await self._sound.prepare(caller=True)
        await asyncio.wait([introducing])
        if self.state is not CallState.IDLE:  # they do not answer, or were quicker
            return
        self._calling = CallerHandshake(
            self._line.identity,
            self.party.identity,
            record,
            secret=secrets.token_bytes(KEY_SIZE),
            nonce=secrets.token_bytes(NONCE_SIZE),
        )
        self.id = self._calling.call_id
        self.happens(Input.PLACE)

    async def _introduce(self) -> None:
        try:
            known = await self._line.introduce(self.party)
        except RelaycallError:
            if self.state is CallState.IDLE:
                raise
            return
        if not known and self.state is CallState.IDLE:
            self.happens(Input.TIMEOUT)

    async def _prepare_answer(self) -> None:
        called = self._called
        assert called is not None, "somebody calls"
        record = await self._sound.prepare(caller=False)
        if self.media is not None:  # it may have been made for a call of ours that gave way
            self.media.give_way()
        self._answer, self._keys = called.answer(
            record, secret=secrets.token_bytes(KEY_SIZE), nonce=secrets.token_bytes(NONCE_SIZE)
        )
        self._peer_record = called.record
        self.happens(Input.READY)

    async def _connect(self) -> None:
        media, keys = self.media, self._keys
        assert media is not None and keys is not None, "there was an answer"  # noqa: PT018
        timeout = CARRIED_CONNECT_TIMEOUT if self._line.carried else CONNECT_TIMEOUT
        await media.connect(self._peer_record, call_key=keys.media, timeout=timeout)
        end = await self._sound.heard_or_ended()
        if end is None:
            self.happens(Input.UP)
            end = await media.ended()
        if end.error is not None:
            raise end.error
        self.happens(Input.HUNG_UP)

    def _media_says(self, event: CallEvent) -> None:
        if isinstance(event, PeerUnheard):
            self.happens(Input.UNHEARD)
        elif isinstance(event, PeerHeard):
            self.happens(Input.HEARD)
        self.emit(_snake(type(event).__name__), event)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Say what is still to be said, close everything, forget the keys, tell."""
        jobs = set(self._jobs)
        for job in jobs:
            job.cancel()
        said = list(self._posting.values())
        closed = self._event_loop.create_task(self._close(jobs))
        await asyncio.wait([*said, closed], timeout=LAST_WORDS)
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT - LAST_WORDS)
        for task in (*said, closed):
            task.cancel()
        await asyncio.wait([*said, closed])

    def _tell_end(self) -> None:
        """However `_finish` ended, also if it was cancelled before it began: nobody waits for ever."""
        self._erase()
        self._line.over(self)
        if not self._connected.done():
            self._connected.set_result(False)
        end = self._end()
        self._ended.set_result(end)
        self.emit("ended", end)

    async def _close(self, jobs: set[asyncio.Task[None]]) -> None:
        if jobs:
            await asyncio.wait(jobs)
        await self._sound.close()

    def _erase(self) -> None:
        """Forget every secret of this call."""
        for secret in (self._keys, self._calling, self._called):
            if secret is not None:
                secret.erase()
        self._answer = self._peer_record = b""

    def _end(self) -> Ended:
        reason, error = self._machine.reason, self._error
        if reason is EndReason.UNANSWERED and self.caller and self._unsent is not None:
            return Ended(self._unsent.code, self._unsent)
        if reason is EndReason.FAILED and error is not None:
            return Ended(error.code, error)
        return Ended(str(reason))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
