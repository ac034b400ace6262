"""HPKE, HKDF and what docs/protocol.md says of them, made of hashes, one X25519, one ML-KEM and one AEAD alone.

It shares nothing with the library but these four, so a value that both find follows from the document.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def sized(*parts: bytes) -> bytes:
    """Each behind its length, 4 bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519(private: bytes, other: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))


def extract(salt: bytes, secret: bytes) -> bytes:
    """RFC 5869, section 2.2."""
    return hmac.digest(salt or bytes(32), secret, "sha256")


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, section 2.3."""
    out = block = b""
    while len(out) < size:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:size]


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return expand(extract(salt, secret), info, 32)


def labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    """RFC 9180, section 4."""
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """RFC 9180, section 4."""
    return expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


def open_base(kem: int, secret: bytes, info: bytes, ciphertext: bytes) -> bytes:
    """RFC 9180, sections 5.1 and 6.1, mode base, HKDF-SHA256 and ChaCha20-Poly1305, no associated data."""
    suite = b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01\x00\x03"
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    shared = labeled_extract(suite, secret, b"secret", b"")
    key = labeled_expand(suite, shared, b"key", context, 32)
    nonce = labeled_expand(suite, shared, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, None)


def open_to_prekey(sealed: bytes, seed: bytes, private: bytes, info: bytes) -> bytes:
    """KEM 0x647a: the secret of MLKEM768-X25519."""
    ciphertext, ephemeral, rest = sealed[:1088], sealed[1088:1120], sealed[1120:]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)
    parts = mlkem, x25519(private, ephemeral), ephemeral, public(private), bytes.fromhex("5c2e2f2f5e5c")
    return open_base(0x647A, hashlib.sha3_256(b"".join(parts)).digest(), info, rest)


def open_to_identity(sealed: bytes, private: bytes, info: bytes) -> bytes:
    """KEM 0x0020: DHKEM(X25519, HKDF-SHA256), RFC 9180, section 4.1."""
    ephemeral, rest = sealed[:32], sealed[32:]
    suite = b"KEM\x00\x20"
    key = labeled_extract(suite, b"", b"eae_prk", x25519(private, ephemeral))
    secret = labeled_expand(suite, key, b"shared_secret", ephemeral + public(private), 32)
    return open_base(0x20, secret, info, rest)
