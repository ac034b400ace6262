"""One call: its state, its keys and its sound together.

What happens, to whom it is said and how long it may take is decided in `state`; here it is carried out. Whatever takes
time is a task of its own that ends as an input of the machine, so nothing waits for what does not answer, and whatever
fails ends the call with the error that says why.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

from relaycall.call.agreement import Agreement
from relaycall.call.emitter import Emitter
from relaycall.call.ends import Ends
from relaycall.call.events import CallEvent, Ended
from relaycall.call.keeping import RUNNING, Keeper
from relaycall.call.line import Line, Party
from relaycall.call.media_call import MediaCall
from relaycall.call.messages import Kind, offer_body
from relaycall.call.posting import Posting
from relaycall.call.report.report import CallReport
from relaycall.call.sound import Sound
from relaycall.call.state import CallMachine, CallState, Do, EndReason, Input
from relaycall.errors import CallClosed, ConfigError, HandshakeRefused, RelaycallError
from relaycall.ice.events import PeerHeard, PeerUnheard
from relaycall.identity.handshake import CalleeHandshake
from relaycall.media.video.sources import Video, video_source_of
from relaycall.quality.sample import Sample

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

    Events, for `@call.on(name)`: "state" with the new `CallState`; "spoken_words" with them, once they are known;
    "ended" with `Ended`; and each `CallEvent` by its class in snake case: "relay_changed", "peer_changed",
    "level_changed", "video_adapted", "video_ended", "audio_adapted", and those of relays and paths. What a handler
    raises is logged.

    Attributes:
        id: 16 bytes, the same on both sides.
        party: the other side.
    """

    def __init__(self, line: Line, party: Party, *, caller: bool) -> None:
        super().__init__()
        self.id, self.party, self._muted = b"", party, False
        self._line = line
        self._sound = Sound(line, on_event=self._media_says)
        self._machine = CallMachine(caller, line.carried)
        self._event_loop = asyncio.get_running_loop()
        self._agreement = Agreement(line.identity, party.identity)
        self._error: RelaycallError | None = None
        self._posting = Posting(line, party, self._guarded)
        self._keeper = Keeper(self._event_loop.time())
        self._jobs: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[bool] = self._event_loop.create_future()
        self._ended: asyncio.Future[Ended] = self._event_loop.create_future()

    def __repr__(self) -> str:
        return f"<Call with {self.party!r}: {self.state}>"

    def __await__(self) -> Generator[Any, None, Call]:
        """Itself, at once: `await ring.accept(…)` reads as `await phone.call(…)` does, and need not."""
        return asyncio.sleep(0, self).__await__()

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
        return "" if self._line.carried else self._agreement.words  # nobody carries what the callee needs

    @property
    def muted(self) -> bool:
        """Whether silence is sent. Set at any time, before the call is connected too."""
        return self._muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._muted = muted
        if self.media is not None:
            self.media.muted = muted

    def show(self, video: Video | None) -> None:
        """Show this from now on, and close what was shown before; None: no video. While connected.

        Raises:
            ConfigError: it is no video.
            CallClosed: not connected.
            VideoNotTaken: the other side takes none.
        """
        source = None if video is None else video_source_of(video)
        if self.media is None:
            if source is not None:
                source.close()
            raise CallClosed
        self.media.show(source)

    def stats(self) -> Sample | None:
        """How it was in the last second; None before the first one of the connection is over."""
        return self.media.watch.sample if self.media is not None and self.media.watch is not None else None

    async def quality(self, interval: float = 1.0) -> AsyncIterator[Sample]:
        """How it goes, each `interval` seconds, 1 to 30, over that time; from the connection to the end.

        Raises:
            ConfigError: the interval is out of range.
        """
        if not 1 <= interval <= 30:
            raise ConfigError("Samples come every 1 to 30 seconds.")
        if await self.connected() and self.media is not None and self.media.watch is not None:
            async for sample in self.media.watch.samples(interval):
                yield sample

    def report(self) -> CallReport:
        """What it was like, at any time and after its end: figures, a few lines, or a page."""
        ended = self._end().reason if self.state is CallState.ENDED else RUNNING
        now = self._event_loop.time()
        return self._keeper.report(self.party, self._line, self.media, now, caller=self.caller, ended=ended)

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

    def place(self, ends: Ends) -> None:
        """Call them."""
        self._sound.give(ends)
        self._start(self._place)

    def ring(self, called: CalleeHandshake) -> None:
        """They call."""
        self._agreement.called = called
        self.id = called.call_id
        self.happens(Input.OFFERED)

    def accept(self, ends: Ends) -> None:
        """Our user accepts. If it does not ring any more, what is given is closed."""
        if self.caller or self.state is not CallState.RINGING:
            ends.close()
            return
        self._sound.give(ends)
        self.happens(Input.ACCEPT)

    def give_way(self, called: CalleeHandshake) -> None:
        """They call while we do, and theirs is the call that takes place: we are the callee, and accept."""
        self._agreement.give_way(called)
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
        elif kind is Kind.CONFIRM and self._agreement.called is not None:
            self._agreement.called.confirmed(rest)
            self._tell_words()
        elif kind is Kind.CANCELLED:
            self.happens(Input.CANCELLED)
        elif kind is Kind.HUNG_UP:
            self._agreement.check_farewell(rest, self.id, caller=self.caller)
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
            self._keeper.enter(machine.state, self.media, self._event_loop.time())
            self.emit("state", machine.state)

    def _time(self) -> None:
        before = self.state
        self._machine.handle_timeout(self._event_loop.time())
        self._do(before)

    def _do_one(self, what: Do) -> None:
        calling = self._agreement.calling
        if what in _SIMPLE:
            self._posting.say(_SIMPLE[what], self.id)
        elif what is Do.SEND_OFFER and calling is not None:
            self._posting.say(Kind.OFFER, offer_body(self._line.card, calling.offer))
        elif what is Do.SEND_ANSWER:
            self._posting.say(Kind.ANSWER, self.id + self._agreement.answer)
        elif what is Do.SEND_CONFIRM and calling is not None:
            self._posting.say(Kind.CONFIRM, self.id + calling.confirm())
        elif what is Do.SEND_HUNG_UP and self._agreement.keys is not None:
            self._posting.say(Kind.HUNG_UP, self.id + self._agreement.farewell(self.id, caller=self.caller))
        elif what is Do.PREPARE:
            self._start(self._prepare_answer)
        elif what is Do.CONNECT:
            self._start(self._connect)
        elif what is Do.CLOSE:
            self._finishing = self._event_loop.create_task(self._finish())
            self._finishing.add_done_callback(lambda _: self._tell_end())

    def _hear_answer(self, answer: bytes) -> None:
        if self._agreement.answer not in (b"", answer):
            raise HandshakeRefused("another answer came before")
        if self.state in (CallState.CALLING, CallState.RINGING) and self._agreement.calling is not None:
            try:
                self._agreement.conclude(answer)
            except HandshakeRefused as error:
                self.fail(error)
                raise
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

    async def _place(self) -> None:
        introducing = self._start(self._introduce)
        record = await self._sound.prepare(caller=True)
        await asyncio.wait([introducing])
        if self.state is not CallState.IDLE:  # they do not answer, or were quicker
            return
        self.id = self._agreement.propose(record)
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
        record = await self._sound.prepare(caller=False)
        if self.media is not None:  # it may have been made for a call of ours that gave way
            self.media.give_way()
        self._agreement.respond(record)
        self.happens(Input.READY)

    async def _connect(self) -> None:
        media, keys = self.media, self._agreement.keys
        assert media is not None and keys is not None, "there was an answer"  # noqa: PT018
        media.muted = self._muted
        timeout = CARRIED_CONNECT_TIMEOUT if self._line.carried else CONNECT_TIMEOUT
        await media.connect(self._agreement.peer_record, call_key=keys.media, timeout=timeout)
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
        self._keeper.happened(event, self.media, self._event_loop.time())
        self.emit(_snake(type(event).__name__), event)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Say what is still to be said, close everything, forget the keys, tell."""
        jobs = set(self._jobs)
        for job in jobs:
            job.cancel()
        said = self._posting.tasks
        closed = self._event_loop.create_task(self._close(jobs))
        await asyncio.wait([*said, closed], timeout=LAST_WORDS)
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT - LAST_WORDS)
        for task in (*said, closed):
            task.cancel()
        await asyncio.wait([*said, closed])

    def _tell_end(self) -> None:
        """However `_finish` ended, also if it was cancelled before it began: nobody waits for ever."""
        self._agreement.erase()
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

    def _end(self) -> Ended:
        reason, error = self._machine.reason, self._error
        unsent = self._posting.unsent
        if reason is EndReason.UNANSWERED and self.caller and unsent is not None:
            return Ended(unsent.code, unsent)
        if reason is EndReason.FAILED and error is not None:
            return Ended(error.code, error)
        return Ended(str(reason))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
