"""A sound system without devices of its own: `sounddevice`, as far as relaycall uses it, whose streams are run by hand.

system = SoundSystem(monkeypatch)
microphone = Microphone()
system.stream.give(bytes(960))
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from relaycall.media.devices.portaudio import CALLS

BAD_RATE, BAD_CHANNELS, NOT_THERE, HOST_ERROR = -9997, -9998, -9996, -9999


class PortAudioError(Exception):
    pass


class _StreamBase:
    """A stream, open and running, or not."""

    system: SoundSystem

    def __init__(self, **options: Any) -> None:
        self.closed = False
        self.options = options
        self.rate, self.channels = options["samplerate"], options["channels"]
        self._system = self.system
        code = self._system.refuses(self.rate, self.channels)
        if code:
            raise PortAudioError("refused", code, *self._system.host_error)
        self._samplerate = self.rate
        self._system.streams.append(self)

    def start(self) -> None:
        self.running = True

    def abort(self, ignore_errors: bool = False) -> None:
        self._system.may_go_on.wait()
        if self.running:
            self.end()

    def close(self, ignore_errors: bool = False) -> None:
        self.closed = True

    def end(self) -> None:
        """It ends by itself, as when the device is pulled out."""
        self.running = False
        self.options["finished_callback"]()

    def give(self, pcm: bytes) -> None:
        """The device has recorded something."""
        self.options["callback"](memoryview(pcm), len(pcm) // 2, None, None)

    def take(self, frames: int) -> bytes:
        """The device needs something to play."""
        room = bytearray(2 * frames * self.channels)
        self.options["callback"](memoryview(room), frames, None, None)
        return bytes(room)


class _Input(_StreamBase):
    def go_on(self) -> None:
        """10 ms pass."""
        self.give(bytes(960))


class _Output(_StreamBase):
    def go_on(self) -> None:
        """10 ms pass."""
        self.take(480)


class SoundSystem:
    """In place of the module `sounddevice` until the test is over.

    Attributes:
        devices: name, inputs, outputs and rate of each, and the host's number.
        default: numbers of the default microphone and speaker.
        formats: rate and channels that devices take; None for any.
        streams: all that were opened.
        initialized: how often PortAudio was.
        may_go_on: cleared, closing a stream hangs.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices = [("Built-in", 2, 2, 48000.0, 0), ("USB Headset", 1, 2, 44100.0, 0)]
        self.hosts = ["ALSA", "OSS"]
        self.default = [0, 0]
        self.formats: list[tuple[int, int]] | None = None
        self.code = 0
        self.host_error: tuple[object, ...] = ()
        self.streams: list[Any] = []
        self.initialized = 1
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        module: Any = ModuleType("sounddevice")
        _StreamBase.system = self
        module.PortAudioError, module.CallbackAbort = PortAudioError, RuntimeError
        module._StreamBase, module.RawInputStream, module.RawOutputStream = _StreamBase, _Input, _Output
        module.query_hostapis = lambda: [{"name": name} for name in self.hosts]
        module.query_devices = self._query
        module.default = SimpleNamespace(device=self.default)
        module._initialize, module._terminate = self._initialize, lambda: None
        module._exit_handler, module._libname = lambda: None, None
        monkeypatch.setitem(sys.modules, "sounddevice", module)

    @property
    def stream(self) -> Any:
        """The latest."""
        return self.streams[-1]

    def refuses(self, rate: int, channels: int) -> int:
        if self.formats is not None and (rate, channels) not in self.formats:
            return BAD_CHANNELS if rate in (one for one, _ in self.formats) else BAD_RATE
        return self.code

    def settle(self) -> None:
        """Wait until all that was asked of PortAudio is done."""
        assert CALLS.rest(5)

    def _initialize(self) -> None:
        self.initialized += 1

    def _query(self) -> list[dict[str, Any]]:
        names = ("name", "max_input_channels", "max_output_channels", "default_samplerate", "hostapi")
        return [dict(zip(names, one, strict=True)) for one in self.devices]
