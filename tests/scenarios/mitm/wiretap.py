"""Every packet that the relays carry, and what somebody with keys can make of it: sound is the measure."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from relaycall.media.opus import Decoder
from relaycall.media.srtp import IncomingSrtp, derive_keys
from relaycall.server.turn import Relay
from relaycall.stun.turn_allocation import Allocation, Source
from tests.scenarios.attacker import is_rtp

AUDIO = 111
LONGEST = 2000  # packets that are kept


class Wiretap:
    """Listens at every relay.

    Attributes:
        packets: the audio packets that reached somebody, in order.
    """

    def __init__(self, relays: Iterable[Relay]) -> None:
        self.packets: list[bytes] = []
        for relay in relays:
            self._listen(relay)

    def _listen(self, relay: Relay) -> None:
        carry = relay._server.from_peer

        def carry_and_keep(allocation: Allocation | None, data: bytes, peer: Source, now: float) -> bytes | None:
            if allocation is not None and is_rtp(data) and data[1] & 0x7F == AUDIO and len(self.packets) < LONGEST:
                self.packets.append(data)
            return carry(allocation, data, peer, now)

        relay._server.from_peer = carry_and_keep  # type: ignore[method-assign]

    def frames(self, call_keys: Iterable[bytes]) -> int:
        """How many of the packets give sound under one of these call keys, in one of the two directions."""
        return sum(self._frames(key, caller) for key in set(call_keys) for caller in (True, False))

    def _frames(self, key: bytes, caller: bool) -> int:
        receive = derive_keys(key, caller=caller).receive
        streams: dict[int, tuple[IncomingSrtp, Decoder]] = {}
        count = 0
        for packet in self.packets:
            (ssrc,) = struct.unpack_from("!L", packet, 8)
            if ssrc not in streams:
                streams[ssrc] = IncomingSrtp(receive, ssrc), Decoder()
            srtp, decoder = streams[ssrc]
            plain = srtp.unprotect_rtp(packet)
            count += isinstance(plain, bytes) and decoder.decode(plain[12:]) is not None
        return count
