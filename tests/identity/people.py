"""Who takes part in the tests of envelopes and handshakes, and points of low order."""

from __future__ import annotations

import hashlib

from relaycall.identity.envelope import OpeningKey, RecipientKey, from_identity, to_identity
from relaycall.identity.keys import Identity
from relaycall.identity.prekeys import Prekey

NOW = 1_700_000_000.0


class Person:
    """Somebody with long-term keys and one prekey, the same in every run."""

    def __init__(self, name: str) -> None:
        self.identity = Identity(hashlib.shake_256(name.encode()).digest(96))
        self.public = self.identity.public
        random = hashlib.shake_256(b"prekey of " + name.encode()).digest(96)
        self.prekey = Prekey(random[:64], random[64:], int(NOW))

    @property
    def to_prekey(self) -> RecipientKey:
        return RecipientKey(self.prekey.id, self.prekey.public.hpke_key())

    @property
    def to_identity(self) -> RecipientKey:
        return to_identity(self.public)

    @property
    def keys(self) -> list[OpeningKey]:
        """What opens envelopes to this person."""
        return [OpeningKey(self.prekey.id, self.prekey.hpke_key()), from_identity(self.identity)]


ALICE, BOB, CAROL, MALLORY = (Person(name) for name in ("Alice", "Bob", "Carol", "Mallory"))

# X25519 public keys with which every private key gives zero, or has no other secret (RFC 7748, section 6.1).
_PRIME = 2**255 - 19
LOW_ORDER = [
    number.to_bytes(32, "little")
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _PRIME - 1,
        _PRIME,
        _PRIME + 1,
    )
]
LOW_ORDER += [point[:31] + bytes([point[31] | 0x80]) for point in LOW_ORDER]  # the highest bit does not count
