"""A call that comes in."""

from __future__ import annotations

import asyncio

from relaycall.call.call import Call
from relaycall.call.ends import Ends
from relaycall.call.events import Ended
from relaycall.call.state import CallState
from relaycall.media.audio import AudioSink
from relaycall.media.tracks import Audio
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import Video


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

    def accept(
        self,
        *,
        audio: Audio,
        sink: AudioSink | None = None,
        video: Video | None = None,
        video_sink: VideoSink | None = None,
    ) -> Call:
        """Take the call, at once. If the caller has given up meanwhile, the call has ended, and says so.

        The result may be awaited, and need not be.

        Args:
            audio: what to send: a source of relaycall, an aiortc track, or an asynchronous iterator of frames. The call
                closes it.
            sink: where what is heard goes: a `FileSink`, a `HeardTrack`, or anything with their two methods. The call
                closes it.
            video: what to show: a source of relaycall, an aiortc track, or an asynchronous iterator of frames. The call
                closes it. None: nothing yet; see `Call.show`.
            video_sink: where what they show goes: a `SeenTrack`, or anything with its two methods. The call closes it.
                None: we take no video, and none is sent to us.

        Raises:
            ConfigError: it is no sound, no video, or no place for them.
        """
        self._call.accept(Ends.of(audio, sink, video, video_sink))
        return self._call

    def decline(self) -> asyncio.Future[Ended]:
        """Let the caller know that nobody wants to talk, at once. It may be awaited: until all is closed."""
        return asyncio.ensure_future(self._call.hang_up())

    async def ended(self) -> Ended:
        """Wait until it rings no more without having been accepted, or until the call is over."""
        return await self._call.ended()
