"""Sound files: what a call plays and what it records.

A file is opened and tried when its object is made, before anything goes over the network. FFmpeg gets it as an open
file and may open nothing else: a playlist could name a host, and reaching it would show our address.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Protocol

import av
from av import AudioFrame, AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from relaycall.errors import MediaError
from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE, pcm_frame

STEP_BYTES = 10 * FRAME_BYTES  # decoded at once: 200 ms of sound
MAX_BAD_PACKETS = 100  # in a row that cannot be decoded, before a file is given up
MAX_GAP = 10 * SAMPLE_RATE  # samples of silence put into a recording at once
MAX_AHEAD = 2.0  # seconds a recording may be ahead of the clock: a peer cannot fill the disk
RECORDING_BIT_RATE = 48000  # bits per second, of .ogg and .opus
SUFFIXES = (".wav", ".ogg", ".opus")

_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_WAV_MAX_DATA = 0xFFFFFFFF - _WAV_HEADER.size


def open_file(path: str | Path, kind: str) -> BinaryIO:
    """A regular file to read from. MediaError: it is not one, or cannot be opened; told as "the `kind` file"."""
    try:
        if not Path(path).is_file():
            what = "is a directory" if Path(path).is_dir() else "is not a file" if Path(path).exists() else ""
            raise MediaError(f"The {kind} file {path} {what or 'does not exist'}.")
        return Path(path).open("rb")
    except (OSError, ValueError):
        raise MediaError(f"The {kind} file {path} cannot be opened.", "Check its name and permissions.") from None


def open_container(file: BinaryIO) -> InputContainer:
    """What FFmpeg finds in the file, and in no other. Raises whatever FFmpeg makes of it."""
    return av.open(file, "r", metadata_errors="replace", options={"protocol_whitelist": "none"})


def decoded(container: InputContainer, stream: Stream) -> Iterator[Any]:
    """The frames of a stream, without those that cannot be decoded: av.FFmpegError at 101 such packets in a row."""
    bad = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
            bad = 0
        except av.FFmpegError:
            bad += 1
            if bad > MAX_BAD_PACKETS:
                raise
            continue
        yield from frames


class FileSource:
    """The sound of a file, once. Any format FFmpeg knows; other streams in the file are left alone.

    Decodes on the event loop in small steps, of 200 ms of sound.

    Args:
        path: of a regular file.

    Raises:
        MediaError: it cannot be read, or holds no sound.
    """

    def __init__(self, path: str | Path) -> None:
        self._name = str(path)
        self._pcm = bytearray()
        self._file = open_file(path, "sound")
        try:
            self._container = open_container(self._file)
        except Exception:  # also of other kinds than av.FFmpegError, when the file is odd enough
            self._file.close()
            raise MediaError(f"{self._name} is not a sound file, or it is damaged.") from None
        self._blocks = self._decode()
        with contextlib.suppress(MediaError):
            self._fill()
        if not self._pcm:
            self.close()
            raise MediaError(f"{self._name} holds no sound.")

    @property
    def duration(self) -> float | None:
        """Seconds, as the file says; None where it does not."""
        microseconds = self._container.duration
        return microseconds / 1e6 if microseconds else None

    def read(self) -> bytes | None:
        """The next 20 ms; the last block is filled up with silence. None at the end. MediaError: the file broke off."""
        self._fill()
        if not self._pcm:
            return None
        block = bytes(self._pcm[:FRAME_BYTES])
        del self._pcm[:FRAME_BYTES]
        return block.ljust(FRAME_BYTES, b"\0")

    def close(self) -> None:
        """Close the file. What was not read is gone. Idempotent."""
        self._blocks = iter(())
        self._pcm.clear()
        self._container.close()
        self._file.close()

    def _fill(self) -> None:
        """Decode some more once less than 20 ms are left: several frames in a row cost less than one at a time."""
        if len(self._pcm) >= FRAME_BYTES:
            return
        try:
            while len(self._pcm) < STEP_BYTES:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._pcm += block
        except Exception:
            self._blocks = iter(())
            raise MediaError(f"{self._name} is damaged.") from None

    def _decode(self) -> Iterator[bytes]:
        audio = self._container.streams.audio
        if not audio:
            return
        resampler = AudioResampler("s16", "mono", SAMPLE_RATE)
        for frame in decoded(self._container, audio[0]):
            for mono in resampler.resample(frame):
                yield _samples(mono)


class FileSink:
    """Records what is heard: .wav (16-bit, mono, 48 kHz) or Ogg Opus (.ogg, .opus). Replaces an existing file.

    Frames are placed by their timestamps: silence fills the gaps. Only the owner may read the file.

    Args:
        path: its suffix chooses the format.
        clock: seconds, monotonic.

    Attributes:
        error: why the recording ended early, for instance because the disk is full. The call goes on.

    Raises:
        MediaError: the suffix is another one, or the file cannot be written.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = monotonic) -> None:
        self.error: MediaError | None = None
        self._name = str(path)
        self._clock = clock
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise MediaError(f"A recording cannot be written as {self._name}.", f"Name it {', '.join(SUFFIXES)}.")
        try:
            if Path(path).exists() and not Path(path).is_file():
                raise MediaError(f"The recording {self._name} is not a regular file.")
            file = _File(path)
        except (OSError, ValueError):
            raise MediaError(
                f"The recording {self._name} cannot be written.", "Check the directory and its permissions."
            ) from None
        try:
            self._recording: _Recording = _Wav(file) if suffix == ".wav" else _OggOpus(file)
        except Exception:
            file.close()
            raise MediaError(
                f"The recording {self._name} cannot be written.", "Check that the disk has space."
            ) from None
        self._closed = False
        self._start: float | None = None
        self._next = 0  # timestamp that continues the recording, in samples
        self._written = 0  # samples

    def write(self, frame: AudioFrame) -> None:
        """Add a frame: 16-bit, mono, 48 kHz. Raises nothing: a failure ends the recording and is kept in `error`."""
        if self._closed or self.error is not None:
            return
        try:
            self._place(frame)
        except MediaError as error:
            self.error = error
        except Exception:  # OSError, or whatever FFmpeg makes of it
            self.error = MediaError(
                f"The recording {self._name} could not be written to its end.", "Check that the disk has space."
            )

    def close(self) -> None:
        """Complete and close the file. Idempotent, raises nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._recording.close()
        except Exception:
            self.error = self.error or MediaError(
                f"The recording {self._name} could not be completed.", "Check that the disk has space."
            )

    def _place(self, frame: AudioFrame) -> None:
        if (frame.format.name, frame.layout.name, frame.sample_rate) != ("s16", "mono", SAMPLE_RATE):
            raise MediaError("A recording takes 16-bit mono frames at 48 kHz.", "Resample them first.")
        timestamp, samples = frame.pts or 0, frame.samples
        now = self._clock()
        if self._start is None:
            self._start, self._next = now, timestamp
        room = int((now - self._start + MAX_AHEAD) * SAMPLE_RATE) - self._written
        gap = max(0, min(timestamp - self._next, MAX_GAP, room - samples))  # a step back goes in as it comes
        self._next = timestamp + samples
        if samples > room:
            return
        self._written += gap + samples
        self._recording.write(bytes(2 * gap) + _samples(frame))


class _Recording(Protocol):
    def write(self, pcm: bytes) -> None: ...

    def close(self) -> None: ...


class _File:
    """An unbuffered file that ends at the last whole write."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self._file = open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        self._end = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._end = max(self._end, self._file.tell())
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def rewrite_start(self, data: bytes) -> None:
        """Replace the first bytes, which takes no space: it works on a full disk."""
        self._file.seek(0)
        self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            try:
                self._file.truncate(self._end)
            finally:
                self._file.close()


