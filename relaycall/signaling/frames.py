"""What a client and the server say to each other: frames of a fixed layout, the same over WebSocket and HTTP.

Each kind has one length, whatever it holds, so that the length tells its kind and no more. Integers are big-endian.

    client   CLAIM        1 | name length 1 | name 255 | session 16 | public key 32 | nonce 32 | signature 64
             SEND         2 | number 4 | mailbox 32 | envelope 4096
             ACKNOWLEDGE  3 | envelope id 32
             RECEIVE      4 | cursor 16                                   (HTTP: what comes after this?)
             nameplate    5, 6 or 7 | number 4 | nameplate 4              (allocate one, claim this one, release ours)
    server   CHALLENGE  129 | nonce 32 | epoch 16
             OPENED     130 | token 88
             ANSWER     131 | number 4 | verdict 1 | retry after 4, ms
             DELIVER    132 | cursor 16 | again 1 | envelope 4096
             NOTHING    133 | zeros, as long as DELIVER                   (HTTP: nothing came in time)
             NAMEPLATE  134 | number 4 | outcome 1 | retry after 4, ms | nameplate 4 | mailbox 32

What a frame has no use for is zero.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from relaycall.errors import MalformedMessage
from relaycall.signaling.base import ENVELOPE_SIZE, MAILBOX_SIZE

PROTOCOL = "relaycall.1"  # the WebSocket subprotocol, and the HTTP header Relaycall-Signaling
NONCE_SIZE = 32
EPOCH_SIZE = 16
SESSION_SIZE = 16
TOKEN_SIZE = 88
CURSOR_SIZE = 16
START = bytes(CURSOR_SIZE)  # the cursor before the first envelope
MAX_NAME = 255
MAX_NAMEPLATE = 2**32 - 1
NO_MAILBOX = bytes(MAILBOX_SIZE)

_CLAIM = struct.Struct("!BB255s16s32s32s64s")
_SEND = struct.Struct(f"!BI32s{ENVELOPE_SIZE}s")
_ACKNOWLEDGE = struct.Struct("!B32s")
_RECEIVE = struct.Struct("!B16s")
_CHALLENGE = struct.Struct("!B32s16s")
_OPENED = struct.Struct("!B88s")
_ANSWER = struct.Struct("!BIBI")
_DELIVER = struct.Struct(f"!B16sB{ENVELOPE_SIZE}s")
_NAMEPLATE_REQUEST = struct.Struct("!BII")
_NAMEPLATE_ANSWER = struct.Struct("!BIBII32s")

MAX_FRAME = _SEND.size  # of a client's
MAX_REPLY = _DELIVER.size  # of the server's


class Verdict(enum.IntEnum):
    """What became of an envelope that was sent."""

    TAKEN = 0
    MAILBOX_FULL = 1
    RATE_LIMITED = 2
    BUSY = 3


class NameplateAction(enum.IntEnum):
    """What is to be done with a nameplate; the kind of the frame that asks for it."""

    ALLOCATE = 5  # give our mailbox one
    CLAIM = 6  # take this one away, and say whose it was
    RELEASE = 7  # take ours away


class NameplateOutcome(enum.IntEnum):
    """What became of that."""

    DONE = 0
    UNKNOWN = 1  # nobody has that nameplate
    RATE_LIMITED = 2
    BUSY = 3


class CloseCode(enum.IntEnum):
    """With what the server ends a WebSocket (RFC 6455, section 7.4)."""

    RESTART = 1012  # the reason is when to come back, "retry=MS"
    MALFORMED = 4400
    REFUSED = 4401  # the proof does not hold
    MISNAMED = 4403
    TOO_SLOW = 4408  # the claim did not come in time
    REPLACED = 4409
    RATE_LIMITED = 4429


class Claim(NamedTuple):
    """Client: this mailbox is mine."""

    name: str
    session: bytes
    public: bytes
    nonce: bytes
    signature: bytes

    def encode(self) -> bytes:
        name = self.name.encode()
        return _CLAIM.pack(1, len(name), name, self.session, self.public, self.nonce, self.signature)


class Send(NamedTuple):
    """Client: put this into that mailbox. The answer has the same number."""

    number: int
    mailbox: bytes
    envelope: bytes

    def encode(self) -> bytes:
        return _SEND.pack(2, *self)


class Acknowledge(NamedTuple):
    """Client: I have it, forget it."""

    id: bytes

    def encode(self) -> bytes:
        return _ACKNOWLEDGE.pack(3, *self)


class Receive(NamedTuple):
    """Client, by HTTP: give me what comes after this."""

    cursor: bytes

    def encode(self) -> bytes:
        return _RECEIVE.pack(4, *self)


class NameplateRequest(NamedTuple):
    """Client: do this with a nameplate. The answer has the same number, and so has the request when it is repeated."""

    number: int
    action: NameplateAction
    nameplate: int

    def encode(self) -> bytes:
        return _NAMEPLATE_REQUEST.pack(self.action, self.number, self.nameplate)


class Challenge(NamedTuple):
    """Server: prove it, with this. The epoch is another one when the server has forgotten what it held."""

    nonce: bytes
    epoch: bytes

    def encode(self) -> bytes:
        return _CHALLENGE.pack(129, *self)


class Opened(NamedTuple):
    """Server: it is yours. The token says so in requests of HTTP."""

    token: bytes

    def encode(self) -> bytes:
        return _OPENED.pack(130, *self)


class Answer(NamedTuple):
    """Server: what became of an envelope. `retry_ms`: after how long to try again, or 0."""

    number: int
    verdict: Verdict
    retry_ms: int

    def encode(self) -> bytes:
        return _ANSWER.pack(131, *self)


class Deliver(NamedTuple):
    """Server: an envelope for you. `again`: an earlier session was given it."""

    cursor: bytes
    again: bool
    envelope: bytes

    def encode(self) -> bytes:
        return _DELIVER.pack(132, *self)


class Nothing(NamedTuple):
    """Server, by HTTP: nothing came."""

    def encode(self) -> bytes:
        return b"\x85" + bytes(MAX_REPLY - 1)


class NameplateAnswer(NamedTuple):
    """Server: the nameplate that was allocated, or the mailbox whose it was, or why not."""

    number: int
    outcome: NameplateOutcome
    retry_ms: int
    nameplate: int
    mailbox: bytes

    def encode(self) -> bytes:
        return _NAMEPLATE_ANSWER.pack(134, *self)


ClientFrame = Claim | Send | Acknowledge | Receive | NameplateRequest
ServerFrame = Challenge | Opened | Answer | Deliver | Nothing | NameplateAnswer


def decode_client(data: bytes) -> ClientFrame:
    """A client's frame. Raises MalformedMessage."""
    kind = data[0] if data else 0
    if kind == 2 and len(data) == _SEND.size:
        return Send(*_SEND.unpack(data)[1:])
    if kind == 3 and len(data) == _ACKNOWLEDGE.size:
        return Acknowledge(data[1:])
    if kind == 4 and len(data) == _RECEIVE.size:
        return Receive(data[1:])
    if kind == 1 and len(data) == _CLAIM.size:
        _, length, name, *rest = _CLAIM.unpack(data)
        if length and not any(name[length:]) and all(0x21 <= byte < 0x7F for byte in name[:length]):
            return Claim(name[:length].decode(), *rest)
    if kind in (5, 6, 7) and len(data) == _NAMEPLATE_REQUEST.size:
        _, number, nameplate = _NAMEPLATE_REQUEST.unpack(data)
        if bool(nameplate) is (kind == NameplateAction.CLAIM):
            return NameplateRequest(number, NameplateAction(kind), nameplate)
    raise MalformedMessage("A signaling frame of the client is malformed.")


