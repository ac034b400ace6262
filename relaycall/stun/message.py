"""STUN messages: encoding, decoding, integrity (RFC 8489 sections 5, 6, 14.5 to 14.7; RFC 8656 section 17).

`decode` takes any bytes and gives a `Message` or raises `MalformedMessage`, nothing else, in time linear in the size.
An attribute that must be understood and is not is kept in `unknown`; one that may be ignored is ignored.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import hmac
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relaycall.errors import MalformedMessage
from relaycall.stun.attributes import (
    BY_TYPE,
    FINGERPRINT,
    MAGIC_COOKIE,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    Attribute,
)

T = TypeVar("T")

HEADER_SIZE = 20
MAX_ATTRIBUTES = 64
_FINGERPRINT_XOR = 0x5354554E


class Method(enum.IntEnum):
    """RFC 8489 section 18.2, RFC 8656 section 17, RFC 6062 section 6.1."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class Class(enum.IntEnum):
    """The two class bits where they stand in the message type (RFC 8489, figure 3)."""

    REQUEST = 0x000
    INDICATION = 0x010
    SUCCESS = 0x100
    ERROR = 0x110


@dataclass(frozen=True, slots=True)
class Message:
    """One STUN message.

    Attributes:
        attributes: pairs of attribute and value in wire order; those of integrity and fingerprint included when read.
        unknown: comprehension-required types that are not known here (answer 420, RFC 8489 section 6.3.1).
    """

    method: Method
    kind: Class
    transaction_id: bytes = field(repr=False)
    attributes: Sequence[tuple[Attribute[Any], Any]] = field(default=(), repr=False)
    unknown: tuple[int, ...] = ()
    raw: bytes = field(default=b"", repr=False, compare=False)
    integrity_at: int = field(default=0, repr=False, compare=False)

    def get(self, attribute: Attribute[T]) -> T | None:
        """The first value of this attribute, or None."""
        for found, value in self.attributes:
            if found is attribute:
                return value  # type: ignore[no-any-return]
        return None

    def all(self, attribute: Attribute[T]) -> list[T]:
        """Every value of this attribute, in order."""
        return [value for found, value in self.attributes if found is attribute]

    def has(self, attribute: Attribute[Any]) -> bool:
        """Whether the attribute is there; the way to ask for a flag."""
        return any(found is attribute for found, _ in self.attributes)

    def encode(self, key: bytes | None = None, *, sha256: bool = False, fingerprint: bool = False) -> bytes:
        """The bytes on the wire.

        Args:
            key: adds MESSAGE-INTEGRITY (or, with `sha256`, MESSAGE-INTEGRITY-SHA256) under this key.
            fingerprint: adds FINGERPRINT.

        Raises:
            ValueError: a value does not fit its attribute, or all of them one message.
        """
        parts = [b""]
        for attribute, value in self.attributes:
            try:
                data = attribute.pack(value, self.transaction_id)
                parts.append(struct.pack("!HH", attribute.type, len(data)) + data + bytes(-len(data) % 4))
            except (OverflowError, struct.error):
                raise ValueError(f"the value of {attribute} is out of range") from None
        body = b"".join(parts)
        size = 32 if sha256 else 20
        if len(body) + (4 + size if key is not None else 0) + 8 * fingerprint > 65535:
            raise ValueError("the message is too long")
        if key is not None:
            mac = MESSAGE_INTEGRITY_SHA256 if sha256 else MESSAGE_INTEGRITY
            digest = hmac.digest(key, self._header(len(body) + 4 + size) + body, "sha256" if sha256 else "sha1")
            body += struct.pack("!HH", mac.type, size) + digest
        if fingerprint:
            crc = binascii.crc32(self._header(len(body) + 8) + body) ^ _FINGERPRINT_XOR
            body += struct.pack("!HHI", FINGERPRINT.type, 4, crc)
        return self._header(len(body)) + body

    def _header(self, size: int) -> bytes:
        method = self.method
        kind = (method & 0xF80) << 2 | (method & 0x070) << 1 | (method & 0x00F) | self.kind
        return struct.pack("!HHI", kind, size, MAGIC_COOKIE) + self.transaction_id

    def verify(self, key: bytes) -> bool:
        """Whether the message as received carries a valid MESSAGE-INTEGRITY(-SHA256) under `key`."""
        if not self.integrity_at:
            return False
        at = self.integrity_at
        type_, size = struct.unpack_from("!HH", self.raw, at)
        algorithm = "sha256" if type_ == MESSAGE_INTEGRITY_SHA256.type else "sha1"
        covered = self.raw[:2] + struct.pack("!H", at + 4 + size - HEADER_SIZE) + self.raw[4:at]
        return hmac.compare_digest(hmac.digest(key, covered, algorithm), self.raw[at + 4 : at + 4 + size])


