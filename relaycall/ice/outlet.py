"""Where a connection's packets go: over the selected path, and while that is in doubt over others as well."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil

from relaycall.ice.allocation import Allocation
from relaycall.stun.address import Address

Path = tuple[Allocation, Address]

RECENT = 25  # packets kept to be sent again: half a second of audio
INTERVAL = 0.02  # seconds between them


class Outlet:
    """The paths in use, and the packets of late.

    Attributes:
        path: the selected one.
        also: others that carry the same.
        recent: what was sent, to go again over a path that replaces a failing one; the receiver's replay protection
            drops what did arrive. None: nothing is kept, since nobody would notice a loss soon enough.
    """

    __slots__ = ("also", "path", "recent")

    def __init__(self) -> None:
        self.path: Path | None = None
        self.also: tuple[Path, ...] = ()
        self.recent: deque[bytes] | None = None

    def send(self, data: bytes, *, once: bool = False) -> None:
        """Send over every path in use, or over the selected one alone."""
        path = self.path
        if path is not None:
            path[0].send(path[1], data)
            if self.recent is not None and not once:
                self.recent.append(data)
                for allocation, peer in self.also:
                    allocation.send(peer, data)

    def keep(self) -> None:
        """Keep what is sent from now on."""
        self.recent = deque(maxlen=RECENT)

    def select(self, path: Path | None, resend: float) -> None:
        """Send over this path from now on, and again what was sent in the last `resend` seconds."""
        self.path = path
        if path is not None:
            self._again([path], resend)

    def double(self, paths: tuple[Path, ...], resend: float) -> None:
        """Send over these as well; those that are new also get what was sent of late."""
        new = [path for path in paths if path not in self.also]
        self.also = paths
        self._again(new, resend)

    def _again(self, paths: Iterable[Path], seconds: float) -> None:
        if self.recent is None or seconds <= 0:
            return
        count = min(ceil(seconds / INTERVAL), len(self.recent))
        packets = list(self.recent)[len(self.recent) - count :]
        for allocation, peer in paths:
            for packet in packets:
                allocation.send(peer, packet)
