"""What is kept of a ratcheted conversation with one person, and which of its sessions is written to. Without I/O.

Each side may begin a session at any time, so there may be two at once: `current`, which we write to, and `previous`,
which we still read. A session that we began is *unanswered* until a message comes in it; as long as it is, whatever we
write in it begins it for who does not know it. Who sends an introduction may have lost the sessions, or have old ones.

    we write, and              there is no session                                      a new one of ours is current
                               we sent an introduction, or one came; but if it came
                               within a minute of another, only if ours is answered     the same
                               ours is unanswered, and their prekey is another now      the same
                               256 messages went out without an answer                  the same
    a message comes in         current                                                  it is answered
                               previous, or a new one with what it takes to begin it:
                                 later than all that came, and current is answered,
                                 to be replaced, or there is none                       it is current
                                 later than all that came, and current is unanswered:
                                 both began at once                                     the lower id is current
                                 earlier                                                it is previous
                               another one                                              refused

Later means a higher counter of the envelope. What was current becomes previous, and the one before that is dropped. So
that its first messages cannot begin it again, `floor` rises to the last counter that came in it. What is not above the
floor when a session begins is not accepted in it either: it may have been, before the session was lost.

    entry      base64 of: checksum 8 | MessagePack array
    array      [ version 1, id of our own identity 32, floor, restart, introduced, current or nil, previous or nil ]
    session    [ id 16, floor, highest counter received, start or nil, ratchet ]
    start      [ ephemeral key 32, id of the prekey 32, secret 32 ]
    ratchet    [ own private key 32, their public key 32, root chain, sending chain, receiving chain or nil,
                 length of the sending chain before or nil, [ skipped chain, … ] ]
    chain      [ length, key 32 ]
    skipped    [ their public key 32, [ [ number, message key 32, skipped at, s ], … ] ]
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from relaycall.errors import IdentityDamaged
from relaycall.identity.card import MAX_TIME, Key
from relaycall.identity.contact import CONTACTS, MAX_COUNTER
from relaycall.identity.envelope import CLOCK_SKEW, MAX_AGE
from relaycall.identity.ratchet_message import CHAIN_LIMIT, SESSION_ID_SIZE, Start
from relaycall.redact import Secret

MAX_SKIPPED = 100  # keys kept for messages that have not come
REPETITION = 60_000_000  # microseconds, which a counter is about: within these an introduction repeats the one before
SKIPPED_LIFETIME = MAX_AGE + 2 * CLOCK_SKEW  # seconds after which no envelope that needs one is accepted any more

_CHECKSUM = b"relaycall ratchet entry 1\0"
_CHECKSUM_SIZE = 8
_MAX_LENGTH = 2**32 - 1
_MAX_TEXT = 16384  # characters

Counter = Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
Length = Annotated[int, Meta(ge=0, le=_MAX_LENGTH)]
Number = Annotated[int, Meta(ge=0, lt=CHAIN_LIMIT)]
SessionId = Annotated[bytes, Meta(min_length=SESSION_ID_SIZE, max_length=SESSION_ID_SIZE)]


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()}>"


class Chain(_Kept, frozen=True):
    """A KDF chain: how many keys were taken from it, and what the next comes from."""

    length: Length
    key: Key


class Skipped(_Kept, frozen=True):
    """The key of a message that has not come yet, and since when, in seconds since 1970."""

    number: Number
    key: Key
    since: Annotated[int, Meta(ge=0, le=MAX_TIME)]


class SkippedChain(_Kept, frozen=True):
    """Those of one chain of theirs, known by their public key."""

    ratchet_key: Key
    keys: Annotated[tuple[Skipped, ...], Meta(min_length=1, max_length=MAX_SKIPPED)]


class Ratchet(_Kept, frozen=True):
    """The state of a double ratchet."""

    own: Key
    theirs: Key
    root: Chain
    sending: Chain
    receiving: Chain | None
    previous_length: Length | None
    skipped: Annotated[tuple[SkippedChain, ...], Meta(max_length=MAX_SKIPPED)]

    def pruned(self, now: float, room: int) -> tuple[Ratchet, int]:
        """With at most so many skipped keys, the newest, and none that is of no use any more; and the room left."""
        chains: list[SkippedChain] = []
        for chain in reversed(self.skipped):
            young = [one for one in chain.keys if now - one.since <= SKIPPED_LIFETIME]
            kept = tuple(young[max(len(young) - room, 0) :])
            room -= len(kept)
            if kept:
                chains.append(SkippedChain(chain.ratchet_key, kept))
        return replace(self, skipped=tuple(reversed(chains))), room


class Session(_Kept, frozen=True):
    """One session.

    Attributes:
        floor: a message with a counter up to this is not accepted in it.
        highest: the highest counter of a message that was.
        start: while it is ours and unanswered.
    """

    id: SessionId
    floor: Counter
    highest: Counter
    start: Start | None
    ratchet: Ratchet


class Conversation(_Kept, frozen=True):
    """All that is kept for one person.

    Attributes:
        own: the id of our identity when it began.
        floor: a message with a counter up to this begins no session.
        restart: the next message that we write begins a session.
        introduced: the counter of the last introduction that was received.
    """

    version: Literal[1]
    own: Key
    floor: Counter
    restart: bool = False
    introduced: Counter = 0
    current: Session | None = None
    previous: Session | None = None

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Those that messages may come in."""
        return tuple(session for session in (self.current, self.previous) if session is not None)

    def must_begin(self, prekey_id: bytes) -> bool:
        """Whether the next message that we write begins a session. `prekey_id`: of their prekey, as we know it now."""
        current = self.current
        if current is None or self.restart:
            return True
        outdated = current.start is not None and current.start.prekey_id != prekey_id
        return outdated or current.ratchet.sending.length >= CHAIN_LIMIT

    def introduced_to(self) -> Conversation:
        """After an introduction of ours: what we have may be an old copy, and would use a key twice."""
        return replace(self, restart=True)

    def introduced_by(self, counter: int) -> Conversation:
        """After an introduction with this counter. What was begun after one that it only repeats is still good."""
        answered = self.current is not None and self.current.start is None
        restart = self.restart or answered or counter - self.introduced > REPETITION
        return replace(self, restart=restart, introduced=max(self.introduced, counter))

    def begun(self, session: Session) -> Conversation:
        """After we have begun this session."""
        return replace(self._with(session, self.current or self.previous), restart=False)

    def written(self, session: Session) -> Conversation:
        """After we have written in the current session."""
        return replace(self, current=session)

    def read(self, session: Session, counter: int) -> Conversation:
        """After a message with this counter came in a session that we know."""
        answered = replace(session, highest=max(session.highest, counter), start=None)
        if self.current is not None and self.current.id == session.id:
            return replace(self, current=answered)
        if self._is_followed(session.id, counter):
            return replace(self, current=answered, previous=self.current)
        return replace(self, previous=answered)

    def joined(self, session: Session, counter: int) -> Conversation:
        """After a message with this counter, above the floor, has begun a session that we did not know."""
        if self._is_followed(session.id, counter):
            return replace(self._with(session, self.current or self.previous), restart=False)
        return self._with(self.current, session)

    def _is_followed(self, session_id: bytes, counter: int) -> bool:
        """Whether we write to the session in which this came, and which is not the current one, from now on."""
        current = self.current
        if counter < max(self.introduced, *(session.highest for session in self.sessions), 0):
            return False
        return current is None or current.start is None or self.restart or session_id < current.id

    def pruned(self, now: float) -> Conversation:
        """Without the skipped keys that are of no use any more, or too many."""
        room = MAX_SKIPPED
        sessions: list[Session] = []
        for session in self.sessions:
            ratchet, room = session.ratchet.pruned(now, room)
            sessions.append(replace(session, ratchet=ratchet))
        current, previous = [*sessions, None, None][:2]
        return replace(self, current=current, previous=previous)

    def _with(self, current: Session | None, previous: Session | None) -> Conversation:
        """With these two, and the floor above what was in one that is no longer there."""
        held = {session.id for session in (current, previous) if session is not None}
        dropped = [session.highest for session in self.sessions if session.id not in held]
        return replace(self, floor=max(self.floor, *dropped, 0), current=current, previous=previous)


