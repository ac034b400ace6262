"""Contact cards: what somebody hands out so that others can reach them and know them. Without I/O.

A card is a MessagePack array, decoded with strict types, lengths and ranges, in the one encoding that is canonical:

    [ version 1, serial, name, signing key, agreement key, mailbox key, signaling URL, created, signature, proof ]

Signature and proof are Ed25519's, by the signing key and the mailbox key in it, both over everything before the two. So
a card proves that its parts belong together, and that its mailbox is its owner's: nobody can put that of somebody else
on theirs. It does not prove whose it is: that is for who hands it over, or for comparing safety numbers. A card has no
end; of two cards of the same identity the one with the higher serial holds.

The name is the other person's word. Control characters, what writes from right to left by force and what is invisible
are refused here, but whoever shows a name must still escape it for where it is shown, and mark it as theirs.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relaycall.errors import CardRefused, ConfigError
from relaycall.identity.keys import KEY_SIZE, SIGNATURE_SIZE, Identity, PublicIdentity, is_signed
from relaycall.identity.prekeys import is_agreement_key
from relaycall.signaling.armor import armor, dearmor
from relaycall.signaling.keys import mailbox_of

MAX_CARD = 711  # bytes
MAX_NAME = 64  # characters
MAX_URL = 200  # characters
MAX_SERIAL = 2**32 - 1
MAX_TIME = 2**40 - 1  # seconds since 1970

_VERSION: Literal[1] = 1
_SIGNED = b"relaycall card signature 1"
_PROVED = b"relaycall card mailbox 1"
_SIGNATURES_SIZE = 2 * (2 + SIGNATURE_SIZE)  # both, each behind its type and length
# Letters and marks that are drawn as nothing: fillers, joiners, selectors of variants.
_INVISIBLE = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:[!-?A-~]*")  # printable ASCII without spaces and @

Key = Annotated[bytes, Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Signature = Annotated[bytes, Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class Card(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What somebody hands out.

    Attributes:
        serial: 1 or more; rises whenever the card changes.
        name: what they call themselves, 1 to 64 characters.
        signing, agreement: the keys of their identity, 32 bytes each.
        mailbox_key: the key that owns their mailbox, 32 bytes.
        signaling: the URL of the server that has the mailbox, at most 200 characters.
        created: seconds since 1970, by their clock.
        signature: by their signing key, 64 bytes.
        proof: by their mailbox key, 64 bytes.
    """

    version: Literal[1]
    serial: Annotated[int, Meta(ge=1, le=MAX_SERIAL)]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    signing: Key
    agreement: Key
    mailbox_key: Key
    signaling: Annotated[str, Meta(min_length=2, max_length=MAX_URL)]
    created: Annotated[int, Meta(ge=0, le=MAX_TIME)]
    signature: Signature
    proof: Signature

    @classmethod
    def make(cls, identity: Identity, *, serial: int, name: str, signaling: str, created: int) -> Card:
        """Our own. The same arguments always give the same card.

        Raises:
            ConfigError: the name, the URL or a number cannot stand in a card.
        """
        fault = name_fault(name) or url_fault(signaling)
        if not fault and not (1 <= serial <= MAX_SERIAL and 0 <= created <= MAX_TIME):
            fault = "its serial or its time is out of range"
        if fault:
            raise ConfigError(f"This cannot be a contact card: {fault}.")
        card = cls(
            version=_VERSION,
            serial=serial,
            name=name,
            signing=identity.public.signing,
            agreement=identity.public.agreement,
            mailbox_key=identity.mailbox_key.public,
            signaling=signaling,
            created=created,
            signature=bytes(SIGNATURE_SIZE),
            proof=bytes(SIGNATURE_SIZE),
        )
        signed = card._signed()
        return msgspec.structs.replace(
            card, signature=identity.sign(_SIGNED, signed), proof=identity.sign_for_mailbox(_PROVED, signed)
        )

    def __repr__(self) -> str:
        return f"<card {self.serial} of {self.identity!r}>"

    @property
    def identity(self) -> PublicIdentity:
        """Whose it is."""
        return PublicIdentity(self.signing, self.agreement)

    @property
    def mailbox(self) -> bytes:
        """Where envelopes for them go, 32 bytes."""
        return mailbox_of(self.mailbox_key)

    def encode(self) -> bytes:
        """The card as bytes; the same card gives the same bytes."""
        return msgspec.msgpack.encode(self)

    def _signed(self) -> bytes:
        return self.encode()[:-_SIGNATURES_SIZE]

    def _fault(self) -> str | None:
        """Which rule it breaks that its types do not hold."""
        fault = name_fault(self.name) or url_fault(self.signaling)
        if fault:
            return fault
        signed = self._signed()
        if not self.identity.verifies(_SIGNED, signed, self.signature):
            return "it is not signed by its own key"
        if not is_signed(self.mailbox_key, _PROVED, signed, self.proof):
            return "its mailbox is not proved"
        if not is_agreement_key(self.agreement):
            return "its agreement key is not one"
        return None


_decoder = msgspec.msgpack.Decoder(Card)


def decode_card(data: bytes) -> Card:
    """Read and verify somebody's card.

    Raises:
        CardRefused: names the rule it breaks, never a value.
    """
    if len(data) > MAX_CARD:
        raise CardRefused(f"it is longer than {MAX_CARD} bytes")
    if len(data) > 1 and data[0] >> 4 == 9 and _VERSION < data[1] < 128:  # an array, and a small number
        raise CardRefused("it is of a version that this relaycall does not know")
    try:
        card = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CardRefused("it is not a card") from None
    if card.encode() != data:
        raise CardRefused("it is not encoded as the rules say")
    fault = card._fault()
    if fault:
        raise CardRefused(fault)
    return card


def card_to_text(card: Card) -> str:
    """The card for a file, a chat or a QR code: one line."""
    return armor("card", card.encode())


def card_from_text(text: str) -> Card:
    """The card in what somebody pasted.

    Raises:
        TextRefused: the text is cut short, altered, or of another kind; says which.
        CardRefused: the text is whole, and the card in it breaks a rule.
    """
    return decode_card(dearmor("card", text))


def name_fault(name: str) -> str | None:
    """Why this cannot be a name in a card, as half a sentence; None if it can."""
    if not 1 <= len(name) <= MAX_NAME:
        return f"its name does not have 1 to {MAX_NAME} characters"
    if not name.isprintable() or _INVISIBLE.search(name):
        return "its name has a character that cannot be seen"
    if not unicodedata.is_normalized("NFC", name):
        return "its name is not in Unicode's form NFC"
    if name.strip() != name or unicodedata.category(name[0]).startswith("M"):
        return "its name begins or ends with a space, or begins with a mark that needs a letter"
    return None


def url_fault(url: str) -> str | None:
    """Why this cannot be the signaling URL in a card, as half a sentence; None if it can."""
    if len(url) > MAX_URL:
        return f"its signaling URL has more than {MAX_URL} characters"
    if not _URL.fullmatch(url):
        return "its signaling URL is not one, or holds a space, an @ or a character beyond ASCII"
    return None