class _Wav:
    def __init__(self, file: _File) -> None:
        self._file = file
        self._size = 0
        file.write(self._header())

    def _header(self) -> bytes:
        size = self._size
        return _WAV_HEADER.pack(
            *(b"RIFF", _WAV_HEADER.size - 8 + size, b"WAVE"),
            *(b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16),
            *(b"data", size),
        )

    def write(self, pcm: bytes) -> None:
        if self._size + len(pcm) > _WAV_MAX_DATA:
            raise MediaError("A .wav file holds 12 hours of sound at most.", "Record as .ogg.")
        self._file.write(pcm)
        self._size += len(pcm)

    def close(self) -> None:
        try:
            self._file.rewrite_start(self._header())
        finally:
            self._file.close()


class _OggOpus:
    def __init__(self, file: _File) -> None:
        self._file = file
        self._pcm = bytearray()
        self._timestamp = 0
        self._container: OutputContainer = av.open(file, "w", format="ogg")
        stream = self._container.add_stream("libopus", rate=SAMPLE_RATE)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        stream.format = "s16"
        stream.bit_rate = RECORDING_BIT_RATE
        stream.codec_context.options = {"application": "voip", "compression_level": "1"}
        self._stream = stream
        self._container.start_encoding()

    def write(self, pcm: bytes) -> None:
        self._pcm += pcm
        while len(self._pcm) >= FRAME_BYTES:
            self._encode(bytes(self._pcm[:FRAME_BYTES]))
            del self._pcm[:FRAME_BYTES]

    def _encode(self, pcm: bytes) -> None:
        self._container.mux(self._stream.encode(pcm_frame(pcm, self._timestamp)))
        self._timestamp += FRAME_SAMPLES

    def close(self) -> None:
        try:
            if self._pcm or not self._timestamp:  # Ogg Opus without a packet is not a file FFmpeg opens
                self._encode(bytes(self._pcm).ljust(FRAME_BYTES, b"\0"))
            self._container.mux(self._stream.encode(None))
            self._container.close()
        finally:
            self._file.close()


def _samples(frame: AudioFrame) -> bytes:
    """The samples of a mono frame, without the padding of its plane."""
    return bytes(frame.planes[0])[: 2 * frame.samples]
