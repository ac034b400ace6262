"""The vault file, version 1: names and secrets under a passphrase. Without I/O.

    offset  size  field
    0       8     magic "RLYVAULT"
    8       1     version, 1
    9       4     Argon2id memory in KiB, big-endian
    13      4     Argon2id iterations
    17      1     Argon2id lanes
    18      16    salt
    34      12    nonce
    46      ...   ChaCha20-Poly1305 of the map, with the 46 bytes before it as associated data

The key is Argon2id of the passphrase (RFC 9106), 32 bytes. The map is a JSON object of strings, its names sorted, in
ASCII and without spaces.
"""

from __future__ import annotations

import json
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from relaycall.errors import StoreError, VaultDamaged, VaultRefused
from relaycall.redact import Secret

MAGIC = b"RLYVAULT"
VERSION = 1
MAX_SIZE = 1 << 20  # bytes of a whole file
_HEADER = struct.Struct(">8sBIIB16s12s")
_TAG = 16


class Cost(NamedTuple):
    """What Argon2id is made to work: KiB of memory, passes over it, lanes."""

    memory: int
    iterations: int
    lanes: int


# RFC 9106, section 4, second recommendation; more than OWASP asks for.
COST = Cost(memory=65536, iterations=3, lanes=4)
# A file may ask for this much: more would let who alters it exhaust the machine before anything is authenticated.
LOWEST = Cost(memory=19456, iterations=1, lanes=1)
HIGHEST = Cost(memory=262144, iterations=10, lanes=8)


class Header(NamedTuple):
    """The first 46 bytes."""

    cost: Cost
    salt: bytes
    nonce: bytes

    def encode(self) -> bytes:
        return _HEADER.pack(MAGIC, VERSION, *self.cost, self.salt, self.nonce)


def decode_header(data: bytes, name: str) -> Header:
    """The header of a vault file; `name` is the file's, for the error.

    Raises:
        VaultDamaged: it is no vault, is cut short or too long, is of a later version, or asks for too much work.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise VaultDamaged(f"The file {name} is not a vault.")
    if not _HEADER.size + _TAG <= len(data) <= MAX_SIZE:
        raise VaultDamaged(f"The vault {name} is {'too long' if len(data) > MAX_SIZE else 'cut short'}.")
    _, version, *cost, salt, nonce = _HEADER.unpack_from(data)
    if version != VERSION:
        raise VaultDamaged(f"The vault {name} has version {version}, which this relaycall does not know.")
    header = Header(Cost(*cost), salt, nonce)
    if not all(low <= value <= high for low, value, high in zip(LOWEST, header.cost, HIGHEST, strict=True)):
        raise VaultDamaged(f"The vault {name} asks for an Argon2id cost outside of the limits.")
    return header


def derive_key(passphrase: Secret, salt: bytes, cost: Cost) -> bytes:
    """Argon2id; takes a good part of a second, on purpose."""
    argon2 = Argon2id(salt=salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory)
    return argon2.derive(passphrase.reveal().encode(errors="surrogatepass"))


def seal(entries: dict[str, Secret], key: bytes, header: Header) -> bytes:
    """The whole file. Raises StoreError when it would be longer than a vault may be."""
    plain = json.dumps(
        {name: secret.reveal() for name, secret in entries.items()}, sort_keys=True, separators=(",", ":")
    ).encode()
    if _HEADER.size + len(plain) + _TAG > MAX_SIZE:
        del plain  # a frame that raises holds no secrets
        raise StoreError(f"The vault would be larger than {MAX_SIZE} bytes.", "Remove what is no longer needed.")
    first = header.encode()
    return first + ChaCha20Poly1305(key).encrypt(header.nonce, plain, first)


def unseal(data: bytes, key: bytes, name: str) -> dict[str, Secret]:
    """The names and secrets in a file that `decode_header` accepted.

    Raises:
        VaultRefused: the key is not the one it was sealed with, or a byte was changed.
    """
    first = data[: _HEADER.size]
    try:
        plain = ChaCha20Poly1305(key).decrypt(first[-12:], data[_HEADER.size :], first)
    except InvalidTag:
        plain = None
    if plain is None:
        raise VaultRefused(f"The vault {name} does not open: wrong passphrase or altered file.")
    return {name: Secret(value) for name, value in json.loads(plain).items()}
