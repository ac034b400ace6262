"""Prekeys: the keys that envelopes are sealed to, ML-KEM-768 and X25519 together. Without I/O.

We make one each week and delete each after two weeks, so that what was sealed to it cannot be opened any more by who
takes our device later. Others get the public part signed by our identity.

    public prekey    ML-KEM-768 key 1184 | X25519 key 32 | created, s 8                       1224 bytes
    signed prekey    version 1 | public prekey 1224 | signature 64                            1289 bytes
    ring             version 1 | count 1 | { seed 64 | X25519 key 32 | created, s 8 } of each
                     | count 1 | the id 32 of each deleted one that is remembered

Numbers are big endian. The ring is ours alone, and holds private keys.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from relaycall.errors import CardRefused, IdentityDamaged
from relaycall.identity.keys import KEY_SIZE, SIGNATURE_SIZE, Identity, PublicIdentity

ROTATE_AFTER = 7 * 86400  # seconds after which another one is made
DELETE_AFTER = 14 * 86400  # seconds after which one is deleted, and not sealed to any more
CLOCK_SKEW = 120  # seconds by which two clocks may differ
RANDOM_SIZE = 96  # bytes that make a prekey
MLKEM_SIZE = 1184  # bytes of the public key
ID_SIZE = 32
SIGNED_SIZE = 1289
MAX_KEPT = 4  # three by the calendar, and one that another program of ours made at the same time
MAX_RETIRED = 4

_VERSION = 1
_SEED_SIZE = 64
_PUBLIC = struct.Struct(f"!{MLKEM_SIZE}s{KEY_SIZE}sQ")
_PRIVATE = struct.Struct(f"!{_SEED_SIZE}s{KEY_SIZE}sQ")
_ID = b"relaycall prekey id 1\0"
_SIGNED = b"relaycall prekey signature 1"
_ANY_KEY = X25519PrivateKey.from_private_bytes(bytes(range(KEY_SIZE)))


@dataclass(frozen=True, slots=True)
class PublicPrekey:
    """What others seal to.

    Attributes:
        mlkem: ML-KEM-768 public key (FIPS 203), 1184 bytes.
        x25519: X25519 public key (RFC 7748), 32 bytes.
        created: seconds since 1970, by its owner's clock.
    """

    mlkem: bytes = field(repr=False)
    x25519: bytes = field(repr=False)
    created: int

    def __post_init__(self) -> None:
        if len(self.mlkem) != MLKEM_SIZE or len(self.x25519) != KEY_SIZE:
            raise ValueError("the two keys of a prekey have 1184 and 32 bytes")

    @property
    def id(self) -> bytes:
        """What an envelope names it by: SHA-256 of both keys, 32 bytes."""
        return hashlib.sha256(_ID + self.mlkem + self.x25519).digest()

    def hpke_key(self) -> MLKEM768X25519PublicKey:
        """The key to seal to.

        Raises:
            ValueError: the ML-KEM key is no key. It does not happen with what `SignedPrekey.decode` gave.
        """
        mlkem = MLKEM768PublicKey.from_public_bytes(self.mlkem)
        return MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(self.x25519))

    def is_usable(self) -> bool:
        """Whether both keys are keys."""
        try:
            self.hpke_key()
        except ValueError:
            return False
        return is_agreement_key(self.x25519)

    def encode(self) -> bytes:
        """1224 bytes."""
        return _PUBLIC.pack(self.mlkem, self.x25519, self.created)


@dataclass(frozen=True, slots=True)
class SignedPrekey:
    """A prekey with its owner's signature.

    Attributes:
        signature: Ed25519, 64 bytes.
    """

    prekey: PublicPrekey
    signature: bytes = field(repr=False)

    @classmethod
    def make(cls, identity: Identity, prekey: PublicPrekey) -> SignedPrekey:
        """Sign our own. The same prekey always gets the same signature."""
        return cls(prekey, identity.sign(_SIGNED, identity.public.encode() + prekey.encode()))

    def encode(self) -> bytes:
        """1289 bytes."""
        return bytes([_VERSION]) + self.prekey.encode() + self.signature

    @classmethod
    def decode(cls, data: bytes) -> SignedPrekey:
        """Read somebody's prekey. The signature is not checked here: `verify` knows whose it should be.

        Raises:
            CardRefused: it has another size or version, or one of its keys cannot be used.
        """
        if len(data) != SIGNED_SIZE:
            raise CardRefused(f"a prekey has {SIGNED_SIZE} bytes")
        if data[0] != _VERSION:
            raise CardRefused("the prekey is of a version that this relaycall does not know")
        prekey = PublicPrekey(*_PUBLIC.unpack_from(data, 1))
        if not prekey.is_usable():
            raise CardRefused("a key of the prekey is not one")
        return cls(prekey, data[-SIGNATURE_SIZE:])

    def verify(self, owner: PublicIdentity, now: float) -> PublicPrekey:
        """The prekey, if it may be sealed to.

        Args:
            owner: whose it should be.
            now: seconds since 1970.

        Raises:
            CardRefused: the owner has not signed it, it is two weeks old, or it was made in the future, beyond the two
                minutes by which clocks may differ.
        """
        if not owner.verifies(_SIGNED, owner.encode() + self.prekey.encode(), self.signature):
            raise CardRefused("the prekey is not signed by its owner")
        age = now - self.prekey.created
        if age < -CLOCK_SKEW:
            raise CardRefused("the prekey is from the future, or one of the two clocks is wrong")
        if age >= DELETE_AFTER:
            raise CardRefused("the prekey is too old, or one of the two clocks is wrong")
        return self.prekey


@dataclass(frozen=True)
class Prekey:
    """One of ours, with its private keys.

    Attributes:
        seed: of the ML-KEM-768 key (FIPS 203: d and z), 64 bytes.
        x25519: private key, 32 bytes.
        created: seconds since 1970, by our clock then.
    """

    seed: bytes = field(repr=False)
    x25519: bytes = field(repr=False)
    created: int

    @cached_property
    def public(self) -> PublicPrekey:
        """The public part."""
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw()
        x25519 = X25519PrivateKey.from_private_bytes(self.x25519).public_key().public_bytes_raw()
        return PublicPrekey(mlkem, x25519, self.created)

    @property
    def id(self) -> bytes:
        """That of the public part."""
        return self.public.id

    def hpke_key(self) -> MLKEM768X25519PrivateKey:
        """The key that opens what is sealed to the public part."""
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.seed)
        return MLKEM768X25519PrivateKey(mlkem, X25519PrivateKey.from_private_bytes(self.x25519))


@dataclass(frozen=True)
class Prekeys:
    """Our ring. It does not change: `rotate` and `merge` give another one, to be kept before anybody is told of it.

    Iterating gives the prekeys that we hold, the current one first.

    Attributes:
        kept: 1 to 4, the current one last.
        retired: ids of the last four deleted ones, so that an envelope to one of them can be told from a stranger's.
    """

    kept: tuple[Prekey, ...] = field(repr=False)
    retired: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def make(cls, now: float, random: bytes) -> Prekeys:
        """A ring with one prekey; arguments as those of `rotate`."""
        return cls((_make(now, random),))

    def __iter__(self) -> Iterator[Prekey]:
        return reversed(self.kept)

    @property
    def current(self) -> Prekey:
        """The one to give to others."""
        return self.kept[-1]

    def find(self, id: bytes) -> Prekey | None:  # noqa: A002 - the term
        """The prekey of this id, if we hold it."""
        return next((prekey for prekey in self if prekey.id == id), None)

    def next_rotation(self) -> float:
        """When `rotate` will have something to do, in seconds since 1970."""
        return float(min(self.current.created + ROTATE_AFTER, min(one.created for one in self.kept) + DELETE_AFTER))

    def rotate(self, now: float, random: bytes) -> Prekeys:
        """The ring as it should be now: with one more if the current one is a week old, and without those of two weeks.

        A clock that was set back deletes nothing. A prekey from the future is kept and no longer given to others, who
        would refuse it: another one takes its place.

        Args:
            now: seconds since 1970.
            random: 96 fresh secret bytes, used if one is made.

        Returns:
            This very ring if nothing is due.
        """
        young = [one for one in self.kept if now - one.created < DELETE_AFTER]
        ahead = [one for one in young if one.created > now + CLOCK_SKEW]
        usable = sorted((one for one in young if one.created <= now + CLOCK_SKEW), key=_age_order)
        if not usable or now - usable[-1].created >= ROTATE_AFTER:
            usable.append(_make(now, random))
        return self._with((*ahead, *usable)[-MAX_KEPT:])

    def merge(self, other: Prekeys) -> Prekeys:
        """This ring and what only another one has, when two programs of ours made prekeys at the same time.

        Returns:
            A ring that has to be rotated before it is used; this very ring if the other one adds nothing.
        """
        kept = [one for one in other.kept if self.find(one.id) is None]
        retired = [one for one in other.retired if one not in self.retired]
        return Prekeys((*kept, *self.kept), (*retired, *self.retired)) if kept or retired else self

    def _with(self, kept: tuple[Prekey, ...]) -> Prekeys:
        """A ring of these; what is kept here and not there is deleted, and remembered as such."""
        held = {one.id for one in kept}
        gone = dict.fromkeys([*self.retired, *(one.id for one in self.kept)])
        ring = Prekeys(kept, tuple(one for one in gone if one not in held)[-MAX_RETIRED:])
        return self if ring == self else ring

    def encode(self) -> bytes:
        """All of it, private keys too, for the one place that keeps them: at most 547 bytes."""
        private = [_PRIVATE.pack(one.seed, one.x25519, one.created) for one in self.kept]
        return b"".join([bytes([_VERSION, len(private)]), *private, bytes([len(self.retired)]), *self.retired])

    @classmethod
    def decode(cls, data: bytes) -> Prekeys:
        """The reverse.

        Raises:
            IdentityDamaged: it is not a ring.
        """
        count = data[1] if len(data) > 1 else 0
        at = 2 + count * _PRIVATE.size
        remembered = data[at] if len(data) > at else MAX_RETIRED + 1
        whole = len(data) == at + 1 + remembered * ID_SIZE
        if not whole or data[0] != _VERSION or not 1 <= count <= MAX_KEPT or remembered > MAX_RETIRED:
            raise IdentityDamaged("prekeys")
        kept = tuple(Prekey(*_PRIVATE.unpack_from(data, 2 + index * _PRIVATE.size)) for index in range(count))
        retired = tuple(data[start : start + ID_SIZE] for start in range(at + 1, len(data), ID_SIZE))
        if len({*retired, *(one.id for one in kept)}) != len(kept) + len(retired):
            raise IdentityDamaged("prekeys")
        return cls(kept, retired)


def is_agreement_key(public: bytes) -> bool:
    """Whether these 32 bytes are an X25519 key with which two private keys give two secrets (RFC 7748, section 6.1)."""
    try:
        _ANY_KEY.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def _age_order(prekey: Prekey) -> tuple[int, bytes]:
    return prekey.created, prekey.id


def _make(now: float, random: bytes) -> Prekey:
    if len(random) != RANDOM_SIZE:
        raise ValueError(f"a prekey is made of {RANDOM_SIZE} bytes")
    return Prekey(random[:_SEED_SIZE], random[_SEED_SIZE:], int(now))
