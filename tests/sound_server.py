"""A sound server without sound hardware: PulseAudio with a null sink, whose monitor gives back what was played into it.

    with SoundServer() as server:
        run(..., env={**os.environ, **server.env})

It has its own folder and socket, and is ended by its own process id. A program reaches it through ALSA, as PortAudio
does on Linux: the devices `default` and `room` lead to it. ALSA's own null and file devices are of no use here: they
keep no time, and PortAudio calls for sound as fast as the machine can.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

from tests.tools import require_tool

START_TIMEOUT = 15.0  # seconds
_ALSA = """
</usr/share/alsa/alsa.conf>
pcm.room { type pulse hint { show on description "room" } }
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


class SoundServer:
    """One `pulseaudio` process.

    Attributes:
        env: what leads a program to it.
        pid: of the process.
    """

    def __init__(self) -> None:
        self._program = require_tool("pulseaudio")
        self._folder = tempfile.TemporaryDirectory(prefix="relaycall-sound-")
        self._process: subprocess.Popen[bytes] | None = None
        folder = Path(self._folder.name)
        self._socket = folder / "socket"
        (folder / "asound.conf").write_text(_ALSA)
        self.env = {
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_COOKIE": str(folder / "cookie"),
        }

    def __enter__(self) -> SoundServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was started"
        return self._process.pid

    def start(self) -> None:
        """Start it, also again after `kill`."""
        folder = self._folder.name
        self._socket.unlink(missing_ok=True)
        command = [self._program, "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
        command += ["--disable-shm=yes", "--realtime=no", "--high-priority=no", "--load=module-null-sink rate=48000"]
        command += [f"--load=module-native-protocol-unix socket={self._socket} auth-anonymous=1"]
        env = {**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder, "PULSE_RUNTIME_PATH": folder}
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_TIMEOUT
        while not self._socket.exists():
            assert self._process.poll() is None, "pulseaudio does not start"
            assert time.monotonic() < until, "pulseaudio does not listen"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send it one: SIGSTOP is a sound server that hangs."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would: all devices are gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it and remove its files."""
        self.kill()
        self._folder.cleanup()


def require_sounddevice() -> None:
    """Skip the test without the extra `audio`, or fail it where CI must have it."""
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError):
        reason = "sounddevice or PortAudio is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
