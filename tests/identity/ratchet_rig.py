"""What the tests of the ratchet sealer share: ways to look at what is kept, and a thief."""

from __future__ import annotations

from msgspec.structs import replace

from relaycall.errors import MessageRefused
from relaycall.identity.contact import counters_entry
from relaycall.identity.ratchet_state import (
    Conversation,
    conversation_entry,
    decode_conversation,
    encode_conversation,
)
from relaycall.identity.rig import KIND, Entries, Person, Rig
from relaycall.identity.sealer import EnvelopeSealer


def entry_of(person: Person, name: str) -> str:
    return conversation_entry(person.contacts.get(name).entry)


def conversation(person: Person, name: str) -> Conversation:
    entry = entry_of(person, name)
    return decode_conversation(entry, person.store.snapshots[-1][entry])


async def write_plainly(sender: Person, to: Person, body: bytes, kind: int = KIND) -> bytes:
    """An envelope with this very body: what a peer can make that does not follow the protocol."""
    return await EnvelopeSealer(sender, sender.contacts, clock=sender.clock).seal(to.identity.public, kind, body)


async def stolen(rig: Rig, victim: Person, entries: Entries, peer: str) -> list[Person]:
    """What a thief can make of keys and store: believing no counter, with the sessions and without."""
    entry = victim.contacts.get(peer).entry
    bare = {name: kept for name, kept in entries.items() if name != counters_entry(entry)}
    session = conversation_entry(entry)
    ways = [bare]
    if session in entries:
        kept = decode_conversation(session, entries[session])
        forgetful = [None if one is None else replace(one, highest=0) for one in (kept.current, kept.previous)]
        kept = replace(kept, floor=0, current=forgetful[0], previous=forgetful[1])
        ways = [{**bare, session: encode_conversation(kept)}, {name: bare[name] for name in bare if name != session}]
    return [await rig.again(victim, way) for way in ways]


async def thief_reads(rig: Rig, victim: Person, entries: Entries, peer: str, envelope: bytes) -> bytes | None:
    for thief in await stolen(rig, victim, entries, peer):
        try:
            return await thief.read(envelope)
        except MessageRefused:
            continue
    return None
