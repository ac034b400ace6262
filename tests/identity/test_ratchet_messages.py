"""What the ratchet sealer keeps, what a peer may send to it, and the values by which others can check theirs."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import struct
import sys
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relaycall.errors import (
    CardRefused,
    ExtraMissing,
    IdentityDamaged,
    MessageRefused,
    MessageReplayed,
)
from relaycall.identity.contact import MAX_COUNTER
from relaycall.identity.envelope import RecipientKey, seal
from relaycall.identity.keys import SECRET_SIZE, Identity
from relaycall.identity.prekeys import Prekeys
from relaycall.identity.ratchet import RatchetSealer
from relaycall.identity.ratchet_message import CHAIN_LIMIT, RatchetMessage, Start, decode_message, derive_session
from relaycall.identity.ratchet_state import (
    MAX_SKIPPED,
    SKIPPED_LIFETIME,
    Chain,
    Conversation,
    Ratchet,
    Session,
    Skipped,
    SkippedChain,
    decode_conversation,
    encode_conversation,
)
from relaycall.identity.rig import KIND, START, Person, refused, talk
from relaycall.identity.sealer import INTRODUCTION, EnvelopeSealer
from relaycall.redact import Secret
from tests.contracts.test_sealers import RatchetRig
from tests.identity.ratchet_rig import conversation, entry_of, thief_reads, write_plainly
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

# SHA-256 of the two messages in docs/protocol.md.
FIRST = "59a178c7b1dc12c05e10e32c9e5104a52e34a90302480f5b27925dbe726736f4"
SECOND = "4e2a09909e9fb0b9304f140810b86537372b05c601f2963fbf98cb7db5f1b1d1"


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_skipped_keys_are_bounded_and_do_not_last() -> None:
    """A hundred messages are waited for, each for five minutes: then nobody can read them any more."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    lost = [await alice.write(bob, b"late") for _ in range(MAX_SKIPPED + 20)]
    await bob.read(await alice.write(bob, b"in time"))
    kept = conversation(bob, "Alice").current
    assert kept is not None
    assert sum(len(chain.keys) for chain in kept.ratchet.skipped) == MAX_SKIPPED
    for envelope in lost[:20]:
        await refused(bob.open(envelope), MessageReplayed)
    assert await bob.read(lost[20]) == await bob.read(lost[-1]) == b"late"
    sent_at = rig.now
    entries = bob.store.snapshots[-1]
    assert await thief_reads(rig, bob, entries, "Alice", lost[-2]) == b"late"  # the limit of it
    rig.now += SKIPPED_LIFETIME + 1
    await bob.write(alice, b"any change to the entry")
    rig.now = sent_at
    assert await thief_reads(rig, bob, bob.store.snapshots[-1], "Alice", lost[-2]) is None


async def test_skipped_keys_are_bounded_over_two_sessions() -> None:
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    for _ in range(2):
        for _ in range(MAX_SKIPPED - 10):
            await alice.write(bob, b"lost")
        await bob.read(await alice.write(bob, b"not lost"))
        await alice.read(await bob.write(alice, b"my card", INTRODUCTION))
    kept = conversation(bob, "Alice")
    assert len(kept.sessions) == 2
    lengths = [sum(len(chain.keys) for chain in session.ratchet.skipped) for session in kept.sessions]
    assert lengths == [MAX_SKIPPED - 10, 10]


async def test_the_entry_is_small() -> None:
    """At most 640 characters for one session that is answered, and 8 KiB with two sessions and all skipped keys."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    assert len(bob.store.snapshots[-1][entry_of(bob, "Alice")].reveal()) <= 640
    await bob.read(await alice.write(bob, b"my card", INTRODUCTION))
    await talk(bob, alice)
    for _ in range(MAX_SKIPPED):
        await alice.write(bob, b"lost")
    await bob.read(await alice.write(bob, b"not lost"))
    assert len(bob.store.snapshots[-1][entry_of(bob, "Alice")].reveal()) <= 8192


async def test_a_damaged_entry_is_told_and_stays() -> None:
    """Wherever it is damaged: nothing is sent or accepted, nothing is lost, and `forget` begins anew."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    envelope = await alice.write(bob, b"hello")
    entry = entry_of(bob, "Alice")
    whole = bob.store.snapshots[-1][entry].reveal()
    others = [whole[:at] + ("A" if whole[at] != "A" else "B") + whole[at + 1 :] for at in range(0, len(whole) - 4, 7)]
    for text in ("", "damaged", "é", "A" * 20000, whole[:-4], whole + "AAAA", *others):
        damaged = await rig.again(bob, {**bob.store.snapshots[-1], entry: Secret(text)})
        await refused(damaged.open(envelope), IdentityDamaged)
        await refused(damaged.write(alice, b"hello"), IdentityDamaged)
        await refused(damaged.open(await alice.write(bob, b"my card", INTRODUCTION)), IdentityDamaged)
        assert damaged.store.snapshots[-1][entry] == Secret(text)
    assert isinstance(damaged.sealer, RatchetSealer)
    await damaged.sealer.forget(alice.identity.public)
    await talk(damaged, alice, rounds=2)


