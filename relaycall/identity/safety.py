"""Safety numbers, by which two people find out that nobody is between them. Without I/O.

The number is made by libsignal's published algorithm for numeric fingerprints. Each person has a half of it:

    h_0 = SHA-512( 0x0000 ‖ key ‖ identifier ‖ key )
    h_i = SHA-512( h_(i-1) ‖ key )                      5199 times more

of which the first 30 bytes are 30 digits, five for each five bytes, and the first 32 go into a QR code. Both halves are
shown in one order on both sides. Here the key is all of a `PublicIdentity`, 64 bytes, which is its own identifier as
well; so the identifier is a constant that keeps these numbers apart from any other.

A forged key must give the digits of the true one: 2^99 tries of 5200 hashes each. Nothing has to be kept secret.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass

from relaycall.identity.keys import PublicIdentity
from relaycall.identity.words import bytes_to_words

ITERATIONS = 5200
IDENTIFIER = b"relaycall identity 1"
QR_VERSION = 1

_HALF = 32  # bytes that are kept of each half
_WORDS = 12  # bytes of each half that are said as words: 96 bits
_SPOKEN = b"relaycall spoken check 1\0"
_SPOKEN_WORDS = 4


class Scan(enum.Enum):
    """What a scanned QR code says.

    MATCH: the same two people, seen from the other side: nobody is between them.
    MISMATCH: other keys: somebody may be between them, or it is another contact's.
    OWN: it is the code that we show ourselves.
    OTHER: it is no safety number of this version.
    """

    MATCH = "match"
    MISMATCH = "mismatch"
    OWN = "own"
    OTHER = "other"


def fingerprint_half(key: bytes, identifier: bytes) -> bytes:
    """libsignal's fingerprint of one person, of which 32 bytes are used."""
    digest = hashlib.sha512(b"\0\0" + key + identifier + key).digest()
    for _ in range(ITERATIONS - 1):
        digest = hashlib.sha512(digest + key).digest()
    return digest[:_HALF]


@dataclass(frozen=True, slots=True)
class SafetyNumber:
    """The safety number of two people, from one's side. Made in a few milliseconds by `safety_number`.

    Attributes:
        ours, theirs: their halves, 32 bytes each.
    """

    ours: bytes
    theirs: bytes

    @property
    def digits(self) -> str:
        """60 digits in 12 groups of five, the same on both sides."""
        first, second = sorted((_digits(self.ours), _digits(self.theirs)))
        return " ".join((first + second)[at : at + 5] for at in range(0, 60, 5))

    @property
    def words(self) -> tuple[str, ...]:
        """24 words, the same on both sides: 96 bits of each half, where the digits have 99."""
        first, second = sorted((self.ours, self.theirs))
        return bytes_to_words(first[:_WORDS] + second[:_WORDS])

    def qr(self, version: int = QR_VERSION) -> bytes:
        """What our QR code holds for them to scan, 74 bytes: libsignal's CombinedFingerprints (Protocol Buffers)."""
        head = bytes((0x08, version))
        return head + b"\x12\x22\x0a\x20" + self.ours + b"\x1a\x22\x0a\x20" + self.theirs

    def compare(self, scanned: bytes) -> Scan:
        """What the bytes of their QR code say."""
        swapped = SafetyNumber(self.theirs, self.ours)
        if hmac.compare_digest(scanned, swapped.qr()):
            return Scan.MATCH
        if hmac.compare_digest(scanned, self.qr()):
            return Scan.OWN
        if _is_qr(scanned):
            return Scan.MISMATCH
        return Scan.OTHER


def safety_number(ours: PublicIdentity, theirs: PublicIdentity) -> SafetyNumber:
    """The safety number of us and somebody else."""
    return SafetyNumber(
        fingerprint_half(ours.encode(), IDENTIFIER),
        fingerprint_half(theirs.encode(), IDENTIFIER),
    )


def spoken_check(secret: bytes) -> str:
    """Four words for both to read out in a call: if they are the same, so is the key of the call.

    They are 32 bits. The handshake binds each side to its part of the secret before it sees the other's, by a
    commitment, so who is in between cannot try values until the words agree: he has one guess in 4,294,967,296 for
    each call, and a wrong one is heard.

    Args:
        secret: 32 bytes from the handshake, made for this alone.
    """
    if len(secret) != 32:
        raise ValueError("the secret has 32 bytes")
    return "-".join(bytes_to_words(hashlib.sha256(_SPOKEN + secret).digest()[:_SPOKEN_WORDS]))


def _digits(half: bytes) -> str:
    return "".join(f"{int.from_bytes(half[at : at + 5]) % 100_000:05}" for at in range(0, 30, 5))


def _is_qr(scanned: bytes) -> bool:
    shape = SafetyNumber(bytes(_HALF), bytes(_HALF)).qr()
    fields = (slice(0, 6), slice(38, 42))
    return len(scanned) == len(shape) and all(scanned[field] == shape[field] for field in fields)
