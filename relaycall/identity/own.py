"""Our own keys in the store: one entry, "identity/me".

    entry      base64 of: checksum 8 | MessagePack array
    array      [ version 1, identity's secret 96, card's serial, card's time, name, signaling URL, ring of prekeys ]

The checksum is the beginning of SHA-256 over the array, so that a damaged entry is not taken for other keys. The text
has at most 1280 characters: Windows keeps 2560 bytes, and two for each character.

Keys are made by `create_own` and `rotate_identity` alone, when somebody asks for that. An entry that cannot be read is
reported and stays as it is.

Two programs of ours may change the entry at the same moment, and a store has no lock around reading and writing. So
each change is read again a moment later; what the other one overwrote is merged with what it wrote, and written once
more. Of two cards the one with the higher serial holds; of two rings all prekeys are kept. Only then is anything new
told to anybody. For a change to be lost, the other program must have taken longer than that moment from its reading to
its writing; then `refresh_own` puts the prekey back that the first program still holds.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relaycall.errors import ConfigError, IdentityDamaged, IdentityMissing, StoreError
from relaycall.identity.card import MAX_NAME, MAX_SERIAL, MAX_TIME, MAX_URL, Card
from relaycall.identity.keys import SECRET_SIZE, Identity
from relaycall.identity.prekeys import RANDOM_SIZE, Prekeys, SignedPrekey
from relaycall.redact import Secret
from relaycall.store import Store

ENTRY = "identity/me"
MAX_NAME_AND_URL = 280  # bytes of both in UTF-8: with a full ring the entry then has 1280 characters at most
SETTLE = 0.25  # seconds after which a change is read again
_TRIES = 4

_CHECKSUM = b"relaycall own keys 1\0"
_CHECKSUM_SIZE = 8


class _Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Literal[1]
    secret: Annotated[bytes, Meta(min_length=SECRET_SIZE, max_length=SECRET_SIZE)]
    serial: Annotated[int, Meta(ge=1, le=MAX_SERIAL)]
    created: Annotated[int, Meta(ge=0, le=MAX_TIME)]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    signaling: Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
    prekeys: bytes


_decoder = msgspec.msgpack.Decoder(_Entry)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """Who we are, and what our card says. It does not change: each function here gives what holds from then on.

    Attributes:
        identity: our long-term keys.
        prekeys: our ring.
        name: what we call ourselves.
        signaling: the URL of the server that has our mailbox.
        serial, created: of our card.
    """

    identity: Identity
    prekeys: Prekeys
    name: str = field(repr=False)
    signaling: str = field(repr=False)
    serial: int
    created: int

    def card(self) -> Card:
        """Our card, the same one each time.

        Raises:
            ConfigError: name or URL cannot stand in a card.
        """
        return Card.make(
            self.identity, serial=self.serial, name=self.name, signaling=self.signaling, created=self.created
        )

    def signed_prekey(self) -> SignedPrekey:
        """The prekey to give to others."""
        return SignedPrekey.make(self.identity, self.prekeys.current.public)

    def encode(self) -> Secret:
        """The entry."""
        prekeys = self.prekeys.encode()
        entry = _Entry(1, self.identity.reveal(), self.serial, self.created, self.name, self.signaling, prekeys)
        array = msgspec.msgpack.encode(entry)
        return Secret(base64.b64encode(_checksum(array) + array).decode())

    @classmethod
    def decode(cls, entry: Secret) -> OwnKeys:
        """The reverse.

        Raises:
            IdentityDamaged: it is not such an entry, or a byte of it was changed.
        """
        own = _decoded(entry)
        if own is None:
            raise IdentityDamaged
        return own

    def same_as(self, other: OwnKeys) -> bool:
        """Whether the entries are the same."""
        return self.encode() == other.encode()


async def create_own(store: Store, name: str, signaling: str, now: float) -> OwnKeys:
    """Make our keys and keep them.

    Args:
        name: what we call ourselves, 1 to 64 characters.
        signaling: the URL of the server that will have our mailbox.
        now: seconds since 1970.

    Raises:
        ConfigError: there are keys already, or name or URL cannot stand in a card.
        IdentityDamaged: there is an entry that cannot be read. It stays.
        StoreError: the store cannot be used, or did not keep them.
    """
    own = _fresh(name, signaling, 1, now)
    if await store.get(ENTRY) is not None:
        await _read(store)
        raise _existing()
    kept = await _keep(store, own, now)
    if kept.identity.public != own.identity.public:
        raise _existing()
    return kept


async def load_own(store: Store, now: float) -> OwnKeys:
    """Our keys, with a new prekey if one is due.

    Raises:
        IdentityMissing: there are none.
        IdentityDamaged: what is there cannot be read. It stays.
        StoreError: the store cannot be used. It is raised, too, when a due change of the prekeys cannot be kept.
    """
    stored = await _read(store)
    return await _keep_if_changed(store, stored, stored, now)


async def refresh_own(store: Store, own: OwnKeys, now: float) -> OwnKeys:
    """The same for a program that runs for long: at `own.prekeys.next_rotation()`, and once a day at least.

    Args:
        own: what it has.

    Returns:
        What is in the store, and the prekeys that only this program had. If another program has replaced the identity,
        it is the new one.

    Raises: as `load_own`. What the program has stays good.
    """
    stored = await _read(store)
    wanted = _merged(stored, own) if stored.identity.reveal() == own.identity.reveal() else stored
    return await _keep_if_changed(store, stored, wanted, now)


async def change_own(store: Store, now: float, *, name: str | None = None, signaling: str | None = None) -> OwnKeys:
    """Change what our card says. It gets the next serial, and has to be given to the contacts again.

    Raises:
        ConfigError: name or URL cannot stand in a card.
        IdentityMissing, IdentityDamaged, StoreError: as `load_own`.
    """
    own = await _read(store)
    changed = replace(
        own,
        name=own.name if name is None else name,
        signaling=own.signaling if signaling is None else signaling,
        serial=own.serial + 1,
        created=int(now),
    )
    _check(changed)
    return await _keep(store, changed, now)


async def rotate_identity(store: Store, now: float) -> OwnKeys:
    """Replace all keys, on purpose: for every contact we are a changed key then, to be confirmed anew.

    What was sealed to the old keys cannot be opened any more.

    Raises:
        IdentityMissing, IdentityDamaged, StoreError: as `load_own`.
        ConfigError: the card has run out of serials.
    """
    own = await _read(store)
    return await _keep(store, _fresh(own.name, own.signaling, own.serial + 1, now), now)


def _fresh(name: str, signaling: str, serial: int, now: float) -> OwnKeys:
    prekeys = Prekeys.make(now, secrets.token_bytes(RANDOM_SIZE))
    own = OwnKeys(Identity(secrets.token_bytes(SECRET_SIZE)), prekeys, name, signaling, serial, int(now))
    _check(own)
    return own


def _check(own: OwnKeys) -> None:
    own.card()
    if len(own.name.encode()) + len(own.signaling.encode()) > MAX_NAME_AND_URL:
        raise ConfigError(
            "The name and the signaling URL are too long together.",
            f"Choose shorter ones, of {MAX_NAME_AND_URL} bytes together.",
        )


def _existing() -> ConfigError:
    return ConfigError("There are keys already.", "Use them; new ones would make you a stranger to everybody.")


async def _read(store: Store) -> OwnKeys:
    entry = await store.get(ENTRY)
    if entry is None:
        raise IdentityMissing
    return OwnKeys.decode(entry)


async def _keep_if_changed(store: Store, stored: OwnKeys, wanted: OwnKeys, now: float) -> OwnKeys:
    wanted = _rotated(wanted, now)
    return stored if wanted.same_as(stored) else await _keep(store, wanted, now)


async def _keep(store: Store, own: OwnKeys, now: float) -> OwnKeys:
    """Write, and see that it stays. Gives what is in the store in the end, which other programs may have added to."""
    own = _rotated(own, now)
    for _ in range(_TRIES):
        await store.set(ENTRY, own.encode())
        await asyncio.sleep(SETTLE)
        stored = await _read(store)
        own = _rotated(_merged(stored, own), now)
        if own.same_as(stored):
            return stored
    raise StoreError(
        "The store does not keep our keys as they were written.", "See whether other programs change them."
    )


def _rotated(own: OwnKeys, now: float) -> OwnKeys:
    return replace(own, prekeys=own.prekeys.rotate(now, secrets.token_bytes(RANDOM_SIZE)))


def _merged(stored: OwnKeys, own: OwnKeys) -> OwnKeys:
    """What holds of two: the card of the higher serial, and all prekeys if it is one identity."""
    latest = own if own.serial > stored.serial else stored
    if stored.identity.reveal() != own.identity.reveal():
        return latest
    return replace(latest, prekeys=stored.prekeys.merge(own.prekeys))


def _checksum(array: bytes) -> bytes:
    return hashlib.sha256(_CHECKSUM + array).digest()[:_CHECKSUM_SIZE]


def _decoded(entry: Secret) -> OwnKeys | None:
    """None if it cannot be. Apart, so that the frame that raises holds no keys."""
    text = entry.reveal()
    try:
        found = _decoder.decode(base64.b64decode(text)[_CHECKSUM_SIZE:])
        own = OwnKeys(
            Identity(found.secret),
            Prekeys.decode(found.prekeys),
            found.name,
            found.signaling,
            found.serial,
            found.created,
        )
    except (IdentityDamaged, msgspec.DecodeError, ValueError):
        return None
    return own if own.encode() == entry else None  # the checksum, and nothing left over