async def test_what_is_sealed_and_opened_is_kept_first() -> None:
    """The entry differs after each, before the envelope or the body is handed out."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    seen = {
        person.name: person.store.snapshots[-1][entry_of(person, other)]
        for person, other in ((alice, "Bob"), (bob, "Alice"))
    }
    for _ in range(3):
        await bob.read(await alice.write(bob, b"hello"))
        for person, other in ((alice, "Bob"), (bob, "Alice")):
            kept = person.store.snapshots[-1][entry_of(person, other)]
            assert kept != seen[person.name]
            seen[person.name] = kept


async def test_nothing_secret_is_shown() -> None:
    rig = RatchetRig()
    alice, bob = await rig.pair()
    await bob.read(await alice.write(bob, b"hello"))
    kept = conversation(alice, "Bob")
    session = kept.current
    assert session is not None
    assert session.start is not None
    shown = repr([kept, session, session.start, session.ratchet, session.ratchet.root, alice.sealer])
    for secret in (session.ratchet.own, session.ratchet.root.key, session.start.secret, session.start.ephemeral):
        assert repr(secret)[2:-1] not in shown
    message = RatchetMessage(bytes(16), b"k" * 32, 0, 0, session.start, b"c" * 32)
    assert "kkk" not in repr(message)
    assert "ccc" not in repr(message)


# --- what a peer may send --------------------------------------------------------------------------------------------


async def crafted(change: Callable[[RatchetMessage, Person], RatchetMessage], first: bool) -> None:
    """Bob is sent a ratchet message by Alice that was changed like this, and refuses; what comes next he reads."""
    rig = RatchetRig()
    alice, bob = await (rig.pair() if first else rig.acquainted())
    sealer = alice.sealer
    assert isinstance(sealer, RatchetSealer)
    body = await sealer._protect(bob.identity.public, bob.prekeys.current.public, KIND, b"x")
    changed = change(decode_message(body), bob)
    await refused(bob.open(await write_plainly(alice, bob, changed.encode())))
    await talk(alice, bob, rounds=2)


def changed(**fields: object) -> Callable[[RatchetMessage, Person], RatchetMessage]:
    def change(message: RatchetMessage, _: Person) -> RatchetMessage:
        values = {name: getattr(message, name) for name in RatchetMessage.__dataclass_fields__}
        return RatchetMessage(**{**values, **fields})  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(
    "change",
    [
        changed(session_id=bytes(16)),
        changed(ratchet_key=bytes(32)),  # a point of low order
        changed(ratchet_key=b"\x01" + bytes(31)),
        changed(ratchet_key=b"\xff" * 32),
        changed(previous_length=CHAIN_LIMIT),
        changed(previous_length=CHAIN_LIMIT + 1),
        changed(previous_length=65535),
        changed(number=CHAIN_LIMIT - 1),
        changed(number=CHAIN_LIMIT),
        changed(number=65535),
        changed(ciphertext=b""),
        changed(ciphertext=bytes(31)),
        changed(ciphertext=bytes(32)),
        changed(ciphertext=bytes(1000)),
    ],
)  # fmt: skip
async def test_what_a_peer_may_send_is_refused(
    change: Callable[[RatchetMessage, Person], RatchetMessage], first: bool
) -> None:
    await crafted(change, first)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
@pytest.mark.parametrize("part", ["ephemeral", "prekey_id", "secret"])
async def test_a_start_that_does_not_fit_is_refused(part: str, key: bytes) -> None:
    def change(message: RatchetMessage, _: Person) -> RatchetMessage:
        assert message.start is not None
        return changed(start=replace(message.start, **{part: key}))(message, _)

    await crafted(change, first=True)


async def test_a_prekey_as_ratchet_key_is_refused() -> None:
    """Before the first answer the prekey stands where the peer's ratchet key will be."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    await alice.write(bob, b"first")
    session = conversation(alice, "Bob").current
    assert session is not None
    crafted = RatchetMessage(session.id, session.ratchet.theirs, 0, 0, None, bytes(64))
    await refused(alice.open(await write_plainly(bob, alice, crafted.encode())))
    await talk(alice, bob)


