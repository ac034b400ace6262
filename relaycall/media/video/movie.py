"""What is seen and heard in a call, in one file.

The call hands over pictures and sound on the event loop, and a thread codes and writes them. What it cannot keep up
with is left out: pictures first, of which few may wait. Pictures come in any size, so each is fitted into one frame.
Both are placed by when they came. Every second has a picture, the one before if need be: a file without would hold its
sound back.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import av
from av import AudioFrame, VideoFrame
from av.filter import Graph

from relaycall.errors import MediaError
from relaycall.media.audio import SAMPLE_RATE

WIDTH, HEIGHT, FRAME_RATE = 1280, 720, 30  # of what is written
MAX_PICTURES, MAX_WAITING = 12, 150  # that wait to be written: pictures while no more do, and sound
MIN_INTERVAL = 1 / 60  # seconds between pictures: a peer cannot make more work
STILL = 1.0  # seconds, after which the picture before is written again
MAX_GAP = 0.1  # seconds by which sound may be late before silence is put in
MAX_SILENCE, MAX_AHEAD = 10 * SAMPLE_RATE, 2 * SAMPLE_RATE  # samples: put in at once; that sound may be early
PATIENCE = 5.0  # seconds that a file may take to be completed

_CLOCK = Fraction(1, 1000)
_X264 = ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "maxrate": "2M", "bufsize": "2M"})
_VP8 = ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"})
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}  # can be read although it was broken off


class _Format(NamedTuple):
    name: str
    video: tuple[str, dict[str, str]]
    audio: str
    options: dict[str, str]


_FORMATS = {
    ".mkv": _Format("matroska", _X264, "libopus", {}),
    ".mp4": _Format("mp4", _X264, "aac", _FRAGMENTS),
    ".webm": _Format("webm", _VP8, "libopus", {}),
}


def check_movie(path: Path) -> None:
    """Before the call. Raises MediaError: nothing can be recorded there."""
    if path.suffix.lower() not in _FORMATS:
        raise MediaError(f"A recording cannot be written as {path}.", f"Name it {', '.join(_FORMATS)}.")
    if path.exists() and not path.is_file():
        raise MediaError(f"The recording {path} is not a regular file.", "Give another name.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise _unwritable(path)


def _unwritable(path: Path) -> MediaError:
    return MediaError(f"The recording {path} cannot be written.", "Check the directory and its permissions.")


class Movie:
    """Records both into a file, which it replaces. Only its owner may read it.

    Args:
        path: .mkv, .mp4 or .webm.
        clock: seconds, monotonic.

    Attributes:
        sound: takes what is heard, as a call's `sink`.
        pictures: takes what is seen, as a call's `video_sink`.
        error: why the recording ended early, for instance because the disk is full. The call goes on.

    Raises:
        MediaError: the suffix is another one, or the file cannot be written.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = monotonic) -> None:
        self.error: MediaError | None = None
        self.sound = _Sound(self)
        self.pictures = _Pictures(self)
        self._name = str(path)
        self._clock = clock
        self._start: float | None = None
        self._picture_at = float("-inf")
        self._waiting: queue.Queue[tuple[float, AudioFrame | VideoFrame] | None] = queue.Queue()
        self._closed = False
        check_movie(path)
        try:
            self._file = open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        except (OSError, ValueError):
            raise _unwritable(path) from None
        self._thread = threading.Thread(target=self._write, args=(path.suffix.lower(),), name="movie", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more. The file is completed in the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)

    def wait(self) -> None:
        """Wait until the file is complete, five seconds at most. Blocks."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.error = self.error or MediaError(
                f"The recording {self._name} could not be completed.", "Check the disk it is on."
            )

    def take(self, frame: AudioFrame | VideoFrame) -> None:
        """Have this written, if there is room for it."""
        now = self._clock()
        picture = isinstance(frame, VideoFrame)
        if self._closed or self.error is not None:
            return
        if self._waiting.qsize() >= (MAX_PICTURES if picture else MAX_WAITING):
            return
        if picture:
            if now - self._picture_at < MIN_INTERVAL:
                return
            self._picture_at = now
        self._start = now if self._start is None else self._start
        self._waiting.put((now - self._start, frame))

    def _write(self, suffix: str) -> None:
        """The thread."""
        try:
            with self._file:
                file = _File(self._file, _FORMATS[suffix])
                while (one := self._waiting.get()) is not None:
                    file.add(*one)
                file.close()
        except Exception:  # OSError, or whatever FFmpeg makes of it
            self.error = MediaError(
                f"The recording {self._name} could not be written to its end.", "Check that the disk has space."
            )
            while not self._waiting.empty():
                self._waiting.get_nowait()


class _Sound:
    """An `AudioSink`."""

    def __init__(self, movie: Movie) -> None:
        self._movie = movie

    def write(self, frame: AudioFrame) -> None:
        self._movie.take(frame)

    def close(self) -> None:
        self._movie.close()


class _Pictures:
    """A `VideoSink`. The sound goes on when it is closed."""

    def __init__(self, movie: Movie) -> None:
        self._movie = movie

    def write(self, frame: VideoFrame) -> None:
        self._movie.take(frame)

    def close(self) -> None:
        """The sound ends it."""


class _File:
    """What the thread writes to."""

    def __init__(self, file: Any, kind: _Format) -> None:
        self._container = _opened(file, kind)
        codec, options = kind.video
        self._video = self._container.add_stream(codec, rate=FRAME_RATE, options=options)
        self._video.width, self._video.height, self._video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        self._video.bit_rate, self._video.gop_size = 2_000_000, 2 * FRAME_RATE
        self._video.codec_context.time_base = _CLOCK
        self._audio = self._container.add_stream(kind.audio, rate=SAMPLE_RATE, layout="mono")
        self._audio.bit_rate = 64_000
        self._fitting: tuple[tuple[int, int, str], Any] | None = None  # a graph, and what it takes
        self._samples = 0  # of sound, written
        self._picture = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, value in zip(self._picture.planes, (16, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        self._shown_at = float("-inf")
        self._show(0.0)

    def add(self, seconds: float, frame: AudioFrame | VideoFrame) -> None:
        """`seconds`: since the beginning."""
        if isinstance(frame, VideoFrame):
            self._picture = self._fitted(frame)
            self._show(seconds)
            return
        if seconds - self._shown_at >= STILL:
            self._show(seconds)
        late = int(seconds * SAMPLE_RATE) - self._samples
        if late > MAX_GAP * SAMPLE_RATE:
            self._say(bytes(2 * min(late, MAX_SILENCE)))
        if late > -MAX_AHEAD:
            self._say(bytes(frame.planes[0])[: 2 * frame.samples])

    def close(self) -> None:
        for stream in (self._video, self._audio):
            self._container.mux(stream.encode(None))
        self._container.close()

    def _say(self, pcm: bytes) -> None:
        """16-bit, mono, 48 kHz."""
        frame = AudioFrame("s16", "mono", len(pcm) // 2)
        frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._samples, Fraction(1, SAMPLE_RATE)
        self._samples += frame.samples
        self._container.mux(self._audio.encode(frame))

    def _show(self, seconds: float) -> None:
        """The latest picture, now."""
        seconds = max(seconds, self._shown_at + 1 / 1000)
        self._shown_at = seconds
        self._picture.pts, self._picture.time_base = round(seconds * 1000), _CLOCK
        self._container.mux(self._video.encode(self._picture))

    def _fitted(self, frame: VideoFrame) -> VideoFrame:
        """In the middle of a frame of our size, its shape kept."""
        kind = frame.width, frame.height, frame.format.name
        if self._fitting is None or self._fitting[0] != kind:
            graph: Any = Graph()
            graph.link_nodes(
                graph.add_buffer(width=kind[0], height=kind[1], format=kind[2], time_base=_CLOCK),
                graph.add(
                    "scale",
                    f"{WIDTH}:{HEIGHT}:flags=fast_bilinear:force_original_aspect_ratio=decrease:force_divisible_by=2",
                ),
                graph.add("pad", f"{WIDTH}:{HEIGHT}:(ow-iw)/2:(oh-ih)/2"),
                graph.add("format", "yuv420p"),
                graph.add("buffersink"),
            ).configure()
            self._fitting = kind, graph
        self._fitting[1].push(frame)
        fitted = self._fitting[1].pull()
        assert isinstance(fitted, VideoFrame)
        return fitted


def _opened(file: Any, kind: _Format) -> Any:
    return av.open(file, "w", format=kind.name, container_options={"flush_packets": "1"} | kind.options)
