"""What two phones say to each other until they hear each other, and the layout of each message. Without I/O.

    kind               body
     1 introduction    our card                                  to who has no prekey of ours, and whose we lack
     2 welcome         our card                                  the answer; prekeys come with the envelopes
     3 code needed     nothing                                   the answer to a stranger who needs a one-time code
    16 offer           card length 2 | card | offer
    17 ringing         call id 16
    18 answer          call id 16 | answer
    19 confirm         call id 16 | confirm
    20 declined        call id 16
    21 busy            call id 16
    22 cancelled       call id 16
    23 hung up         call id 16 | tag 32                       HMAC-SHA256 by the call's key of this direction
    32 description     description record                        for peers that use DTLS; no phone takes it

Offer, answer and confirm are those of the handshake. Each message travels in an envelope of its own, signed by its
sender; one about a call counts if its sender is the other side of that call.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct

from relaycall.errors import HandshakeRefused
from relaycall.identity.handshake import CALL_ID_SIZE

TAG_SIZE = 32
_LENGTH = struct.Struct("!H")


class Kind(enum.IntEnum):
    """What a message is."""

    INTRODUCTION = 1
    WELCOME = 2
    CODE_NEEDED = 3
    OFFER = 16
    RINGING = 17
    ANSWER = 18
    CONFIRM = 19
    DECLINED = 20
    BUSY = 21
    CANCELLED = 22
    HUNG_UP = 23
    DESCRIPTION = 32


def offer_body(card: bytes, offer: bytes) -> bytes:
    """An offer with the card that says where the answer goes."""
    return _LENGTH.pack(len(card)) + card + offer


def read_offer(body: bytes) -> tuple[bytes, bytes]:
    """Card and offer. Raises HandshakeRefused if they are not there."""
    if len(body) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        if end <= len(body):
            return body[_LENGTH.size : end], body[end:]
    raise HandshakeRefused("the offer has the wrong length")


def read_call_id(body: bytes) -> tuple[bytes, bytes]:
    """The id of the call that a message is about, and the rest. Raises HandshakeRefused if it is too short."""
    if len(body) < CALL_ID_SIZE:
        raise HandshakeRefused("a message about a call is too short")
    return body[:CALL_ID_SIZE], body[CALL_ID_SIZE:]


def tag(key: bytes, call_id: bytes) -> bytes:
    """What proves that a call was hung up by who holds the key of this direction."""
    return hmac.digest(key, b"relaycall hung up 1\0" + call_id, hashlib.sha256)


def is_tag(key: bytes, call_id: bytes, found: bytes) -> bool:
    """Whether that is the tag; never with a key that is erased."""
    return bool(key) and hmac.compare_digest(tag(key, call_id), found)
