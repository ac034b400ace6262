"""A microphone, as the source of a call. Takes the extra `audio`."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from av import AudioFrame, AudioResampler

from relaycall.errors import RelaycallError
from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE, SILENCE
from relaycall.media.devices.level import Level, Meter
from relaycall.media.devices.ring import Drift, SoundRing
from relaycall.media.devices.stream import DeviceStream, Format
from relaycall.media.stretch import ABOVE, Stretcher

CAPACITY = 5 * FRAME_BYTES  # 100 ms
KEPT = FRAME_SAMPLES // 2  # samples that should wait at least: the device gives 10 ms at once


class Microphone:
    """What a microphone records, from 48 kHz mono or whatever it has. An `AudioSource`.

    Opens the device when it is made, within 3 s; the first time in a program that takes some tenths of a second, so
    make it before the call, or in a thread. A microphone that is unplugged, or fails, gives silence; it is opened again
    every 2 s, and the call goes on. What is not read within 100 ms is gone.

    Args:
        device: a number or name from `list_devices`, a part of a name, or None for the default.
        on_level: called every 20 ms with the `Level` of what is sent. One that raises is not called again.
        clock: seconds, monotonic.

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
        self._meter = Meter(on_level)
        self._clock = clock
        self._ring = SoundRing(CAPACITY)
        self._drift = Drift(KEPT)
        self._stretcher = Stretcher()
        self._resampler: AudioResampler | None = None
        self._format = Format(SAMPLE_RATE, 1)
        self._rest = b""  # taken from the ring, not yet read
        self._before = SILENCE
        self._reads = 0
        self._stream = DeviceStream(device, records=True, prepare=self._prepare, on_block=self._recorded, clock=clock)

    @property
    def error(self) -> RelaycallError | None:
        """Why it gives silence at the moment; None while it works."""
        return self._stream.error

    @property
    def name(self) -> str:
        """What the system calls it."""
        return self._stream.name

    def read(self) -> bytes | None:
        """The next 20 ms. Silence while there is nothing."""
        works = self._stream.tick(self._clock())
        if not self._reads:
            self._ring.keep(FRAME_BYTES)  # what was recorded before the call
        self._reads += 1
        pcm = self._next()
        if not works:
            self._drift.reset()
        self._meter.tell(pcm)
        return pcm

    def close(self) -> None:
        """Release the device, soon. Idempotent."""
        self._stream.close()

    def _next(self) -> bytes:
        surplus = self._drift.surplus
        pcm = self._rest + self._ring.take(FRAME_BYTES * (1 + (surplus > ABOVE)) - len(self._rest))
        if surplus > ABOVE and len(pcm) >= 2 * FRAME_BYTES:
            fitted = self._stretcher.fit(pcm, self._before, surplus, self._reads * FRAME_SAMPLES)
            self._drift.surplus -= (len(pcm) - len(fitted)) // 2
            pcm = fitted
        if len(pcm) < FRAME_BYTES:
            self._rest = pcm
            return SILENCE
        self._before, self._rest = pcm[:FRAME_BYTES], pcm[FRAME_BYTES:]
        self._drift.read((self._ring.fill + len(self._rest)) // 2)
        return self._before

    # --- in threads of PortAudio --------------------------------------------------------------------------------------

    def _prepare(self, chosen: Format) -> None:
        self._format = chosen
        same = chosen == Format(SAMPLE_RATE, 1)
        self._resampler = None if same else AudioResampler("s16", "mono", SAMPLE_RATE)

    def _recorded(self, data: Any) -> None:
        pcm = bytes(data)
        if self._resampler is None:
            self._ring.put(pcm)
            return
        layout = "mono" if self._format.channels == 1 else "stereo"
        frame = AudioFrame(format="s16", layout=layout, samples=len(pcm) // (2 * self._format.channels))
        frame.planes[0].update(pcm)
        frame.sample_rate = self._format.rate
        for mono in self._resampler.resample(frame):
            self._ring.put(bytes(mono.planes[0])[: 2 * mono.samples])
