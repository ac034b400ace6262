"""Microphone and speaker of a real sound server, in processes of their own: ALSA reads its configuration once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sound_server import SoundServer, require_sounddevice

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
USER = """
import json, sys, threading, time
from array import array
from relaycall.media.audio import SILENCE, ToneSource, pcm_frame
from relaycall.media.devices.microphone import Microphone
from relaycall.media.devices.speaker import Speaker

def say(**what):
    print(json.dumps(what), flush=True)

def rises(pcm):
    samples = array("h", pcm)
    return sum(samples[n - 1] < 0 <= samples[n] for n in range(1, len(samples)))

levels, late, told = [], 0.0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
microphone, speaker = Microphone(sys.argv[1], on_level=levels.append), Speaker(sys.argv[1])
tone, heard, start = ToneSource(440), bytearray(), time.monotonic()
for number in range(3000):
    if told.is_set():
        break
    time.sleep(max(0, start + number * 0.02 - time.monotonic()))
    begun = time.monotonic()
    heard += microphone.read()
    speaker.write(pcm_frame(tone.read(), number * 960))
    late = max(late, time.monotonic() - begun)
    if number % 25 == 24:
        errors = [device.error.code if device.error else None for device in (microphone, speaker)]
        say(errors=errors, waiting_ms=speaker.waiting_ms, rises=rises(heard[-96000:]))
begun = time.monotonic()
if "leave" not in sys.argv:
    microphone.close()
    speaker.close()
say(late=late, close=time.monotonic() - begun, threads=threading.active_count())
"""


@pytest.fixture
def server() -> Iterator[SoundServer]:
    require_sounddevice()
    with SoundServer() as server:
        yield server


class User:
    """A program that plays a tone and records what its microphone hears."""

    def __init__(self, server: SoundServer, device: str, *more: str) -> None:
        command = [sys.executable, "-W", "error", "-c", USER, device, *more]
        env = {**os.environ, **server.env, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._last = ""

    def wait_for(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What it says next of which this is true. It runs for a minute at most."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last = line
            said: dict[str, Any] = json.loads(self._last)
            if what(said):
                return said
        raise AssertionError(f"it never said that; the last was {self._last}")

    def end(self) -> tuple[int, dict[str, Any]]:
        """Have it end. The exit code, and what it says about that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            said = self.wait_for(lambda said: "close" in said)
            return self._process.wait(20), said
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


def works(said: dict[str, Any]) -> bool:
    """A whole second of 440 Hz: on a machine that does other things, not every one is."""
    return said["errors"] == [None, None] and 436 <= said["rises"] <= 444


def fails(said: dict[str, Any]) -> bool:
    return said["errors"] == ["device_failed", "device_failed"]


@pytest.mark.parametrize("device", ["room", "default"])
def test_a_tone_goes_out_and_comes_back(server: SoundServer, device: str) -> None:
    user = User(server, device)
    said = user.wait_for(works)
    assert said["waiting_ms"] <= 120
    code, said = user.end()
    assert code == 0
    assert said["late"] < 1
    assert said["close"] < 0.5


def test_a_sound_server_that_crashes_and_comes_back(server: SoundServer) -> None:
    user = User(server, "room")
    user.wait_for(works)
    server.kill()
    user.wait_for(fails)
    server.start()
    user.wait_for(works)
    assert user.end()[0] == 0


def test_a_sound_server_that_hangs(server: SoundServer) -> None:
    """Nothing waits for it: not reading, not writing, not closing, and not the end of the program."""
    user = User(server, "room")
    user.wait_for(works)
    server.signal(signal.SIGSTOP)
    user.wait_for(fails)
    begun = time.monotonic()
    code, said = user.end()
    assert code == 0
    assert time.monotonic() - begun < 10
    assert said["late"] < 1
    assert said["close"] < 0.5


def test_a_program_that_closes_nothing_ends(server: SoundServer) -> None:
    user = User(server, "room", "leave")
    user.wait_for(works)
    assert user.end()[0] == 0