_decoder = msgspec.msgpack.Decoder(Conversation)


def conversation_entry(contact_entry: str) -> str:
    """The name of the entry with the conversation with the contact in this entry."""
    return "ratchet/" + contact_entry.removeprefix(CONTACTS)


def encode_conversation(conversation: Conversation) -> Secret:
    """The conversation as the store keeps it."""
    array = msgspec.msgpack.encode(conversation)
    return Secret(base64.b64encode(_checksum(array) + array).decode())


def decode_conversation(name: str, kept: Secret) -> Conversation:
    """The conversation in the entry of this name.

    Raises:
        IdentityDamaged: it is not one, or a byte of it was changed. It names the entry.
    """
    conversation = _decoded(kept)
    if conversation is None:
        raise IdentityDamaged(f"session entry {name}")
    return conversation


def _decoded(kept: Secret) -> Conversation | None:
    """None if it cannot be. Apart, so that the frame that raises holds no keys."""
    text = kept.reveal()
    try:
        data = base64.b64decode(text, validate=True) if len(text) <= _MAX_TEXT else b""
        conversation = _decoder.decode(data[_CHECKSUM_SIZE:])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return conversation if encode_conversation(conversation) == kept else None


def _checksum(array: bytes) -> bytes:
    return hashlib.sha256(_CHECKSUM + array).digest()[:_CHECKSUM_SIZE]
