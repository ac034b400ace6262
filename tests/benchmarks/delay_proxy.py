"""A proxy in user space that delays what passes, for a known distance between a client and its relay.

It runs in a process of its own (`Party(DelayProxy)`), keeps account of how late it was itself, and can list the sizes
of the media that passed.
"""

from __future__ import annotations

from collections import Counter

from relaycall.testing.lossy import HOST, LossyProxy

__all__ = ["HOST", "DelayProxy"]

RTCP_KINDS = range(192, 224)  # second byte of RTCP (RFC 5761, section 4)


class DelayProxy(LossyProxy):
    """Proxies for one relay.

    Args:
        host, port: of the relay.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self._sizes: Counter[int] = Counter()
        self.on_packet = self._count

    def set_delay(self, seconds: float) -> None:
        """The delay one way, from now on."""
        self.set("both", delay=seconds)

    def media_sizes(self) -> dict[int, int]:
        """Audio packets from clients by their size, since this was last asked. Over UDP, in bound channels."""
        sizes, self._sizes = self._sizes, Counter()
        return dict(sizes)

    def _count(self, data: bytes) -> None:
        if len(data) > 16 and 0x40 <= data[0] <= 0x4F and 128 <= data[4] < 192 and data[5] not in RTCP_KINDS:
            self._sizes[data[2] << 8 | data[3]] += 1