_METHODS = {int(method): method for method in Method}
_CLASSES = {int(kind): kind for kind in Class}


def is_stun(data: bytes) -> bool:
    """Whether these bytes can be a STUN message: top bits 00, the magic cookie, a length that fits."""
    return (
        len(data) >= HEADER_SIZE
        and data[0] < 0x40
        and data[4:8] == b"\x21\x12\xa4\x42"
        and not data[3] & 3
        and len(data) == HEADER_SIZE + (data[2] << 8 | data[3])
    )


def decode(data: bytes) -> Message:
    """Read one STUN message. Raises MalformedMessage for anything else, a wrong FINGERPRINT included.

    What follows MESSAGE-INTEGRITY is ignored, but for the stronger integrity and the fingerprint (section 14.5).
    """
    if not is_stun(data):
        raise MalformedMessage("These bytes are not a STUN message.")
    word = data[0] << 8 | data[1]
    method = _METHODS.get((word & 0x3E00) >> 2 | (word & 0x00E0) >> 1 | (word & 0x000F))
    if method is None:
        raise MalformedMessage("The STUN method is unknown.")
    transaction_id = data[8:HEADER_SIZE]

    attributes: list[tuple[Attribute[Any], Any]] = []
    unknown: list[int] = []
    integrity_at = 0
    sealed = 0  # 0 open, 1 after MESSAGE-INTEGRITY, 2 after MESSAGE-INTEGRITY-SHA256
    at = HEADER_SIZE
    end = len(data)
    count = 0
    while at < end:  # both are multiples of four, so a header of four bytes and the padding always fit
        count += 1
        if count > MAX_ATTRIBUTES:
            raise MalformedMessage("A STUN message has too many attributes.")
        type_ = data[at] << 8 | data[at + 1]
        size = data[at + 2] << 8 | data[at + 3]
        value_at = at + 4
        if end - value_at < size:
            raise MalformedMessage("An attribute is cut short.")
        following = value_at + size + (-size % 4)
        attribute = BY_TYPE.get(type_)
        if attribute is FINGERPRINT:
            value = FINGERPRINT.unpack(data[value_at : value_at + size], transaction_id)
            if following != end or value != binascii.crc32(data[:at]) ^ _FINGERPRINT_XOR:
                raise MalformedMessage("The FINGERPRINT is wrong.")
            attributes.append((FINGERPRINT, value))
        elif sealed == 0 or (sealed == 1 and attribute is MESSAGE_INTEGRITY_SHA256):
            if attribute is None:
                if type_ < 0x8000:
                    unknown.append(type_)
            else:
                attributes.append((attribute, attribute.unpack(data[value_at : value_at + size], transaction_id)))
                if attribute is MESSAGE_INTEGRITY or attribute is MESSAGE_INTEGRITY_SHA256:
                    integrity_at = at
                    sealed = 1 if attribute is MESSAGE_INTEGRITY else 2
        at = following
    return Message(
        method, _CLASSES[word & 0x0110], transaction_id, tuple(attributes), tuple(unknown), data, integrity_at
    )


def long_term_key(username: str, realm: str, password: str, *, sha256: bool = False) -> bytes:
    """The key of the long-term credential mechanism (RFC 8489 sections 9.2.2 and 18.5.1)."""
    text = f"{username}:{opaque_string(realm)}:{opaque_string(password)}"
    data = text.encode(errors="surrogatepass")  # an encoding error would quote the password
    return hashlib.sha256(data).digest() if sha256 else hashlib.md5(data, usedforsecurity=False).digest()


def opaque_string(text: str) -> str:
    """The OpaqueString profile (RFC 8265, section 4.2.2): other spaces become a space, then NFC."""
    return unicodedata.normalize("NFC", "".join(" " if unicodedata.category(c) == "Zs" else c for c in text))
