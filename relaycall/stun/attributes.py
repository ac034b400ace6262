"""The attributes of STUN, TURN and ICE: one table, each with the type of its value.

An attribute is called to pair it with a value, `LIFETIME(600)`, and handed to `Message.get` to read it back typed.
Sources: RFC 8489 section 14, RFC 8656 section 18, RFC 6062, RFC 8445 section 16.1; NOMINATION as libwebrtc sends it.
MEDIA-HERE is relaycall's own.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from relaycall.errors import MalformedMessage
from relaycall.stun.address import IPV4, IPV6, Address

T = TypeVar("T")

MAGIC_COOKIE = 0x2112A442
_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")


class Attribute(Generic[T]):
    """One attribute type: its number, its name, and how its value is written and read.

    `pack(value, transaction_id)` and `unpack(data, transaction_id)`: the id is what IPv6 addresses are XORed with.
    """

    __slots__ = ("name", "pack", "type", "unpack")

    def __init__(
        self, type_: int, name: str, pack: Callable[[T, bytes], bytes], unpack: Callable[[bytes, bytes], T]
    ) -> None:
        self.type = type_
        self.name = name
        self.pack = pack
        self.unpack = unpack
        if type_ in BY_TYPE:
            raise ValueError(f"attribute 0x{type_:04x} is defined twice")
        BY_TYPE[type_] = self

    def __call__(self, value: T) -> tuple[Attribute[Any], Any]:
        return self, value

    def __repr__(self) -> str:
        return self.name


BY_TYPE: dict[int, Attribute[Any]] = {}


class ErrorCode(NamedTuple):
    """The value of ERROR-CODE: a code from 300 to 699 and a reason phrase (never trusted, never shown)."""

    code: int
    reason: str = ""


class Icmp(NamedTuple):
    """The value of ICMP (RFC 8656, section 18.13)."""

    type: int
    code: int
    data: int


class MediaHere(NamedTuple):
    """The value of MEDIA-HERE, relaycall's own: who checks a path asks for media on it.

    `moved`: the sender has left the other path for this one, rather than being in doubt about it. `silent_ms`: for how
    long it has heard nothing there, so that what was sent meanwhile can be sent again.
    """

    moved: bool
    silent_ms: int


class PasswordAlgorithm(NamedTuple):
    """One entry of PASSWORD-ALGORITHMS: 1 MD5, 2 SHA-256."""

    algorithm: int
    parameters: bytes = b""


def _exactly(data: bytes, size: int, name: str) -> bytes:
    if len(data) != size:
        raise MalformedMessage(f"{name} has the wrong length.")
    return data


def _u32(type_: int, name: str) -> Attribute[int]:
    return Attribute(
        type_, name, lambda value, _: value.to_bytes(4, "big"), lambda d, _: int.from_bytes(_exactly(d, 4, name), "big")
    )


def _u64(type_: int, name: str) -> Attribute[int]:
    return Attribute(
        type_, name, lambda value, _: value.to_bytes(8, "big"), lambda d, _: int.from_bytes(_exactly(d, 8, name), "big")
    )


def _first(type_: int, name: str, size: int, shift: int = 0) -> Attribute[int]:
    """A number of `size` bytes, then reserved bytes up to four."""
    return Attribute(
        type_,
        name,
        lambda value, _: (value << shift).to_bytes(size, "big") + bytes(4 - size),
        lambda d, _: int.from_bytes(_exactly(d, 4, name)[:size], "big") >> shift,
    )


def _flag(type_: int, name: str) -> Attribute[None]:
    def unpack(data: bytes, _: bytes) -> None:
        _exactly(data, 0, name)

    return Attribute(type_, name, lambda _value, _: b"", unpack)


def _data(type_: int, name: str, low: int = 0, high: int = 65535) -> Attribute[bytes]:
    def pack(value: bytes, _: bytes) -> bytes:
        if not low <= len(value) <= high:
            raise ValueError(f"{name} has the wrong length")
        return value

    def unpack(data: bytes, _: bytes) -> bytes:
        if not low <= len(data) <= high:
            raise MalformedMessage(f"{name} has the wrong length.")
        return data

    return Attribute(type_, name, pack, unpack)


def _text(type_: int, name: str, limit: int) -> Attribute[str]:
    def pack(value: str, _: bytes) -> bytes:
        data = value.encode()
        if len(data) > limit:
            raise ValueError(f"{name} is longer than {limit} bytes")
        return data

    def unpack(data: bytes, _: bytes) -> str:
        if len(data) > limit:
            raise MalformedMessage(f"{name} is too long.")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise MalformedMessage(f"{name} is not UTF-8.") from None

    return Attribute(type_, name, pack, unpack)


def _xor(data: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(data), "big")


def _pack_address(value: Address, mask: bytes) -> bytes:
    packed = ipaddress.ip_address(value.host).packed
    return bytes((0, value.family)) + _xor(value.port.to_bytes(2, "big"), mask[:2]) + _xor(packed, mask[: len(packed)])


def _unpack_address(data: bytes, mask: bytes, name: str) -> Address:
    if len(data) < 4 or (data[1], len(data)) not in ((IPV4, 8), (IPV6, 20)):
        raise MalformedMessage(f"{name} is not an address.")
    port = int.from_bytes(_xor(data[2:4], mask[:2]), "big")
    return Address(str(ipaddress.ip_address(_xor(data[4:], mask[: len(data) - 4]))), port)


_NO_MASK = bytes(16)


def _address(type_: int, name: str) -> Attribute[Address]:
    return Attribute(
        type_, name, lambda value, _: _pack_address(value, _NO_MASK), lambda d, _: _unpack_address(d, _NO_MASK, name)
    )


def _xor_address(type_: int, name: str) -> Attribute[Address]:
    return Attribute(
        type_,
        name,
        lambda value, tid: _pack_address(value, _COOKIE_BYTES + tid),
        lambda d, tid: _unpack_address(d, _COOKIE_BYTES + tid, name),
    )


def _pack_error(value: ErrorCode, _: bytes) -> bytes:
    return bytes((0, 0, value.code // 100, value.code % 100)) + value.reason.encode()[:763]


def _unpack_error(data: bytes, _: bytes) -> ErrorCode:
    if not 4 <= len(data) <= 4 + 763:
        raise MalformedMessage("ERROR-CODE has the wrong length.")
    hundreds, number = data[2] & 0x07, data[3]
    if not 3 <= hundreds <= 6 or number > 99:
        raise MalformedMessage("ERROR-CODE is out of range.")
    return ErrorCode(hundreds * 100 + number, data[4:].decode(errors="replace"))


def _pack_address_error(value: tuple[int, ErrorCode], tid: bytes) -> bytes:
    family, error = value
    return bytes((family,)) + _pack_error(error, tid)[1:]


def _unpack_address_error(data: bytes, tid: bytes) -> tuple[int, ErrorCode]:
    return data[0] if data else 0, _unpack_error(data, tid)


def _unpack_types(data: bytes, _: bytes) -> tuple[int, ...]:
    if len(data) % 2 or len(data) > 256:
        raise MalformedMessage("UNKNOWN-ATTRIBUTES has the wrong length.")
    return struct.unpack(f"!{len(data) // 2}H", data)


def _pack_algorithm(value: PasswordAlgorithm) -> bytes:
    padding = -len(value.parameters) % 4
    return struct.pack("!HH", value.algorithm, len(value.parameters)) + value.parameters + bytes(padding)


def _unpack_algorithms(data: bytes, _: bytes) -> tuple[PasswordAlgorithm, ...]:
    found: list[PasswordAlgorithm] = []
    at = 0
    while at < len(data):
        if len(data) - at < 4 or len(found) == 16:
            raise MalformedMessage("PASSWORD-ALGORITHMS is malformed.")
        algorithm, size = struct.unpack_from("!HH", data, at)
        if len(data) - at - 4 < size:
            raise MalformedMessage("PASSWORD-ALGORITHMS is malformed.")
        found.append(PasswordAlgorithm(algorithm, data[at + 4 : at + 4 + size]))
        at += 4 + size + (-size % 4)
    return tuple(found)


def _unpack_algorithm(data: bytes, tid: bytes) -> PasswordAlgorithm:
    found = _unpack_algorithms(data, tid)
    if len(found) != 1:
        raise MalformedMessage("PASSWORD-ALGORITHM is malformed.")
    return found[0]


def _pack_media_here(value: MediaHere, _: bytes) -> bytes:
    return struct.pack("!BxH", value.moved, value.silent_ms)


def _unpack_media_here(data: bytes, _: bytes) -> MediaHere:
    moved, silent_ms = struct.unpack("!BxH", _exactly(data, 4, "MEDIA-HERE"))
    return MediaHere(bool(moved & 1), silent_ms)


def _unpack_icmp(data: bytes, _: bytes) -> Icmp:
    _exactly(data, 8, "ICMP")
    kind = int.from_bytes(data[2:4], "big")
    return Icmp(kind >> 9, kind & 0x1FF, int.from_bytes(data[4:], "big"))


MAPPED_ADDRESS = _address(0x0001, "MAPPED-ADDRESS")
USERNAME = _text(0x0006, "USERNAME", 513)
MESSAGE_INTEGRITY = _data(0x0008, "MESSAGE-INTEGRITY", 20, 20)
ERROR_CODE = Attribute(0x0009, "ERROR-CODE", _pack_error, _unpack_error)
UNKNOWN_ATTRIBUTES: Attribute[tuple[int, ...]] = Attribute(
    0x000A, "UNKNOWN-ATTRIBUTES", lambda value, _: struct.pack(f"!{len(value)}H", *value), _unpack_types
)
CHANNEL_NUMBER = _first(0x000C, "CHANNEL-NUMBER", 2)
LIFETIME = _u32(0x000D, "LIFETIME")
XOR_PEER_ADDRESS = _xor_address(0x0012, "XOR-PEER-ADDRESS")
DATA = _data(0x0013, "DATA")
REALM = _text(0x0014, "REALM", 763)
NONCE = _text(0x0015, "NONCE", 763)
XOR_RELAYED_ADDRESS = _xor_address(0x0016, "XOR-RELAYED-ADDRESS")
REQUESTED_ADDRESS_FAMILY = _first(0x0017, "REQUESTED-ADDRESS-FAMILY", 1)
EVEN_PORT: Attribute[bool] = Attribute(
    0x0018, "EVEN-PORT", lambda value, _: bytes((0x80 * value,)), lambda d, _: bool(_exactly(d, 1, "EVEN-PORT")[0] >> 7)
)
REQUESTED_TRANSPORT = _first(0x0019, "REQUESTED-TRANSPORT", 1)
DONT_FRAGMENT = _flag(0x001A, "DONT-FRAGMENT")
ACCESS_TOKEN = _data(0x001B, "ACCESS-TOKEN", 0, 2048)
MESSAGE_INTEGRITY_SHA256 = _data(0x001C, "MESSAGE-INTEGRITY-SHA256", 32, 32)
PASSWORD_ALGORITHM: Attribute[PasswordAlgorithm] = Attribute(
    0x001D, "PASSWORD-ALGORITHM", lambda value, _: _pack_algorithm(value), _unpack_algorithm
)
USERHASH = _data(0x001E, "USERHASH", 32, 32)
XOR_MAPPED_ADDRESS = _xor_address(0x0020, "XOR-MAPPED-ADDRESS")
RESERVATION_TOKEN = _data(0x0022, "RESERVATION-TOKEN", 8, 8)
PRIORITY = _u32(0x0024, "PRIORITY")
USE_CANDIDATE = _flag(0x0025, "USE-CANDIDATE")
CONNECTION_ID = _u32(0x002A, "CONNECTION-ID")

ADDITIONAL_ADDRESS_FAMILY = _first(0x8000, "ADDITIONAL-ADDRESS-FAMILY", 1)
ADDRESS_ERROR_CODE: Attribute[tuple[int, ErrorCode]] = Attribute(
    0x8001, "ADDRESS-ERROR-CODE", _pack_address_error, _unpack_address_error
)
PASSWORD_ALGORITHMS: Attribute[tuple[PasswordAlgorithm, ...]] = Attribute(
    0x8002,
    "PASSWORD-ALGORITHMS",
    lambda value, _: b"".join(_pack_algorithm(entry) for entry in value),
    _unpack_algorithms,
)
ALTERNATE_DOMAIN = _text(0x8003, "ALTERNATE-DOMAIN", 255)
ICMP: Attribute[Icmp] = Attribute(
    0x8004, "ICMP", lambda v, _: struct.pack("!HHI", 0, v.type << 9 | v.code, v.data), _unpack_icmp
)
SOFTWARE = _text(0x8022, "SOFTWARE", 763)
ALTERNATE_SERVER = _address(0x8023, "ALTERNATE-SERVER")
FINGERPRINT = _u32(0x8028, "FINGERPRINT")
ICE_CONTROLLED = _u64(0x8029, "ICE-CONTROLLED")
ICE_CONTROLLING = _u64(0x802A, "ICE-CONTROLLING")
RESPONSE_ORIGIN = _address(0x802B, "RESPONSE-ORIGIN")
OTHER_ADDRESS = _address(0x802C, "OTHER-ADDRESS")
NOMINATION = _u32(0xC001, "NOMINATION")
MEDIA_HERE = Attribute(0xC0DE, "MEDIA-HERE", _pack_media_here, _unpack_media_here)
