"""The ratchet sealer: a double ratchet inside the sealed envelope, for long conversations.

    sealer = RatchetSealer(own, contacts, store)

An envelope of the default sealer can be opened by whoever gets the prekey that it was sealed to, for two weeks. Here
what it holds is once more encrypted, with a key for this message alone (Signal, "The Double Ratchet Algorithm"), which
both sides erase at once. Who takes a device later cannot open what came before, and after one message in each
direction he cannot open what comes then. The seal around it stays: it hides who writes, and is post-quantum.

Everything but an introduction is ratcheted. The sessions with contacts are kept in the store, those with strangers in
memory, as their counters are: whether somebody is a contact is known to one side alone. `ratchet_state` says when a
session begins and which one is written to. A session is kept before an envelope of it is handed out, and before what
came in it is; then its message is never accepted again, in whatever order messages come.

A session begins as in X3DH, with the sender's identity and a key made for it, the recipient's identity and prekey, and
a random secret. The secret travels inside the seal, so a session is post-quantum from its beginning: who has broken
X25519 has not opened the seal. What the recipient needs for it goes along until they have answered; until then a
message is as safe as their prekey.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import time
from collections import OrderedDict
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec.structs import replace

from relaycall.errors import (
    CardRefused,
    ExtraMissing,
    MessageRefused,
    MessageReplayed,
    MessageTooLarge,
    PrekeyRetired,
)
from relaycall.identity.contact import MAX_COUNTER, Contact, contact_entry
from relaycall.identity.contacts import ContactBook
from relaycall.identity.envelope import Message, identity_key_id
from relaycall.identity.keys import KEY_SIZE, PublicIdentity
from relaycall.identity.prekeys import PublicPrekey, is_agreement_key
from relaycall.identity.ratchet_message import (
    CHAIN_LIMIT,
    HEAD_SIZE,
    START_SIZE,
    RatchetMessage,
    Start,
    bound_data,
    decode_message,
    derive_session,
)
from relaycall.identity.ratchet_state import (
    Chain,
    Conversation,
    Ratchet,
    Session,
    Skipped,
    SkippedChain,
    conversation_entry,
    decode_conversation,
    encode_conversation,
)
from relaycall.identity.sealer import INTRODUCTION, MAX_STRANGERS, EnvelopeSealer, Own
from relaycall.store import Store

try:
    from doubleratchet import (
        AuthenticationFailedException,
        DecryptionFailedException,
        DoubleRatchet,
        DuplicateMessageException,
        EncryptedMessage,
        Header,
    )
    from doubleratchet.models import (
        DiffieHellmanRatchetModel,
        DoubleRatchetModel,
        KDFChainModel,
        SkippedMessageKeyModel,
        SymmetricKeyRatchetModel,
    )
    from doubleratchet.recommended import HashFunction, aead_aes_hmac, kdf_hkdf, kdf_separate_hmacs
    from doubleratchet.recommended.diffie_hellman_ratchet_curve25519 import DiffieHellmanRatchet
except ImportError:
    raise ExtraMissing(
        "The ratchet sealer takes the package DoubleRatchet.", "Install it: pip install 'relaycall[ratchet]'."
    ) from None

_BLOCK_SIZE, _TAG_SIZE = 16, 32  # bytes, of the cipher
_CONSTANT = b"\x02\x01"  # a message chain gives its next key by HMAC over 2, and a message key by HMAC over 1


class _RootKDF(kdf_hkdf.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"relaycall ratchet root chain 1"


class _MessageKDF(kdf_separate_hmacs.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256


class _AEAD(aead_aes_hmac.AEAD):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"relaycall ratchet cipher 1"


class _DoubleRatchet(DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: Header) -> bytes:
        lengths = struct.pack("!HH", header.previous_sending_chain_length, header.sending_chain_length)
        return associated_data + header.ratchet_pub + lengths


_PARTS = DiffieHellmanRatchet, _RootKDF, _MessageKDF, _CONSTANT, CHAIN_LIMIT, CHAIN_LIMIT, _AEAD


class RatchetSealer(EnvelopeSealer):
    """A sealer with forward secrecy and post-compromise security for each message. Both sides have to use it.

    Messages may come in any order and some may never come; up to 100 are waited for, each for five minutes. Whoever has
    lost a session, or has it no more because the other side was removed, introduces itself; then a new one begins.

    Args:
        own: our keys.
        contacts: loaded.
        store: where the sessions are kept, "ratchet/" and the contact's id.
        clock: gives the seconds since 1970.

    `seal` and `open` raise IdentityDamaged when a session in the store cannot be read; `forget` then begins anew.
    """

    def __init__(
        self, own: Own, contacts: ContactBook, store: Store, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(own, contacts, clock=clock)
        self._store = store
        self._with_strangers: OrderedDict[PublicIdentity, Conversation] = OrderedDict()
        self._lock = asyncio.Lock()

    @property
    def capacity(self) -> int:
        room = super().capacity - HEAD_SIZE - START_SIZE - _TAG_SIZE
        return room // _BLOCK_SIZE * _BLOCK_SIZE - 1

    async def forget(self, person: PublicIdentity) -> None:
        """Erase the sessions with somebody, damaged or not, contact or not. The next message to them begins a new one.

        Raises:
            StoreError: they cannot be erased.
        """
        async with self._lock:
            self._with_strangers.pop(person, None)
            await self._store.remove(conversation_entry(contact_entry(person)))

    async def _protect(self, to: PublicIdentity, prekey: PublicPrekey | None, kind: int, body: bytes) -> bytes:
        if kind == INTRODUCTION:
            await self._introduce(to)
            return body
        if len(body) > self.capacity:
            raise MessageTooLarge
        assert prekey is not None
        sender = self._own.identity.public
        async with self._lock:
            contact = self._contacts.find(to)
            conversation = await self._conversation(to, contact)
            bound = bound_data(sender, to, kind)
            current = conversation.current
            if current is None or conversation.must_begin(prekey.id):
                session, message = await self._begin(to, prekey, body, bound)
                conversation = conversation.begun(session)
            else:
                ratchet = _restored(current.ratchet)
                message = await ratchet.encrypt_message(body, bound)
                session = replace(current, ratchet=_kept(ratchet, current.ratchet, self._clock()))
                conversation = conversation.written(session)
            await self._keep(to, contact, conversation)
        return RatchetMessage(session.id, *message.header, session.start, message.ciphertext).encode()

    async def _accept(self, message: Message, contact: Contact | None) -> bytes:
        if message.counter > MAX_COUNTER:
            raise MessageRefused("its counter is out of range")
        async with self._lock:
            if message.kind == INTRODUCTION:
                return await self._accept_introduction(message, contact)
            conversation, body = await self._read(message, await self._conversation(message.sender, contact))
            if contact is None:
                stranger = self._stranger(message.sender)
                stranger.received = max(stranger.received, message.counter)
            else:
                with contextlib.suppress(MessageReplayed):  # an earlier one comes later: the session knows better
                    await self._contacts.accept_received(contact, message.counter)
            await self._keep(message.sender, contact, conversation)
        return body

    async def _introduce(self, to: PublicIdentity) -> None:
        async with self._lock:
            contact = self._contacts.find(to)
            conversation = await self._conversation(to, contact)
            await self._keep(to, contact, conversation.introduced_to())

    # Under the lock from here on.

    async def _accept_introduction(self, message: Message, contact: Contact | None) -> bytes:
        """The peer may have lost the session, so the next message to it begins another one."""
        if not is_agreement_key(message.sender.agreement):
            raise MessageRefused("a key of its sender is not one")
        accepted = self._received_from_stranger(message.sender) if contact is None else contact.received
        if message.counter <= accepted:
            raise MessageReplayed
        conversation = await self._conversation(message.sender, contact)
        await self._keep(message.sender, contact, conversation.introduced_by(message.counter))
        return await super()._accept(message, contact)

    async def _begin(
        self, to: PublicIdentity, prekey: PublicPrekey, body: bytes, bound: bytes
    ) -> tuple[Session, EncryptedMessage]:
        if not is_agreement_key(to.agreement):
            raise CardRefused("its agreement key is not one")
        ephemeral = X25519PrivateKey.generate()
        start = Start(ephemeral.public_key().public_bytes_raw(), prekey.id, secrets.token_bytes(KEY_SIZE))
        agreed = [
            self._own.identity.agree(prekey.x25519),
            ephemeral.exchange(X25519PublicKey.from_public_bytes(to.agreement)),
            ephemeral.exchange(X25519PublicKey.from_public_bytes(prekey.x25519)),
        ]
        session_id, root = derive_session(self._own.identity.public, to, start, agreed)
        ratchet, message = await _DoubleRatchet.encrypt_initial_message(*_PARTS, root, prekey.x25519, body, bound)
        return Session(session_id, 0, 0, start, _kept(ratchet, None, self._clock())), message

    async def _read(self, message: Message, conversation: Conversation) -> tuple[Conversation, bytes]:
        """The conversation after this message, and its body."""
        inner = decode_message(message.body)
        bound = bound_data(message.sender, self._own.identity.public, message.kind)
        for session in conversation.sessions:
            if session.id == inner.session_id:
                if message.counter <= session.floor:
                    raise MessageReplayed
                ratchet, body = await _decrypt(session, _encrypted(inner), bound, message.counter)
                session = replace(session, ratchet=_kept(ratchet, session.ratchet, self._clock()))
                return conversation.read(session, message.counter), body
        if inner.start is None:
            raise MessageRefused("we have no such session")
        if message.counter <= conversation.floor:
            raise MessageReplayed
        ratchet, body = await self._join(message.sender, inner, inner.start, bound)
        session = Session(
            inner.session_id, conversation.floor, message.counter, None, _kept(ratchet, None, self._clock())
        )
        return conversation.joined(session, message.counter), body

    async def _join(
        self, sender: PublicIdentity, inner: RatchetMessage, start: Start, bound: bytes
    ) -> tuple[DoubleRatchet, bytes]:
        prekey = self._own.prekeys.find(start.prekey_id)
        if prekey is None:
            raise PrekeyRetired
        key = X25519PrivateKey.from_private_bytes(prekey.x25519)
        try:
            agreed = [
                key.exchange(X25519PublicKey.from_public_bytes(sender.agreement)),
                self._own.identity.agree(start.ephemeral),
                key.exchange(X25519PublicKey.from_public_bytes(start.ephemeral)),
            ]
            session_id, root = derive_session(sender, self._own.identity.public, start, agreed)
            if session_id != inner.session_id:
                raise MessageRefused("its session has another name")
            message = _encrypted(inner)
            return await _DoubleRatchet.decrypt_initial_message(*_PARTS, root, prekey.x25519, message, bound)
        except (AuthenticationFailedException, DecryptionFailedException, ValueError):
            raise MessageRefused("it does not begin a session") from None

    async def _conversation(self, person: PublicIdentity, contact: Contact | None) -> Conversation:
        """What is kept, or the beginning of one: with somebody new, or because our own identity is another now."""
        own = identity_key_id(self._own.identity.public)
        known = self._with_strangers.get(person)
        floor = self._received_from_stranger(person)
        if contact is not None and known is None:
            name = conversation_entry(contact.entry)
            entry = await self._store.get(name)
            kept = None if entry is None else decode_conversation(name, entry)
            if kept is not None and kept.own == own:
                return kept
        if known is None or known.own != own:
            known = Conversation(1, own, floor)
        if contact is not None:
            # Kept before anything is accepted: afterwards the contact's counter does not tell what began a session.
            known = replace(known, floor=max(known.floor, floor, contact.received))
            await self._keep(person, contact, known)
            self._with_strangers.pop(person, None)
        return known

    async def _keep(self, person: PublicIdentity, contact: Contact | None, conversation: Conversation) -> None:
        conversation = conversation.pruned(self._clock())
        if contact is not None:
            return await self._store.set(conversation_entry(contact.entry), encode_conversation(conversation))
        self._with_strangers[person] = conversation
        self._with_strangers.move_to_end(person)
        if len(self._with_strangers) > MAX_STRANGERS:
            self._with_strangers.popitem(last=False)
        return None


def _encrypted(inner: RatchetMessage) -> EncryptedMessage:
    header = Header(inner.ratchet_key, inner.previous_length, inner.number)
    return EncryptedMessage(header, inner.ciphertext)


async def _decrypt(
    session: Session, encrypted: EncryptedMessage, bound: bytes, counter: int
) -> tuple[DoubleRatchet, bytes]:
    """The ratchet after this message, and its body."""
    kept = session.ratchet
    if kept.receiving is None and encrypted.header.ratchet_pub == kept.theirs:
        raise MessageRefused("its ratchet key is our peer's prekey")
    ratchet = _restored(kept)
    try:
        return ratchet, await ratchet.decrypt_message(encrypted, bound)
    except DuplicateMessageException:
        raise MessageReplayed from None
    except (AuthenticationFailedException, DecryptionFailedException, ValueError):
        if counter <= session.highest:  # of a chain that is gone
            raise MessageReplayed from None
        raise MessageRefused("its session does not open it") from None


def _kept(ratchet: DoubleRatchet, before: Ratchet | None, now: float) -> Ratchet:
    """What is kept of a ratchet. `before`: what was, which knows since when keys are skipped."""
    model = ratchet.model
    diffie_hellman = model.diffie_hellman_ratchet
    chains = diffie_hellman.symmetric_key_ratchet
    assert chains.sending_chain is not None
    known = {(one.ratchet_key, key.number): key.since for one in before.skipped for key in one.keys} if before else {}
    skipped: dict[bytes, list[Skipped]] = {}
    for one in model.skipped_message_keys:
        since = known.get((one.ratchet_pub, one.index), int(now))
        skipped.setdefault(one.ratchet_pub, []).append(Skipped(one.index, one.message_key, since))
    receiving = chains.receiving_chain
    return Ratchet(
        own=diffie_hellman.own_ratchet_priv,
        theirs=diffie_hellman.other_ratchet_pub,
        root=Chain(diffie_hellman.root_chain.length, diffie_hellman.root_chain.key),
        sending=Chain(chains.sending_chain.length, chains.sending_chain.key),
        receiving=None if receiving is None else Chain(receiving.length, receiving.key),
        previous_length=chains.previous_sending_chain_length,
        skipped=tuple(SkippedChain(key, tuple(keys)) for key, keys in skipped.items()),
    )


def _restored(kept: Ratchet) -> DoubleRatchet:
    chains = SymmetricKeyRatchetModel(
        receiving_chain=None if kept.receiving is None else _chain_model(kept.receiving),
        sending_chain=_chain_model(kept.sending),
        previous_sending_chain_length=kept.previous_length,
    )
    diffie_hellman = DiffieHellmanRatchetModel(
        own_ratchet_priv=kept.own,
        other_ratchet_pub=kept.theirs,
        root_chain=_chain_model(kept.root),
        symmetric_key_ratchet=chains,
    )
    skipped = [
        SkippedMessageKeyModel(ratchet_pub=one.ratchet_key, index=key.number, message_key=key.key)
        for one in kept.skipped
        for key in one.keys
    ]
    model = DoubleRatchetModel(diffie_hellman_ratchet=diffie_hellman, skipped_message_keys=skipped)
    return _DoubleRatchet.from_model(model, *_PARTS)


def _chain_model(chain: Chain) -> KDFChainModel:
    return KDFChainModel(length=chain.length, key=chain.key)
