"""Known answers of docs/protocol.md: by hand, from the library and in the document they are the same."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relaycall.call.record import decode_record
from relaycall.errors import MessageRefused
from relaycall.identity.envelope import Message, OpeningKey, Seal, from_identity, identity_key_id, open_envelope
from relaycall.identity.handshake import CalleeHandshake, CallerHandshake, offer_hash
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.identity.prekeys import Prekey, SignedPrekey
from tests.identity.by_hand import hkdf, open_to_identity, open_to_prekey, public, sha256, sized, x25519

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
ENVELOPES = VECTORS["envelopes"]
envelopes = pytest.mark.parametrize("vector", ENVELOPES, ids=[vector["name"] for vector in ENVELOPES])


def told(part: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in VECTORS[part].items()}


def identity_by_hand(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret[:32]).public_key().public_bytes_raw() + public(secret[32:64])


def identities() -> tuple[Identity, Identity]:
    """Bob, who calls and seals, and Ada."""
    return Identity(told("bob")["secret"]), Identity(told("ada")["secret"])


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "bob"])
def test_identities(name: str) -> None:
    vector = told(name)
    identity = identity_by_hand(vector["secret"])
    assert identity == vector["identity"] == Identity(vector["secret"]).public.encode()
    fingerprint = sha256(b"relaycall fingerprint 1\0", identity)[:16]
    assert fingerprint == vector["fingerprint"]
    assert Identity(vector["secret"]).public.fingerprint.replace(" ", "") == fingerprint.hex()
    key_id = sha256(b"relaycall identity key 1\0", identity)
    assert key_id == vector["key id"] == identity_key_id(Identity(vector["secret"]).public)


def test_the_prekey() -> None:
    vector = told("prekey")
    prekey = Prekey(vector["seed"], vector["x25519"], 1_700_000_000)
    assert sha256(b"relaycall prekey id 1\0", prekey.public.mlkem, public(vector["x25519"])) == vector["id"]
    assert prekey.id == vector["id"]


# --- envelopes --------------------------------------------------------------------------------------------------------


@envelopes
def test_envelopes_open_by_hand(vector: dict[str, Any]) -> None:
    used = bytes.fromhex(vector["envelope"])
    assert len(used) % 64 == 0
    assert vector["compact"] or len(used) == 4096
    ada, prekey = told("ada"), told("prekey")
    sealed = used[4:]
    if vector["seal"] == "prekey":
        key_id, encapsulated = prekey["id"], 1120
        plaintext = open_to_prekey(sealed, prekey["seed"], prekey["x25519"], b"relaycall envelope 1\0" + key_id)
    else:
        key_id, encapsulated = ada["key id"], 32 if vector["compact"] else 1120
        stand_in = sealed[: encapsulated - 32]
        info = b"relaycall envelope 1\0" + key_id + stand_in
        plaintext = open_to_identity(sealed[len(stand_in) :], ada["secret"][32:64], info)
    assert used[:4] == sha256(b"relaycall selector 1\0", key_id, sealed[:encapsulated])[:4]
    attached, body = bytes.fromhex(vector["prekey"]), bytes.fromhex(vector["body"])
    numbers = struct.pack("!QQBHH", vector["counter"], vector["sent_at_ms"], vector["kind"], len(attached), len(body))
    content, signature = plaintext[:-64], plaintext[-64:]
    bob = told("bob")["identity"]
    inside = bob + numbers + attached + body
    assert content == inside.ljust(len(content), b"\0")
    message = b"relaycall envelope signature 1\0" + ada["identity"] + key_id + content
    Ed25519PublicKey.from_public_bytes(bob[:32]).verify(signature, message)


@envelopes
def test_the_library_opens_them(vector: dict[str, Any]) -> None:
    _, ada = identities()
    prekey = Prekey(told("prekey")["seed"], told("prekey")["x25519"], 1_700_000_000)
    keys = [OpeningKey(prekey.id, prekey.hpke_key()), from_identity(ada)]
    envelope = bytes.fromhex(vector["envelope"]).ljust(4096, b"\0")
    assert open_envelope(envelope, ada, keys) == Message(
        kind=vector["kind"],
        body=bytes.fromhex(vector["body"]),
        prekey=bytes.fromhex(vector["prekey"]),
        sender=PublicIdentity(told("bob")["identity"][:32], told("bob")["identity"][32:]),
        counter=vector["counter"],
        sent_at=vector["sent_at_ms"] / 1000,
        seal=Seal[vector["seal"].upper()],
    )
    with pytest.raises(MessageRefused):
        open_envelope(envelope, Identity(told("bob")["secret"]), keys)


def test_the_attached_prekey_is_bobs() -> None:
    bob, _ = identities()
    attached = [bytes.fromhex(vector["prekey"]) for vector in ENVELOPES if vector["prekey"]]
    assert [SignedPrekey.decode(one).verify(bob.public, 1_700_000_000) for one in attached]


# --- the handshake ----------------------------------------------------------------------------------------------------


def test_the_handshake_by_hand() -> None:
    vector = told("handshake")
    bob, ada = told("bob")["identity"], told("ada")["identity"]
    e_bob, e_ada = public(vector["caller secret"]), public(vector["callee secret"])
    commitment = sha256(b"relaycall commitment 1\0", bob, vector["caller nonce"])
    assert commitment == vector["commitment"]
    offer = b"\1" + e_bob + commitment + vector["caller record"]
    assert offer == vector["offer"]
    assert sha256(b"relaycall offer 1\0", bob, ada, offer)[:16] == vector["call id"]
    answer = sha256(offer) + e_ada + vector["callee nonce"] + vector["callee record"]
    assert answer == vector["answer"]
    assert sha256(offer) + vector["caller nonce"] == vector["confirm"]
    transcript = sha256(b"relaycall transcript 1\0", sized(bob, ada, offer, answer))
    assert transcript == vector["transcript"]
    terms = (
        (vector["caller secret"], e_ada),
        (told("bob")["secret"][32:64], e_ada),
        (vector["caller secret"], ada[32:]),
    )
    secret = b"".join(x25519(*term) for term in terms)
    assert secret == vector["secret"]
    for use in ("media", "from caller", "from callee", "words"):
        assert hkdf(secret, transcript, b"relaycall/1 " + use.encode()) == vector[use], use
    nonces = vector["caller nonce"] + vector["callee nonce"]
    assert hkdf(vector["words"], nonces, b"relaycall/1 spoken words") == vector["spoken"]


def test_the_handshake_of_the_library() -> None:
    vector = told("handshake")
    bob, ada = identities()
    for record in (vector["caller record"], vector["callee record"]):
        decode_record(record, laboratory=True)
    calling = CallerHandshake(
        bob, ada.public, vector["caller record"], secret=vector["caller secret"], nonce=vector["caller nonce"]
    )
    called = CalleeHandshake(ada, bob.public, calling.offer)
    answer, of_ada = called.answer(
        vector["callee record"], secret=vector["callee secret"], nonce=vector["callee nonce"]
    )
    record, of_bob = calling.accept(answer)
    called.confirmed(calling.confirm())
    assert (calling.offer, answer, calling.confirm()) == (vector["offer"], vector["answer"], vector["confirm"])
    assert (called.record, record) == (vector["caller record"], vector["callee record"])
    assert calling.call_id == called.call_id == vector["call id"]
    assert offer_hash(calling.offer) == vector["answer"][:32]
    for keys in (of_bob, of_ada):
        found = keys.media, keys.from_caller, keys.from_callee, keys.spoken
        assert found == tuple(vector[name] for name in ("media", "from caller", "from callee", "spoken"))


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document_tells_the_same() -> None:
    section = PROTOCOL.read_text().split("## Identity: envelopes and the handshake\n")[1].split("\n## ")[0]
    entries = re.findall(r"^ {4}(\w[\w ]*?) += ((?:[0-9a-f]+\n? *)+)$", section, re.MULTILINE)
    found = {name: bytes.fromhex("".join(value.split())) for name, value in entries}
    expected = {f"bob {name}": value for name, value in told("bob").items() if name != "secret"}
    expected |= {f"ada {name}": value for name, value in told("ada").items() if name in ("fingerprint", "key id")}
    by_formula = {"caller secret", "callee secret", "caller nonce", "callee nonce", "offer", "answer", "confirm"}
    expected |= {name: value for name, value in told("handshake").items() if name not in by_formula}
    expected |= {f"{name} sha256": sha256(told("handshake")[name]) for name in ("offer", "answer", "confirm")}
    for vector in ENVELOPES:
        envelope = bytes.fromhex(vector["envelope"]).ljust(4096, b"\0")
        expected[vector["name"]] = hashlib.sha256(envelope).digest()
    assert found == expected
