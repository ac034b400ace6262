"""Long-term keys: who we are.

Three keys, each for one thing, so that no use of one can be taken for a use of another: Ed25519 signs (RFC 8032),
X25519 agrees (RFC 7748), and one more Ed25519 key owns the mailbox. The first two are what a contact knows us by. The
mailbox key proves whose the mailbox is: to the signaling server, which cannot tell the others from it, and in our card.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from relaycall.errors import IdentityDamaged

KEY_SIZE = 32  # bytes: each public key, each private one, each shared secret
SIGNATURE_SIZE = 64  # bytes
SECRET_SIZE = 3 * KEY_SIZE  # bytes of a whole identity, kept

_FINGERPRINT = b"relaycall fingerprint 1\0"
_FIELD = 2**255 - 19
_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y of the eight points of small order: under such a key anybody can sign (RFC 8032, section 5.1; OpenSSL takes it).
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What others know somebody by.

    Attributes:
        signing: Ed25519 public key, 32 bytes.
        agreement: X25519 public key, 32 bytes.
    """

    signing: bytes
    agreement: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != KEY_SIZE or len(self.agreement) != KEY_SIZE:
            raise ValueError("a public key has 32 bytes")

    def __repr__(self) -> str:
        return f"<identity {self.fingerprint[:9]}>"

    def encode(self) -> bytes:
        """Both keys, 64 bytes."""
        return self.signing + self.agreement

    @property
    def fingerprint(self) -> str:
        """SHA-256 of both keys, the first 16 bytes in hex, in groups of four."""
        digits = hashlib.sha256(_FINGERPRINT + self.encode()).hexdigest()[:32]
        return " ".join(digits[at : at + 4] for at in range(0, 32, 4))

    def verifies(self, domain: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this is their signature over the message, made for this domain."""
        return is_signed(self.signing, domain, message, signature)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key that proves whose a mailbox is: a `relaycall.signaling.keys.MailboxKey`."""

    _private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)


class Identity:
    """Our own long-term keys.

    Args:
        secret: 96 bytes: the private keys for signing, agreement and the mailbox, of 32 bytes each.

    Attributes:
        public: what others know us by.
        mailbox_key: proves whose our mailbox is.

    Raises:
        IdentityDamaged: another size.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise IdentityDamaged
        signing, agreement, mailbox = (secret[at : at + KEY_SIZE] for at in range(0, SECRET_SIZE, KEY_SIZE))
        self._secret = secret
        self._signing = Ed25519PrivateKey.from_private_bytes(signing)
        self._agreement = X25519PrivateKey.from_private_bytes(agreement)
        self.mailbox_key = SigningKey(Ed25519PrivateKey.from_private_bytes(mailbox))
        self.public = PublicIdentity(
            self._signing.public_key().public_bytes_raw(), self._agreement.public_key().public_bytes_raw()
        )

    def __repr__(self) -> str:
        return f"<our {self.public!r}>"

    def reveal(self) -> bytes:
        """The 96 secret bytes, for the one place that keeps them."""
        return self._secret

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """Our signature, 64 bytes. `domain`: what for, so that it can be taken for nothing else."""
        return self._signing.sign(_signed(domain, message))

    def sign_for_mailbox(self, domain: bytes, message: bytes) -> bytes:
        """The same by our mailbox key, 64 bytes."""
        return self.mailbox_key.sign(_signed(domain, message))

    def agree(self, public: bytes) -> bytes:
        """The X25519 secret shared with the holder of a public key, 32 bytes (RFC 7748, section 6.1).

        Raises:
            ValueError: the key gives the same secret to everybody (a point of low order), or has another size.
        """
        return self._agreement.exchange(X25519PublicKey.from_public_bytes(public))

    def agreement_key(self) -> X25519PrivateKey:
        """The private key itself, for opening an introduction by HPKE."""
        return self._agreement


def is_signed(public: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of an Ed25519 key has signed the message for this domain. Never under a key of small order."""
    y = int.from_bytes(public, "little") % 2**255
    if y % _FIELD in _SMALL_ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed(domain, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(domain: bytes, message: bytes) -> bytes:
    return domain + b"\0" + message
