"""Which devices there are, and what is said when there are none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relaycall.errors import (
    ConfigError,
    DeviceFailed,
    DeviceForbidden,
    DeviceMissing,
    ExtraMissing,
    PortAudioMissing,
    RelaycallError,
)
from relaycall.media.devices import listing, portaudio
from relaycall.media.devices.listing import AudioDevice, choose, list_devices
from relaycall.media.devices.microphone import Microphone
from relaycall.media.devices.portaudio import Calls
from relaycall.media.devices.speaker import Speaker
from tests.media.devices.sound_system import HOST_ERROR, NOT_THERE, SoundSystem


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SoundSystem:
    return SoundSystem(monkeypatch)


def device(
    name: str, index: int, inputs: int = 1, outputs: int = 1, host: str = "ALSA", default: bool = False
) -> AudioDevice:
    return AudioDevice(name, index, inputs, outputs, default, default, 48000.0, host)


DEVICES = [
    device("Built-in Audio", 0, default=True),
    device("USB Headset", 1),
    device("USB Headset Mono", 2),
    device("Screen", 3, inputs=0),
    device("USB Headset", 4, host="OSS"),
    device("Radio", 5, host="OSS"),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 0), (0, 0), (4, 4), ("usb headset", 1), ("mono", 2), ("HEADSET MONO", 2), ("built", 0), ("radio", 5)],
)
def test_one_is_chosen(wanted: str | int | None, index: int) -> None:
    assert choose(DEVICES, wanted, records=True).index == index


def test_an_ambiguous_name_lists_those_that_have_it() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(DEVICES, "usb", records=True)
    assert "1 (USB Headset, ALSA), 2 (USB Headset Mono, ALSA)" in caught.value.sentence
    assert "4" not in caught.value.sentence
    many = [device(f"x{number}", number) for number in range(500)]
    with pytest.raises(ConfigError) as caught:
        choose(many, "x", records=True)
    assert len(caught.value.sentence) < 500


@pytest.mark.parametrize("wanted", [3, 77, "nothing like it", "screen"])
def test_there_is_no_such_microphone(wanted: str | int) -> None:
    with pytest.raises(DeviceMissing) as caught:
        choose(DEVICES, wanted, records=True)
    assert caught.value.exit_code == 6
    assert "relaycall devices" in caught.value.next_step


def test_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portaudio, "SOUND_FILES", tmp_path / "snd")
    with pytest.raises(DeviceMissing, match="There is no speaker"):
        choose([device("Mic", 0, outputs=0, default=True)], None, records=False)
    with pytest.raises(DeviceMissing, match="default"):
        choose([device("Mic", 0)], None, records=True)
    (tmp_path / "snd").mkdir()
    (tmp_path / "snd" / "pcmC0D0c").touch()
    with pytest.raises(DeviceMissing, match="There is no microphone"):
        choose([], None, records=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DeviceForbidden, match="group audio"):
        choose([], None, records=True)


def test_they_are_listed(system: SoundSystem) -> None:
    system.devices.append(("Bell\x07\u202e\n", 0, 1, 8000.0, 1))
    system.default[1] = 1
    found = list_devices()
    assert found[1] == AudioDevice("USB Headset", 1, 1, 2, False, True, 44100.0, "ALSA")
    assert found[2] == AudioDevice("Bell???", 2, 0, 1, False, False, 8000.0, "OSS")
    assert system.initialized == 2  # anew


def test_those_in_use_are_not_ended_by_listing(system: SoundSystem) -> None:
    microphone = Microphone()
    list_devices()
    assert system.initialized == 1
    microphone.close()
    list_devices()
    assert system.initialized == 2


def test_a_stream_that_could_not_be_opened_does_not_count(system: SoundSystem) -> None:
    system.code = -1
    kept = []  # as long as the error is kept, so is the stream
    try:
        sys.modules["sounddevice"].RawInputStream(samplerate=48000, channels=1)
    except Exception as error:
        kept.append(error)
    list_devices()
    assert system.initialized == 2


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for use in (list_devices, Microphone, Speaker):
        with pytest.raises(ExtraMissing, match=r"relaycall\[audio\]") as caught:
            use()
        assert caught.value.__context__ is None


def test_without_portaudio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for use in (list_devices, Microphone, Speaker):
        with pytest.raises(PortAudioMissing, match="apt install libportaudio2"):
            use()


@pytest.mark.parametrize(
    ("code", "host_error", "error"),
    [
        (-9985, (), DeviceFailed),
        (NOT_THERE, (), DeviceMissing),
        (HOST_ERROR, ((8, -13, "Permission denied, canary"),), DeviceForbidden),
        (HOST_ERROR, ((8, -16, "canary"),), DeviceFailed),
        (HOST_ERROR, ("canary",), DeviceFailed),
        (-1, (), DeviceFailed),
    ],
)
def test_each_failure_to_open_is_told(
    system: SoundSystem, code: int, host_error: tuple[object, ...], error: type[RelaycallError]
) -> None:
    system.code, system.host_error = code, host_error
    for use in (Microphone, Speaker):
        with pytest.raises(error) as caught:
            use()
        assert type(caught.value) is error
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None
        assert caught.value.exit_code == 6
    assert [stream for stream in system.streams if not stream.closed] == []


def test_a_sound_system_that_fails_in_other_ways(system: SoundSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise UnicodeDecodeError("utf-8", b"canary", 0, 1, "canary")

    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", broken)
    for use in (list_devices, Microphone):
        with pytest.raises(DeviceFailed) as caught:
            use()
        assert "canary" not in str(caught.value)


def test_a_sound_system_that_does_not_answer(system: SoundSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    held, calls = threading.Event(), Calls()
    begun = time.monotonic()
    with pytest.raises(DeviceFailed, match="not answered"):
        calls.answer(held.wait, 0.05)
    made: list[int] = []
    for number in range(3):  # the thread is busy: they wait behind, and are not made
        with pytest.raises(DeviceFailed, match="not answered"):
            calls.answer(lambda number=number: made.append(number), 0.05)  # type: ignore[misc]
    assert time.monotonic() - begun < 5
    assert not calls.rest(0.01)
    assert len(calls._calls) == 0
    assert sum(thread.name == "relaycall-portaudio" for thread in threading.enumerate()) == 1
    held.set()
    assert calls.rest(5)
    assert made == []
    assert calls.answer(lambda: 7, 5) == 7
    assert calls.rest(5)


def test_what_a_call_raises_is_raised() -> None:
    calls = Calls()
    with pytest.raises(ZeroDivisionError):
        calls.answer(lambda: 1 // 0, 5)
    assert calls.rest(5)


def test_a_device_that_comes_too_late_is_closed(system: SoundSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    slow = system._query
    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", lambda: (go_on.wait(), slow())[1])
    monkeypatch.setattr("relaycall.media.devices.stream.ANSWER_SECONDS", 0.05)
    with pytest.raises(DeviceFailed, match="not answered"):
        Microphone()
    go_on.set()
    system.settle()
    assert all(stream.closed for stream in system.streams)


@pytest.mark.slow
def test_sounddevice_is_loaded_when_it_is_used_and_not_before() -> None:
    code = "import relaycall.cli, sys; from relaycall import Microphone; sys.exit('sounddevice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_index_becomes_a_name_since_numbers_change(system: SoundSystem) -> None:
    now = [0.0]
    microphone = Microphone(1, clock=lambda: now[0])
    assert microphone.name == "USB Headset"
    system.stream.end()
    system.devices.insert(0, ("New", 1, 1, 48000.0, 0))
    for now[0] in (1.0, 4.0):
        microphone.read()
        system.settle()
    microphone.read()
    assert microphone.error is None
    assert system.stream.options["device"] == 2
    microphone.close()
    assert listing.found_by(sys.modules["sounddevice"])[2].name == "USB Headset"