async def test_a_body_that_is_not_ratcheted_is_refused() -> None:
    """Also when it is sealed and signed as it should be, whoever sent it; and the least that it can cost."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    for body in (b"", b"\x01", b"\x02", b"\x03" * 200, b"\x01" * 53, b"\x02" * 148, b"\x02" * 149, b"plain text"):
        await refused(bob.open(await write_plainly(alice, bob, body)))
    await talk(alice, bob)


@given(st.binary(max_size=400))
def test_any_body_is_refused_or_a_message(body: bytes) -> None:
    try:
        message = decode_message(body)
    except MessageRefused:
        return
    assert message.encode() == body


async def test_a_stranger_whose_key_is_none_is_refused() -> None:
    """With such a key everybody would agree on the same secret."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    weak = Identity(bytes(range(SECRET_SIZE)))
    weak.public = type(weak.public)(weak.public.signing, bytes(32))
    mallory = EnvelopeSealer(Weak(weak, alice.prekeys), alice.contacts, clock=alice.clock)
    await refused(bob.open(await mallory.seal(bob.identity.public, INTRODUCTION, b"card")))
    await refused(bob.sealer.seal(weak.public, KIND, b"an answer"), CardRefused)
    start = RatchetMessage(
        bytes(16), b"\x09" + bytes(31), 0, 0, Start(b"\x09" + bytes(31), bob.prekeys.current.id, bytes(32)), bytes(64)
    )
    await refused(bob.open(await mallory.seal(bob.identity.public, KIND, start.encode())))


class Weak:
    def __init__(self, identity: Identity, prekeys: Prekeys) -> None:
        self.identity = identity
        self.prekeys = prekeys


async def test_a_counter_that_cannot_be_kept_is_refused() -> None:
    """Also from a stranger, of whom nothing is kept until they are a contact."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    await bob.contacts.remove("Alice")
    prekey = bob.prekeys.current.public
    body = await alice.sealer._protect(bob.identity.public, prekey, KIND, b"x")  # type: ignore[attr-defined]
    key = RecipientKey(prekey.id, prekey.hpke_key())
    for counter in (MAX_COUNTER + 1, 2**64 - 1):
        envelope = seal(
            alice.identity, bob.identity.public, key, kind=KIND, body=body, counter=counter, now=alice.clock()
        )
        await refused(bob.open(envelope))
    await talk(alice, bob)
    await bob.add(alice)
    await talk(bob, alice)


def test_the_largest_entry_can_be_read() -> None:
    """Two sessions, each skipped key with a ratchet key of its own, and the highest numbers."""
    chain = Chain(2**32 - 1, bytes(32))
    keys = tuple(
        SkippedChain(number.to_bytes(32, "big"), (Skipped(CHAIN_LIMIT - 1, bytes(32), 2**40 - 1),))
        for number in range(MAX_SKIPPED)
    )
    start = Start(bytes(32), bytes(32), bytes(32))
    sessions = [
        Session(
            bytes(16), 2**63 - 1, 2**63 - 1, start, Ratchet(bytes(32), bytes(32), chain, chain, chain, 2**32 - 1, one)
        )
        for one in (keys, ())
    ]
    largest = Conversation(1, bytes(32), 2**63 - 1, True, 2**63 - 1, *sessions)
    assert decode_conversation("ratchet/00", encode_conversation(largest)) == largest


# --- values ----------------------------------------------------------------------------------------------------------


def hkdf(salt: bytes, secret: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 with SHA-256."""
    key, out, block = hmac.digest(salt, secret, "sha256"), b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        out += block
    return out[:size]


