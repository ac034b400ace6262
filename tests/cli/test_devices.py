"""`relaycall devices`, and calls with a microphone and a speaker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from relaycall.cli import call_sound, devices
from relaycall.cli.call_sound import ECHO, CallSound
from relaycall.cli.meter import Reading
from relaycall.errors import DeviceMissing, MediaError, RelaycallError
from relaycall.media.audio import SilenceSource, pcm_frame
from relaycall.media.devices import portaudio
from relaycall.media.devices.level import Level
from relaycall.media.files import FileSink, FileSource
from tests.cli.conftest import Command
from tests.cli.people import Between, Person, introduce
from tests.cli.test_call import accepting, events, loudness
from tests.media.devices.sound_system import SoundSystem
from tests.sound_server import SoundServer, require_sounddevice

ROOT = Path(__file__).parents[2]
Calls = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SoundSystem:
    monkeypatch.setattr(portaudio, "SOUND_FILES", tmp_path / "none")
    return SoundSystem(monkeypatch)


@pytest.fixture
def calls(command: Command, alice: Person, bob: Person, between: Between) -> Calls:
    """Alice calls Bob."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    return lambda *arguments: command("call", "bob", *between.relays, *arguments, env=alice.env)


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_they_are_listed(command: Command, system: SoundSystem) -> None:
    system.devices += [("Screen \x1b[2J", 0, 2, 48000.0, 0), ("Bus", 0, 0, 48000.0, 1)]
    done = command("devices")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "  0  Built-in, ALSA: microphone (default) and speaker (default)",
        "  1  USB Headset, ALSA: microphone and speaker",
        "  2  Screen ?[2J, ALSA: speaker",
        "  3  Bus, OSS: neither microphone nor speaker",
    ]
    first = json.loads(command("devices", "--json").stdout.splitlines()[0])
    assert first == {
        "name": "Built-in",
        "index": 0,
        "inputs": 2,
        "outputs": 2,
        "host": "ALSA",
        "sample_rate": 48000.0,
        "default_input": True,
        "default_output": True,
    }


def test_there_are_none(command: Command, system: SoundSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system.devices.clear()
    done = command("devices")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("error: There is no sound device.\n       Connect one")
    assert json.loads(command("devices", "--json").stdout)["code"] == "device_missing"
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = command("devices")
    assert done.returncode == 2
    assert "pip install 'relaycall[audio]'" in done.stderr


def test_a_test_of_what_is_silent_and_of_what_is_not_there(
    command: Command, system: SoundSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SECONDS", 0.1)
    done = command("devices", "--test")
    assert done.returncode == 6
    assert "gives silence only" in done.stderr
    assert "a tone was played" in done.stderr
    system.default[0] = -1
    done = command("devices", "--test", "--json")
    assert done.returncode == 6
    assert [json.loads(line).get("code") for line in done.stdout.splitlines()[2:]] == [None, "device_missing"]
    system.settle()
    assert all(stream.closed for stream in system.streams)


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--audio", "mic:nothing like it"], 6, "There is no microphone nothing like it."),
        (["--play", "nothing like it"], 6, "There is no speaker nothing like it."),
        (["--audio", "mic:7"], 6, "There is no microphone 7."),
        (["--audio", "mic:u"], 2, "Several devices are called u: 0 (Built-in, ALSA), 1 (USB Headset, ALSA)."),
    ],
)
def test_a_device_that_is_not_there_is_told_before_anything_is_opened(
    command: Command, system: SoundSystem, alice: Person, arguments: list[str], code: int, text: str
) -> None:
    done = command("call", "bob", *arguments, env=alice.env)
    assert done.returncode == code
    assert text in done.stderr
    assert system.streams == []


@pytest.mark.slow
def test_a_call_with_both_that_is_recorded_too(
    calls: Calls, bob: Person, between: Between, system: SoundSystem, tmp_path: Path
) -> None:
    """The microphone is unplugged on the way: it is told once, and the call goes on."""
    taken = accepting(between, between.phone(bob))
    over = threading.Event()
    played = bytearray()

    def devices_run() -> None:
        unplugged = 0
        while not over.wait(0.02):
            for stream in [one for one in system.streams if not one.closed]:
                if type(stream).__name__ == "_Output":
                    played.extend(stream.take(960))
                elif any(played) and not unplugged:
                    stream.end()
                    unplugged += 1

    thread = threading.Thread(target=devices_run)
    thread.start()
    try:
        done = calls("--audio", "mic", "--record", tmp_path / "heard.wav", "--seconds", "2.5", "--json", "--play")
    finally:
        over.set()
        thread.join()
    assert done.returncode == 0, done.stdout
    assert taken.result(10) == "peer_hung_up"
    assert loudness(tmp_path / "heard.wav") > 500
    assert max(played) > 0
    assert [(one["works"], one["code"]) for one in events(done, "microphone")][:1] == [(False, "device_failed")]
    assert "until it is back" in events(done, "microphone")[0]["sentence"]
    assert events(done, "speaker") == []
    assert [one["microphone_db"] for one in events(done, "stats") if one["state"] == "connected"][-1] == -96
    system.settle()
    assert all(stream.closed for stream in system.streams)


def test_the_level_is_in_the_line() -> None:
    assert "| mic -23 dB" in Reading("connected", microphone_db=-23.4).text()
    assert "mic" not in Reading("connected").text()


# --- the sound of a call ----------------------------------------------------------------------------------------------


