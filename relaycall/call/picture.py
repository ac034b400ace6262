"""The video of a running call, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from relaycall.call.steering import Steering
from relaycall.errors import MediaError
from relaycall.media.transport import RtpTransport
from relaycall.media.video.encoder import can_encode
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.receiver import VideoReceiver
from relaycall.media.video.sender import VideoSender
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import VideoSource
from relaycall.quality.sample import Reading

TAKES = (VideoCodec.VP8, VideoCodec.H264)


class Picture:
    """What we show and what we see.

    Args:
        transport: carries it.
        steering: says how it is sent.
        peer_takes: codecs that the other side takes, by name, the one it prefers first; none: it takes no video. The
            first that this machine can code is used.
        sink: where what they show goes. None: nothing is taken.
        rtt: of the path, in seconds; None while unknown.
        on_shown: called with whether we show something, whenever that changes.
        on_ended: called when what we show has ended, with the reason if it failed.
    """

    def __init__(
        self,
        transport: RtpTransport,
        steering: Steering,
        *,
        peer_takes: Sequence[str],
        sink: VideoSink | None,
        rtt: Callable[[], float | None],
        on_shown: Callable[[bool], None],
        on_ended: Callable[[MediaError | None], None],
    ) -> None:
        self.sender: VideoSender | None = None
        self.receiver: VideoReceiver | None = None
        self._steering = steering
        self._on_shown = on_shown
        if sink is not None:
            self.receiver = VideoReceiver(transport, TAKES, sink, rtt=rtt)
        codec = next(filter(can_encode, map(VideoCodec, peer_takes)), None)
        if codec is not None:
            self.sender = steering.sender = VideoSender(
                transport,
                codec,
                on_sent=steering.sent,
                on_fates=steering.fates,
                on_size=self._sized,
                on_ended=on_ended,
                rtt=rtt,
            )

    def show(self, source: VideoSource | None) -> bool:
        """Send this from now on, or nothing, and close what was sent before. False: it is closed, they take none."""
        if self.sender is None:
            if source is not None:
                source.close()
            return source is None
        self.sender.set_source(source)
        return True

    def complete(self, reading: Reading) -> Reading:
        """A reading, with what is known of the video."""
        if self.sender is not None:
            sent, encoding = self.sender.stats(), self.sender.encoding
            self._steering.encoding_takes(self.sender.load)
            reading = replace(
                reading,
                video_frames_sent=sent.frames_encoded,
                video_width=sent.width if encoding is not None else 0,
                video_height=sent.height if encoding is not None else 0,
                video_target=encoding.bitrate if encoding is not None else 0,
                available=self._steering.available,
            )
        if self.receiver is not None:
            seen = self.receiver.stats()
            self.receiver.delay = reading.theirs.playout_delay_ms / 1000
            theirs = replace(
                reading.theirs,
                video_received=seen.packets,
                video_lost=seen.lost,
                frames_shown=seen.frames_decoded,
                video_height=seen.height,
            )
            reading = replace(reading, theirs=theirs)
        return reading

    async def close(self) -> None:
        """End it within a second, and close source and sink."""
        parts = [part for part in (self.sender, self.receiver) if part is not None]
        await asyncio.gather(*(part.close() for part in parts), return_exceptions=True)

    def _sized(self, size: tuple[int, int] | None) -> None:
        self._steering.source(size)
        self._on_shown(size is not None)
