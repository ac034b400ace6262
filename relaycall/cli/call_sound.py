"""The sound of a call at the terminal: what it sends, where it goes, and what becomes of the devices on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from relaycall.errors import RelaycallError
from relaycall.media.audio import AudioSink, AudioSource, SilenceSource, ToneSource
from relaycall.media.devices.echo import EchoWatch
from relaycall.media.devices.level import Level
from relaycall.media.devices.microphone import Microphone
from relaycall.media.devices.speaker import Speaker
from relaycall.media.files import FileSink, FileSource
from relaycall.media.several_sinks import SeveralSinks

MICROPHONE = "mic"
ECHO = "They hear themselves: your microphone picks up your speaker. Use a headset."

Failed = Callable[[RelaycallError], object]
T = TypeVar("T", bound=AudioSource | AudioSink)


class Told(NamedTuple):
    """Something to tell: an event, a sentence, and what programs get beside it."""

    event: str
    sentence: str
    data: dict[str, object]


class CallSound:
    """Opens what was asked for. A context manager, which closes it.

    Args:
        audio: "silence", "tone", "mic", "mic:" and a device, or a file.
        record: a file to record into, or None.
        play: a device to play on, "" for the default, or None.
        failed: called with the error of what cannot be opened, which is then left out; otherwise it is raised.
        also: another place for what is heard, or None.

    Attributes:
        source: what the call sends.
        sink: where what is heard goes, if anywhere.
        recording: the file.

    Raises:
        MediaError, ConfigError: something cannot be opened. The rest is closed.
    """

    def __init__(
        self,
        audio: str,
        record: Path | None,
        play: str | None,
        failed: Failed | None = None,
        also: AudioSink | None = None,
    ) -> None:
        self.sink: AudioSink | None = None
        self.recording: FileSink | None = None
        self._microphone: Microphone | None = None
        self._speaker: Speaker | None = None
        self._echo = EchoWatch()
        self._loudest: float | None = None
        self._failed: dict[str, bool] = {}
        self._told_echo = False
        with contextlib.ExitStack() as stack:
            self.source = _opened(stack, lambda: self._source_of(audio), failed) or SilenceSource()
            if record is not None:
                self.recording = _opened(stack, lambda: FileSink(record), failed)
            if play is not None:
                self._speaker = _opened(stack, lambda: Speaker(_device(play), on_level=self._echo.played), failed)
            stack.pop_all()
        sinks: list[AudioSink] = [sink for sink in (self.recording, self._speaker, also) if sink is not None]
        self.sink = SeveralSinks(*sinks) if len(sinks) > 1 else sinks[0] if sinks else None

    def __enter__(self) -> CallSound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all of it. Idempotent."""
        self.source.close()
        if self.sink is not None:
            self.sink.close()

    def loudest(self) -> float | None:
        """The peak of the microphone in dB since this was asked last; None without one."""
        loudest, self._loudest = self._loudest, None
        return loudest

    def news(self) -> Iterator[Told]:
        """What has become of the devices since this was asked last."""
        if self._microphone is not None:
            yield from self._changes("microphone", self._microphone.error, "You send silence until it is back.")
        if self._speaker is not None:
            yield from self._changes("speaker", self._speaker.error, "You hear nothing until it is back.")
        if self._microphone is not None and self._speaker is not None and self._echo.found and not self._told_echo:
            self._told_echo = True
            yield Told("echo", ECHO, {})

    def _changes(self, device: str, error: RelaycallError | None, meanwhile: str) -> Iterator[Told]:
        failed = error is not None
        if failed != self._failed.get(device, False):
            self._failed[device] = failed
            text = f"{error.sentence} {meanwhile}" if error is not None else f"The {device} is back."
            yield Told(device, text, {"works": not failed, "code": error.code if error is not None else None})

    def _source_of(self, audio: str) -> AudioSource:
        if audio == "silence":
            return SilenceSource()
        if audio == "tone":
            return ToneSource()
        kind, _, name = audio.partition(":")
        if kind != MICROPHONE:
            return FileSource(audio)
        self._microphone = Microphone(_device(name), on_level=self._recorded)
        return self._microphone

    def _recorded(self, level: Level) -> None:
        self._loudest = max(level.peak_db, self._loudest if self._loudest is not None else level.peak_db)
        self._echo.recorded(level)


def _opened(stack: contextlib.ExitStack, make: Callable[[], T], failed: Failed | None) -> T | None:
    """What is made, to be closed with the stack; None if it failed."""
    try:
        return stack.enter_context(contextlib.closing(make()))
    except RelaycallError as error:
        if failed is None:
            raise
        failed(error)
        return None


def _device(name: str) -> str | int | None:
    return int(name) if name.isdecimal() else name or None
