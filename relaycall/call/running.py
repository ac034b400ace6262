"""What goes on while packets pass: how the call goes is watched, what is sent is adapted, and video flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from relaycall.call.ends import Ends, MediaOptions
from relaycall.call.events import CallEvent, PeerChanged, RelayChanged, VideoEnded
from relaycall.call.picture import Picture
from relaycall.call.steering import Adapted, Steering, told
from relaycall.call.watch import Watch
from relaycall.errors import MediaError, VideoNotTaken
from relaycall.ice.connection import Connection
from relaycall.ice.events import PathLost, PathSelected, PeerHeard, PeerUnheard
from relaycall.media.session import AudioSession
from relaycall.media.video.sources import VideoSource
from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.ladder import Limits
from relaycall.quality.voice import Reason

GIVEN_WAY = 10.0  # seconds after our media gave way in which no other path is looked for


class Running:
    """All that a call needs once packets pass.

    Args:
        session: its audio, started.
        connection: its path.
        ends: what our user gave. The video of it is closed in the end.
        options: how media is sent.
        peer_takes: codecs of video that the other side takes, by name; none: it takes no video.
        on_advice: called when another path is advised.
        on_event: called with each `LevelChanged`, `VideoAdapted` and `AudioAdapted`.
        on_shown: called with whether we show something, whenever that changes.

    Attributes:
        watch: how it goes.
    """

    def __init__(
        self,
        session: AudioSession,
        connection: Connection,
        ends: Ends,
        options: MediaOptions,
        *,
        peer_takes: Sequence[str],
        on_advice: Callable[[], None],
        on_event: Callable[[CallEvent], None],
        on_shown: Callable[[bool], None],
    ) -> None:
        limits = Limits(max_bitrate=options.max_bitrate, low_data=options.low_data)
        self._session = session
        self._on_advice = on_advice
        self._on_event = on_event
        self._gave_way_at = float("-inf")
        self._steering = Steering(session, limits, self._decided)
        self._picture = Picture(
            session.transport,
            self._steering,
            peer_takes=peer_takes,
            sink=ends.video_sink,
            rtt=self._round_trip,
            on_shown=on_shown,
            on_ended=self._video_ended,
        )
        self.watch = Watch(
            session,
            connection,
            rtt_limit_ms=options.rtt_limit_ms,
            loss_limit=options.loss_limit,
            complete=self._picture.complete,
            on_advice=self._advised,
            on_report=self._steering.report,
            on_event=on_event,
        )
        self.watch.start()
        if not self._picture.show(ends.video):
            self._decided(VideoAdapted(None, Reason.PEER))

    def show(self, source: VideoSource | None) -> None:
        """Send this from now on; None: no video. Raises VideoNotTaken, and closes it."""
        if not self._picture.show(source):
            raise VideoNotTaken

    def peer_limit(self, limit: int | None) -> None:
        """The other side wants no more than so many bit/s."""
        self._steering.peer_limit(limit)

    def happened(self, event: CallEvent) -> None:
        """Something else did, of which this should know."""
        match event:
            case PathSelected():
                self._steering.path_changed()
                self._session.path_changed()
            case RelayChanged():
                why = "failed" if event.failed else "for a better path"
                self.watch.mark("relay", f"{event.old} to {event.new}, {why}: gap {event.gap_ms:.0f} ms")
            case PathLost():
                self.watch.mark("path", "no path")
            case PeerUnheard():
                self.watch.mark("path", "nothing is heard of the other side")
            case PeerHeard():
                self.watch.mark("path", "the other side is heard again")
            case PeerChanged():
                shows = "shows video" if event.video else "shows none"
                self.watch.mark("video", f"the other side {shows}, {'muted' if event.muted else 'not muted'}")
            case _:
                pass

    def hush(self) -> None:
        """The call ends: nothing that is in front of our microphone or camera is sent from now on."""
        self._session.muted = True
        self._steering.close()

    async def close(self) -> None:
        """End it all within a second."""
        self.watch.close()
        self._steering.close()
        await self._picture.close()

    def _advised(self) -> None:
        """Not while we give way: then the link is full because of us, on whatever path."""
        if asyncio.get_running_loop().time() - self._gave_way_at >= GIVEN_WAY:
            self._on_advice()

    def _decided(self, decision: Adapted) -> None:
        if decision.reason in (Reason.RATE, Reason.LOSS):
            self._gave_way_at = asyncio.get_running_loop().time()
        self.watch.mark(*told(decision))
        self._on_event(decision)

    def _video_ended(self, error: MediaError | None) -> None:
        self.watch.mark("video", "our video has ended" if error is None else f"our video has failed: {error.code}")
        self._on_event(VideoEnded(error))

    def _round_trip(self) -> float | None:
        """Of the path, in seconds, as of the latest sample."""
        sample = self.watch.sample
        return sample.rtt_ms / 1000 if sample is not None and sample.rtt_ms is not None else None