def decode_server(data: bytes) -> ServerFrame:
    """The server's frame. Raises MalformedMessage."""
    kind = data[0] if data else 0
    if kind == 132 and len(data) == _DELIVER.size:
        _, cursor, again, envelope = _DELIVER.unpack(data)
        if again in (0, 1):
            return Deliver(cursor, bool(again), envelope)
    if kind == 131 and len(data) == _ANSWER.size:
        _, number, verdict, retry_ms = _ANSWER.unpack(data)
        if verdict <= max(Verdict):
            return Answer(number, Verdict(verdict), retry_ms)
    if kind == 133 and len(data) == MAX_REPLY and not any(data[1:]):
        return Nothing()
    if kind == 129 and len(data) == _CHALLENGE.size:
        return Challenge(*_CHALLENGE.unpack(data)[1:])
    if kind == 130 and len(data) == _OPENED.size:
        return Opened(data[1:])
    if kind == 134 and len(data) == _NAMEPLATE_ANSWER.size:
        _, number, outcome, retry_ms, nameplate, mailbox = _NAMEPLATE_ANSWER.unpack(data)
        if outcome <= max(NameplateOutcome):
            return NameplateAnswer(number, NameplateOutcome(outcome), retry_ms, nameplate, mailbox)
    raise MalformedMessage("A signaling frame of the server is malformed.")
