"""A speaker, as the sink of a call. Takes the extra `audio`."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from av import AudioFrame, AudioResampler

from relaycall.errors import RelaycallError
from relaycall.media.audio import FRAME_SAMPLES, SAMPLE_RATE, SILENCE
from relaycall.media.devices.level import Level, Meter
from relaycall.media.devices.ring import Drift, SoundRing
from relaycall.media.devices.stream import DeviceStream, Format
from relaycall.media.stretch import Stretcher

CAPACITY_MS = 120  # of sound wait at most
BEGIN_MS = 40  # have to wait before the first is played: 20 ms come at once, and not to the millisecond
KEPT = 720  # samples that should wait at least: 15 ms


class Speaker:
    """Plays what is heard. An `AudioSink`.

    Opens the device when it is made, within 3 s; the first time in a program that takes some tenths of a second, so
    make it before the call, or in a thread. A speaker that is unplugged, or fails, is opened again every 2 s; meanwhile
    nothing is heard, and the call goes on. At most 120 ms of sound wait here.

    Args:
        device: a number or name from `list_devices`, a part of a name, or None for the default.
        on_level: called every 20 ms with the `Level` of what is heard. One that raises is not called again.
        clock: seconds, monotonic.

    Attributes:
        underruns: how often the device had to play silence because nothing was there.

    Raises:
        DeviceMissing: there is none, or none of that name.
        DeviceForbidden: it may not be used.
        DeviceFailed: it cannot be opened.
        ConfigError: several devices have that name.
        ExtraMissing, PortAudioMissing: the extra `audio`, or the library that it needs, is not installed.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        on_level: Callable[[Level], object] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.underruns = 0
        self._meter = Meter(on_level)
        self._clock = clock
        self._drift = Drift(KEPT)
        self._stretcher = Stretcher()
        self._before = SILENCE
        self._time = 0  # samples written
        self._stream = DeviceStream(device, records=False, prepare=self._prepare, on_block=self._fill, clock=clock)

    @property
    def error(self) -> RelaycallError | None:
        """Why nothing is heard at the moment; None while it works."""
        return self._stream.error

    @property
    def name(self) -> str:
        """What the system calls it."""
        return self._stream.name

    @property
    def waiting_ms(self) -> float:
        """Sound that waits here, beside what the device holds."""
        return self._ring.fill / self._second * 1000

    def write(self, frame: AudioFrame) -> None:
        """Play 20 ms: 16-bit, mono, 48 kHz."""
        pcm = bytes(frame.planes[0])[: 2 * frame.samples]
        self._meter.tell(pcm)
        if not self._stream.tick(self._clock()):
            return
        if self._playing:
            self._drift.read(self._ring.low() * SAMPLE_RATE // self._second)
        else:
            self._drift.reset()
        fitted = self._stretcher.fit(pcm, self._before, self._drift.surplus, self._time)
        self._drift.surplus += (len(fitted) - len(pcm)) // 2
        self._before = pcm
        self._time += FRAME_SAMPLES
        if fitted:
            self._ring.put(self._converted(fitted))

    def close(self) -> None:
        """Release the device, soon. Idempotent."""
        self._stream.close()

    def _converted(self, pcm: bytes) -> bytes:
        if self._resampler is None:
            return pcm
        frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.planes[0].update(pcm)
        frame.sample_rate = SAMPLE_RATE
        size = 2 * self._format.channels
        return b"".join(bytes(one.planes[0])[: size * one.samples] for one in self._resampler.resample(frame))

    # --- in threads of PortAudio --------------------------------------------------------------------------------------

    def _prepare(self, chosen: Format) -> None:
        self._format = chosen
        self._second = 2 * chosen.rate * chosen.channels  # bytes
        self._ring = SoundRing(_bytes(chosen, CAPACITY_MS))
        self._begin = _bytes(chosen, BEGIN_MS)
        self._playing = False
        layout = "mono" if chosen.channels == 1 else "stereo"
        same = chosen == Format(SAMPLE_RATE, 1)
        self._resampler = None if same else AudioResampler("s16", layout, chosen.rate)

    def _fill(self, room: Any) -> None:
        size = len(room)
        if not self._playing and self._ring.fill >= self._begin:
            self._playing = True
        data = self._ring.take(size) if self._playing else b""
        if self._playing and len(data) < size:
            self._playing = False
            self.underruns += 1
        room[:] = data.ljust(size, b"\0")


def _bytes(chosen: Format, milliseconds: int) -> int:
    """So much sound, in whole samples of all channels."""
    return chosen.rate * milliseconds // 1000 * 2 * chosen.channels
