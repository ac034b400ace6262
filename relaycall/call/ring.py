"""A call that comes in."""

from __future__ import annotations

from relaycall.call.call import Call
from relaycall.call.events import Ended
from relaycall.call.state import CallState
from relaycall.media.audio import AudioSink
from relaycall.media.tracks import Audio, source_of


class Ring:
    """A call that comes in, until it is accepted or declined.

    Attributes:
        party: who calls.
    """

    def __init__(self, call: Call) -> None:
        self.party = call.party
        self._call = call

    def __repr__(self) -> str:
        return f"<Ring of {self.party!r}>"

    @property
    def rings(self) -> bool:
        """Whether it still does."""
        return self._call.state is CallState.RINGING

    def accept(self, *, audio: Audio, sink: AudioSink | None = None) -> Call:
        """Take the call. If the caller has given up meanwhile, the call has ended, and says so.

        Args:
            audio: what to send: a source of relaycall, an aiortc track, or an asynchronous iterator of frames. The call
                closes it.
            sink: where what is heard goes: a `FileSink`, a `HeardTrack`, or anything with their two methods. The call
                closes it.
        """
        self._call.accept(source_of(audio), sink)
        return self._call

    async def decline(self) -> Ended:
        """Let the caller know that nobody wants to talk."""
        return await self._call.hang_up()

    async def ended(self) -> Ended:
        """Wait until it rings no more without having been accepted, or until the call is over."""
        return await self._call.ended()
