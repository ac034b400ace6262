"""A real keyring for tests: gnome-keyring on a D-Bus of its own, in a home of its own.

    with SecretService(tmp_path) as service:
        subprocess.run([...], env=service.env)

Both programs are children, and are ended by their own process ids.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.tools import require_tool

_START_TIMEOUT = 10.0  # seconds


class SecretService:
    """gnome-keyring-daemon, unlocked, behind dbus-daemon.

    Args:
        folder: for its files.

    Attributes:
        env: the environment of programs that are to find it.
    """

    def __init__(self, folder: Path) -> None:
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        for name in ("home", "run"):
            (folder / name).mkdir(mode=0o700)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "LC_ALL": "C.UTF-8",
        }

    def __enter__(self) -> SecretService:
        try:
            bus = self._start("dbus-daemon", "--session", "--nofork", "--print-address=1")
            assert bus.stdout is not None
            self.env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().decode().strip()
            assert self.env["DBUS_SESSION_BUS_ADDRESS"], "dbus-daemon did not start"
            keyring = self._start("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
            assert keyring.stdin is not None
            keyring.stdin.write(b"the user's password")
            keyring.stdin.close()
            until = time.monotonic() + _START_TIMEOUT
            while not self._owns_its_name():
                assert keyring.poll() is None, "gnome-keyring-daemon ended"
                assert time.monotonic() < until, "gnome-keyring-daemon does not answer"
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both."""
        while self._daemons:
            daemon = self._daemons.pop()
            daemon.kill()
            daemon.wait()
            for pipe in (daemon.stdin, daemon.stdout):
                if pipe is not None:
                    pipe.close()

    @property
    def kept(self) -> bytes:
        """What is on the disk."""
        return b"".join(path.read_bytes() for path in (self._folder / "home").rglob("*") if path.is_file())

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        daemon = subprocess.Popen(
            [require_tool(name), *arguments],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._daemons.append(daemon)
        return daemon

    def _owns_its_name(self) -> bool:
        asked = subprocess.run(
            [
                *(require_tool("dbus-send"), "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"),
                *("org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"),
            ],
            env=self.env,
            capture_output=True,
            check=False,
        )
        return b"boolean true" in asked.stdout