async def test_known_answers() -> None:
    """What docs/protocol.md says, step by step from the values in it, without the library."""
    alice, bob = Identity(bytes(range(96))), Identity(bytes(range(96, 192)))
    ring = Prekeys.make(START, bytes(range(128, 224)))
    prekey = ring.current
    own, ephemeral = (
        X25519PrivateKey.from_private_bytes(b"\x0b" * 32),
        X25519PrivateKey.from_private_bytes(b"\x07" * 32),
    )
    public = [key.public_key().public_bytes_raw() for key in (own, ephemeral)]
    start = Start(public[1], prekey.id, b"\x09" * 32)
    assert prekey.id.hex() == "abcfcc416749d725e9afa5f4fe64e58f2504709601cca511f7260f164eb837e2"

    their_prekey, their_key = (
        X25519PublicKey.from_public_bytes(k) for k in (prekey.public.x25519, bob.public.agreement)
    )
    agreed = [alice.agree(prekey.public.x25519), ephemeral.exchange(their_key), ephemeral.exchange(their_prekey)]
    transcript = hashlib.sha256(
        b"relaycall ratchet session 1\0" + alice.public.encode() + bob.public.encode() + public[1] + prekey.id
    ).digest()
    root = hkdf(bytes(32), b"".join(agreed) + b"\x09" * 32, b"relaycall ratchet root 1\0" + transcript, 32)
    assert derive_session(alice.public, bob.public, start, agreed) == (transcript[:16], root)
    assert transcript[:16].hex() == "8fb9fd819fb173c30a281c061aecd5a6"
    assert root.hex() == "49c70ad7145c9d9b86054530990feec2d890423359163d715a6a605aab8f4485"

    chain = hkdf(root, own.exchange(their_prekey), b"relaycall ratchet root chain 1", 64)[32:]
    bodies = []
    for number, text in enumerate((b"hello, ratchet", b"and again")):
        key, chain = hmac.digest(chain, b"\x01", "sha256"), hmac.digest(chain, b"\x02", "sha256")
        material = hkdf(bytes(32), key, b"relaycall ratchet cipher 1", 80)
        encryptor = Cipher(algorithms.AES(material[:32]), modes.CBC(material[64:])).encryptor()
        padding = 16 - len(text) % 16
        sealed = encryptor.update(text + bytes([padding]) * padding) + encryptor.finalize()
        header = public[0] + struct.pack("!HH", 0, number)
        bound = b"relaycall ratchet message 1\0" + alice.public.encode() + bob.public.encode() + bytes([KIND])
        tag = hmac.digest(material[32:64], bound + header + sealed, "sha256")
        bodies.append(b"\x02" + transcript[:16] + header + public[1] + prekey.id + b"\x09" * 32 + sealed + tag)
    assert [hashlib.sha256(body).hexdigest() for body in bodies] == [FIRST, SECOND]

    rig = RatchetRig()
    one = await rig._person("Alice", alice, Prekeys.make(START, bytes(96)), {})
    other = await rig._person("Bob", bob, ring, {})
    await one.add(other)
    await one.learn_prekey(other)
    assert await other.read(await write_plainly(one, other, bodies[1])) == b"and again"
    assert await other.read(await write_plainly(one, other, bodies[0])) == b"hello, ratchet"


def test_each_secret_matters() -> None:
    """The root key differs when any of what it is made of does."""
    alice, bob = Identity(bytes(range(96))).public, Identity(bytes(range(96, 192))).public
    start = Start(bytes(32), bytes(32), bytes(32))
    agreed = [bytes([number]) * 32 for number in range(3)]
    other = b"\xff" * 32
    roots = {derive_session(alice, bob, start, agreed)[1], derive_session(bob, alice, start, agreed)[1]}
    roots |= {derive_session(alice, bob, start, [*agreed[:at], other, *agreed[at + 1 :]])[1] for at in range(3)}
    for part in ("ephemeral", "prekey_id", "secret"):
        roots.add(derive_session(alice, bob, replace(start, **{part: other}), agreed)[1])
    assert len(roots) == 8


def test_without_the_package_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "doubleratchet", None)
    monkeypatch.delitem(sys.modules, "relaycall.identity.ratchet")
    with pytest.raises(ExtraMissing, match=r"relaycall\[ratchet\]"):
        importlib.import_module("relaycall.identity.ratchet")