def test_what_cannot_be_opened_is_left_out_if_so_wished(system: SoundSystem, tmp_path: Path) -> None:
    failed: list[RelaycallError] = []
    sound = CallSound("mic:nobody", tmp_path / "no" / "heard.wav", "nowhere", failed.append)
    assert [type(error) for error in failed] == [DeviceMissing, MediaError, DeviceMissing]
    assert isinstance(sound.source, SilenceSource)
    assert sound.sink is None
    assert list(sound.news()) == []
    sound.close()


def test_one_that_fails_closes_the_others(system: SoundSystem, tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing):
        CallSound("mic", tmp_path / "heard.wav", "nowhere")
    system.settle()
    assert all(stream.closed for stream in system.streams)
    assert (tmp_path / "heard.wav").stat().st_size == 44


def test_devices_by_number_or_name(system: SoundSystem) -> None:
    for name, index in (("", 0), ("1", 1), ("headset", 1)):
        with CallSound(f"mic:{name}", None, name):
            assert [stream.options["device"] for stream in system.streams[-2:]] == [index] * 2


def test_news_are_told_once(system: SoundSystem) -> None:
    with CallSound("mic", None, "") as sound:
        assert list(sound.news()) == []
        microphone, speaker = system.streams
        speaker.end()
        sound.sink.write(pcm_frame(bytes(1920), 0))  # type: ignore[union-attr]
        (told,) = sound.news()
        assert told.event == "speaker"
        assert told.sentence == "The speaker has stopped working. You hear nothing until it is back."
        assert told.data == {"works": False, "code": "device_failed"}
        assert list(sound.news()) == []
        sound._speaker._stream.error = None  # type: ignore[union-attr]
        assert [told.sentence for told in sound.news()] == ["The speaker is back."]
        assert list(sound.news()) == []
        sound._echo.found = True
        assert [told.sentence for told in sound.news()] == [ECHO]
        assert list(sound.news()) == []
        assert not microphone.closed


def test_the_loudest_since_it_was_asked(system: SoundSystem) -> None:
    with CallSound("mic", None, None) as sound:
        assert sound.loudest() is None
        for peak in (-30.0, -20.0, -40.0):
            sound._recorded(Level(peak, peak - 3))
        assert sound.loudest() == -20
        assert sound.loudest() is None
        assert call_sound._device("12") == 12


# --- what libraries write ---------------------------------------------------------------------------------------------

NOISE = """
import logging, os, sys, click
from relaycall.cli.quiet import quiet_libraries
if "verbose" in sys.argv:
    logging.basicConfig(level=logging.INFO)
os.write(2, b"before ")
with quiet_libraries():
    os.write(2, b"noise ")
    sys.stderr.write("ours ")
    click.echo("clicked ", err=True, nl=False)
os.write(2, b"after ")
sys.stderr.write("end")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "written"), [("", "before ours clicked after end"), ("verbose", "before noise ours clicked after end")]
)
def test_noise_goes_nowhere_and_what_we_say_does_not(more: str, written: str) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", NOISE, more], capture_output=True, env=env, check=True)
    assert done.stderr.decode() == written


# --- with a sound server ----------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Any:
    require_sounddevice()
    with SoundServer() as server:
        yield server


@pytest.mark.interop
@pytest.mark.slow
def test_the_verb_with_a_sound_server(server: SoundServer) -> None:
    command = [sys.executable, "-W", "error", "-m", "relaycall", "devices", "--test", "--json"]
    done = subprocess.run(command, env={**os.environ, **server.env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"room", "default"} <= {one.get("name") for one in entries}
    assert [one["peak_db"] for one in entries if one.get("event") == "microphone_test"] == [pytest.approx(-12, abs=1)]


class Repeated:
    """A sound file over and over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = FileSource(path)

    def read(self) -> bytes | None:
        pcm = self._source.read()
        if pcm is None:
            self._source.close()
            self._source = FileSource(self._path)
            pcm = self._source.read()
        return pcm

    def close(self) -> None:
        self._source.close()


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_call_whose_speaker_is_heard_by_its_microphone(
    alice: Person, bob: Person, between: Between, server: SoundServer, tmp_path: Path
) -> None:
    """Bob speaks, and records himself: out of Alice's speaker, into her microphone, and back.

    She is told of the echo, of the sound server that crashes, and that it is back.
    """
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    phone = between.phone(bob)

    async def answered() -> str:
        async for ring in phone.incoming():
            call = ring.accept(audio=Repeated(ROOT / "examples" / "speech.ogg"), sink=FileSink(tmp_path / "bob.wav"))
            return (await call.ended()).reason
        return "closed"

    taken: Future[str] = between.start(answered())
    command = [sys.executable, "-W", "error", "-m", "relaycall", "call", "bob", *between.relays, "--json"]
    command += ["--audio", "mic:room", "--play=room", "--record", str(tmp_path / "alice.wav")]
    env = {**alice.env, **server.env, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told: list[dict[str, Any]] = []

    def wait_for(event: str, **wanted: Any) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == event and all(told[-1][name] == value for name, value in wanted.items()):
                return
        raise AssertionError(f"{event} was not told: {told[-3:]}")

    try:
        wait_for("echo")
        server.kill()
        wait_for("microphone", works=False)
        server.start()
        wait_for("microphone", works=True)
        time.sleep(2)
        process.terminate()
        wait_for("ended")
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert taken.result(10) == "peer_hung_up"
    assert loudness(tmp_path / "bob.wav") > 100
    assert loudness(tmp_path / "alice.wav") > 100
    stats = [one for one in told if one["event"] == "stats" and one["state"] == "connected"]
    assert max(one["microphone_db"] for one in stats) > -30
    for device in ("microphone", "speaker"):
        assert [one["works"] for one in told if one["event"] == device] == [False, True]
