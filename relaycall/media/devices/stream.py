"""The stream of a microphone or speaker, through unplugging and plugging in again.

It is opened when it is made, and that fails at once if it cannot be. From then on `tick` says whether it still works. A
stream that ends by itself, or from which nothing has come for two seconds, is lost: it is closed, and two seconds later
the device is opened again, and so on until it is there or we have enough. The default device is whatever is the default
by then; a device that was named is looked for by its name.

Everything that may block is done by the thread of `portaudio`; `tick` only looks whether that is done.

    state     what happens               then
    open      ends, or is silent         lost      the reason is kept, it is closed
    lost      two seconds have passed    opening   it is opened again
    opening   it works                   open      the reason is forgotten
    opening   it fails                   lost      this is the reason now
    any       close                      closed    whatever is open, or comes open, is closed
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, NamedTuple

from relaycall.errors import DeviceFailed, RelaycallError
from relaycall.media.audio import SAMPLE_RATE
from relaycall.media.devices import listing
from relaycall.media.devices.portaudio import ANSWER_SECONDS, CALLS, device_error, load, refresh, refuses_format

BLOCK_SECONDS = 0.01  # of sound that a device gives or takes at once
LATENCY = 0.03  # seconds of sound within the device
FIRST_SECONDS = 5.0  # until a device that was opened has to give or take the first
SILENT_SECONDS = 2.0  # and then from one block to the next
RETRY_SECONDS = 2.0


class StreamState(enum.Enum):
    """Where a stream stands; the table is above."""

    OPEN = enum.auto()
    LOST = enum.auto()
    OPENING = enum.auto()
    CLOSED = enum.auto()


class Format(NamedTuple):
    """What a device takes or gives: 16-bit samples, of so many channels one after the other, in native byte order."""

    rate: int
    channels: int


class _Opened:
    """A stream of PortAudio. Both times are set by its own thread."""

    def __init__(self, now: float) -> None:
        self.stream: Any = None
        self.begun = now
        self.latest: float | None = None  # block
        self.ended = False

    def overdue(self, now: float) -> bool:
        if self.latest is None:
            return now - self.begun > FIRST_SECONDS
        return now - self.latest > SILENT_SECONDS


class DeviceStream:
    """Opens a device, and keeps it open.

    Args:
        device: an index, a name or a part of one, or None for the default.
        records: a microphone, or a speaker.
        prepare: called with the format, before the first block of each stream.
        on_block: called by a thread of PortAudio with each block: what was recorded, or room to be filled. Returns at
            once.
        clock: seconds, monotonic.

    Attributes:
        state: where it stands.
        error: why it is lost.
        name: of the device that was opened last.

    Raises:
        DeviceMissing, DeviceForbidden, DeviceFailed: it cannot be opened.
        ConfigError: several devices have that name.
        ExtraMissing, PortAudioMissing: what it takes is not installed.
    """

    def __init__(
        self,
        device: str | int | None,
        *,
        records: bool,
        prepare: Callable[[Format], object],
        on_block: Callable[[Any], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.state = StreamState.OPEN
        self.error: RelaycallError | None = None
        self.name = ""
        self._wanted = device
        self._what = "The microphone" if records else "The speaker"
        self._records = records
        self._prepare = prepare
        self._on_block = on_block
        self._clock = clock
        self._opened: _Opened | None = None  # set by the thread of PortAudio's calls alone
        self._opening: Future[None] | None = None
        self._retry = 0.0
        try:
            CALLS.answer(self._open, ANSWER_SECONDS)
        except BaseException:
            self.close()
            raise

    def tick(self, now: float) -> bool:
        """Look how it is. Returns whether it is open. `now`: seconds, on the clock."""
        if self.state is StreamState.OPEN:
            opened = self._opened
            if opened is None or opened.ended or opened.overdue(now):
                self._lose(DeviceFailed(f"{self._what} has stopped working."), now)
                CALLS.submit(self._shut)
        elif self.state is StreamState.LOST and now >= self._retry:
            self.state, self._opening = StreamState.OPENING, CALLS.submit(self._open_again)
        elif self.state is StreamState.OPENING and self._opening is not None and self._opening.done():
            error = self._opening.exception()
            if error is None:
                self.state, self.error = StreamState.OPEN, None
            else:
                self._lose(error if isinstance(error, RelaycallError) else DeviceFailed(), now)
        return self.state is StreamState.OPEN

    def close(self) -> None:
        """Close it soon, without waiting. Idempotent."""
        if self.state is not StreamState.CLOSED:
            self.state = StreamState.CLOSED
            CALLS.submit(self._shut)

    def _lose(self, error: RelaycallError, now: float) -> None:
        self.state, self.error = StreamState.LOST, error
        self._retry = now + RETRY_SECONDS

    # --- in the thread of PortAudio's calls ---------------------------------------------------------------------------

    def _open_again(self) -> None:
        failure: RelaycallError
        try:
            refresh(load())
        except RelaycallError:
            raise
        except Exception:
            failure = DeviceFailed("The sound devices cannot be listed.")
        else:
            return self._open()
        raise failure

    def _open(self) -> None:
        if self.state is StreamState.CLOSED:
            return
        failure: RelaycallError
        try:
            sounddevice = load()
            devices = listing.found_by(sounddevice)
            device = listing.choose(devices, self._wanted, records=self._records)
            if isinstance(self._wanted, int):
                self._wanted = device.name  # numbers change when devices come and go
            self.name = device.name
            self._opened = self._start(sounddevice, device)
            return
        except RelaycallError:
            raise
        except Exception as error:
            failure = device_error(error, self._what)
        raise failure

    def _start(self, sounddevice: Any, device: listing.AudioDevice) -> _Opened:
        """Have it begin, in the first format that it takes: ours, if it can be."""
        channels = min(2, device.inputs if self._records else device.outputs)
        rates = dict.fromkeys((SAMPLE_RATE, round(device.sample_rate)))
        formats = [Format(rate, count) for rate in rates for count in sorted({1, channels})]
        for one in formats:
            opened = _Opened(self._clock())
            try:
                opened.stream = self._stream_of(sounddevice, device, one, opened)
            except sounddevice.PortAudioError as error:
                if one is formats[-1] or not refuses_format(error):
                    raise
            else:
                break
        self._prepare(one)
        try:
            opened.stream.start()
        except BaseException:
            opened.stream.close(ignore_errors=True)
            raise
        return opened

    def _stream_of(self, sounddevice: Any, device: listing.AudioDevice, chosen: Format, opened: _Opened) -> Any:
        def block(data: Any, frames: int, time: Any, status: Any) -> None:
            try:
                opened.latest = self._clock()
                self._on_block(data)
            except Exception:
                opened.ended = True
                raise sounddevice.CallbackAbort from None

        def ended() -> None:
            opened.ended = True

        kind = sounddevice.RawInputStream if self._records else sounddevice.RawOutputStream
        return kind(
            samplerate=chosen.rate,
            blocksize=round(chosen.rate * BLOCK_SECONDS),
            device=device.index,
            channels=chosen.channels,
            dtype="int16",
            latency=LATENCY,
            callback=block,
            finished_callback=ended,
        )

    def _shut(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.stream.abort(ignore_errors=True)
            opened.stream.close(ignore_errors=True)
