"""A relay in the hands of an attacker, who lacks the keys of the call and of its ICE but can do everything else.

He sees every packet, and gives the victim whatever he likes: as coming from the peer (`from_peer`), or as messages of
the relay's own (`from_relay`). What he gives is in `hostile`.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable

from relaycall.server.turn import Relay
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import decode
from relaycall.stun.turn_allocation import Allocation, Source

COOKIE = b"\x21\x12\xa4\x42"


class Attacker:
    """Takes over a relay, before anybody allocates on it.

    Attributes:
        seen: the latest payloads that the relay carried to the victim, oldest first.
        username: the USERNAME of the peer's checks, as every relay on the way can read it.
        checks: transaction ids of the victim's latest checks.
    """

    def __init__(self, relay: Relay) -> None:
        self.victim: Allocation | None = None
        self.peer: Address | None = None
        self.seen: deque[bytes] = deque(maxlen=512)
        self.checks: deque[bytes] = deque(maxlen=16)
        self.username = ""
        self.random = random.Random(1)
        self._relay = relay
        self._send = relay._to_client
        self._from_peer = relay._server.from_peer
        relay._server.from_peer = self._carry  # type: ignore[method-assign]

    def target(self, victim: Address, peer: Address) -> None:
        """Choose whom to attack, by relayed address."""
        found = self._relay._server.allocations.values()
        self.victim = next(allocation for allocation in found if allocation.relayed.address == victim)
        self.peer = peer

    def from_relay(self, message: bytes) -> None:
        """Give the victim a message of the relay's own."""
        assert self.victim is not None
        assert self._send(self.victim.source, message), "the victim's socket is full"

    def from_peer(self, payload: bytes) -> None:
        """Give the victim a packet as coming from its peer."""
        assert self.victim is not None
        assert self.peer is not None
        message = self.victim.from_peer(payload, tuple(self.peer), self._relay._loop.time(), os.urandom)
        assert message is not None, "the victim's relay has no permission for the peer"
        self.from_relay(message)

    def latest(self, wanted: Callable[[bytes], bool]) -> bytes:
        """One of the packets the relay carried to the victim."""
        return self.random.choice([packet for packet in self.seen if wanted(packet)])

    def _carry(self, allocation: Allocation | None, data: bytes, peer: Source, now: float) -> bytes | None:
        if allocation is not None and allocation is self.victim:
            self.seen.append(data)
            if is_stun(data):
                self.username = decode(data).get(a.USERNAME) or self.username
        elif data and is_stun(data) and data[0] == 0:
            self.checks.append(data[8:20])
        return self._from_peer(allocation, data, peer, now)


def is_stun(data: bytes) -> bool:
    return data[:1] < b"\x04" and data[4:8] == COOKIE


def is_rtp(data: bytes) -> bool:
    return data[:1] == b"\x80" and not 192 <= data[1] < 224


def is_rtcp(data: bytes) -> bool:
    return 128 <= data[0] < 192 and 192 <= data[1] < 224
