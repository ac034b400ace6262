"""What can be done to an envelope by who cannot open it. All of it gives something that is no envelope for anybody."""

from __future__ import annotations

import random
from collections.abc import Callable

from relaycall.signaling.base import ENVELOPE_SIZE

_RANDOM = random.Random(5)
Alteration = Callable[[bytes, bytes], bytes]  # of an envelope, with another one to the same recipient


def _flip(at: int) -> Alteration:
    def flipped(envelope: bytes, _: bytes) -> bytes:
        changed = bytearray(envelope)
        changed[at] ^= 1 << _RANDOM.randrange(8)
        return bytes(changed)

    return flipped


def _splice(at: int) -> Alteration:
    return lambda envelope, other: envelope[:at] + other[at:]


def _cut(size: int) -> Alteration:
    return lambda envelope, _: envelope[:size].ljust(ENVELOPE_SIZE, b"\0")


ALTERATIONS: dict[str, Alteration] = {
    "a bit of the selector": _flip(0),
    "a bit of the ML-KEM ciphertext": _flip(4),
    "a bit of the X25519 key": _flip(4 + 1088),
    "a bit of the content": _flip(2000),
    "the last bit": lambda envelope, _: envelope[:-1] + bytes([envelope[-1] ^ 1]),
    "the head of one and the content of another": _splice(4 + 1120),
    "halves of two": _splice(ENVELOPE_SIZE // 2),
    "the selector of one and the rest of another": _splice(4),
    "cut, and filled with zeros": _cut(3000),
    "cut by its first byte": lambda envelope, _: envelope[1:] + bytes(1),
    "shorter than an envelope": lambda envelope, _: envelope[:-64],
    "longer than an envelope": lambda envelope, _: envelope + bytes(64),
    "nothing": lambda *_: b"",
    "zeros": lambda *_: bytes(ENVELOPE_SIZE),
    "random bytes": lambda *_: _RANDOM.randbytes(ENVELOPE_SIZE),
}
