"""Contacts: named, pinned, and never taken for somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relaycall.errors import (
    ConfigError,
    ContactExists,
    ContactUnknown,
    IdentityDamaged,
    KeyChanged,
    StoreError,
)
from relaycall.identity.contact import (
    clean_name,
    contact_entry,
    counters_entry,
    prekey_entry,
)
from relaycall.identity.contacts import MAX_PREKEY, ContactBook
from relaycall.identity.ratchet_state import conversation_entry
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault import VaultStore
from relaycall.store.vault_format import LOWEST
from tests.identity.address_book import MICROSECONDS, NOW, book_of, card, identity, with_mailbox_of
from tests.identity.stores import DyingStore, MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


# --- names and cards --------------------------------------------------------------------------------------------------


async def test_the_first_card_pins(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    assert (bob.name, bob.identity, bob.serial) == ("Bob", identity("bob").public, 1)
    assert (bob.mailbox, bob.signaling) == (card("bob").mailbox, "wss://signaling.example.org")
    assert (bob.first_seen, bob.verified, bob.sent, bob.received) == (1_800_000_000, False, 0, 0)
    for seen in (book, await book_of(store)):
        assert seen.names == ("Bob",)
        assert seen.get("bOB") == seen.find(identity("bob").public) == bob
        assert seen.find(identity("eve").public) is None
    assert list(store.kept) == [contact_entry(bob.identity)]


async def test_the_user_names(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob", name="Robert"), NOW, "Bob  from  work")
    await book.add(card("carol", name="Carol"), NOW)
    assert book.names == ("Bob from work", "Carol")
    with pytest.raises(ContactUnknown):
        book.get("Robert")


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb", "a\u202eb", "a\u200bb", "\u0301a", "a\x1b[31m", "\ud800"])
async def test_what_cannot_be_a_name(store: MemoryStore, name: str) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    with pytest.raises(ConfigError):
        await book.add(card("carol"), NOW, name)
    with pytest.raises(ConfigError):
        await book.rename("Bob", name)
    with pytest.raises(ConfigError):
        book.get(name)
    assert (await book_of(store)).names == ("Bob",)


def test_names_have_one_form() -> None:
    assert clean_name(" Zoe\u0308   M ") == "Zo\u00eb M"
    assert clean_name("x" * 64) == "x" * 64


@pytest.mark.parametrize("name", ["Bob", "BOB", "\uff22ob"])
async def test_a_name_stands_for_one(store: MemoryStore, name: str) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    await book.add(card("carol", name="Carol"), NOW)
    with pytest.raises(ContactExists) as refused:
        await book.add(card("eve"), NOW, name)
    assert refused.value.name == "Bob"
    with pytest.raises(ContactExists) as refused:
        await book.rename("Carol", name)
    assert refused.value.name == "Bob"
    assert book.get(name).identity == identity("bob").public


async def test_a_later_card_moves_the_contact(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW, "Bobby")
    await book.verify("bobby")
    moved = await book.add(card("bob", serial=3, url="https://other.example.org"), NOW + 9)
    assert (moved.signaling, moved.serial) == ("https://other.example.org", 3)
    assert (moved.name, moved.verified, moved.first_seen) == ("Bobby", True, 1_800_000_000)
    assert (await book_of(store)).get("Bobby") == moved
    for stale in (card("bob", serial=2), card("bob", serial=3)):
        assert await book.add(stale, NOW) == moved
    assert (await book_of(store)).get("Bobby") == moved


async def test_the_same_keys_under_another_name(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    with pytest.raises(ContactExists) as refused:
        await book.add(card("bob", serial=2), NOW, "Somebody")
    assert refused.value.name == "Bob"
    assert (await book.add(card("bob", serial=2), NOW, "bob")).name == "Bob"


async def test_renaming(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    assert await book.rename("bob", "BOB") == replace(bob, name="BOB")
    await book.rename("Bob", "Robert")
    assert book.names == (await book_of(store)).names == ("Robert",)
    with pytest.raises(ContactUnknown):
        await book.rename("Bob", "x")


async def test_removing_forgets_all_of_it(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.keep_prekey(bob, b"prekey")
    await book.remove("bob")
    assert store.kept == {}
    assert book.names == ()
    assert book.find(bob.identity) is None
    gone: list[Callable[[], Awaitable[object]]] = [
        lambda: book.remove("bob"),
        lambda: book.verify("bob"),
        lambda: book.next_sent(bob, NOW),
        lambda: book.accept_received(bob, 1),
        lambda: book.keep_prekey(bob, b"prekey"),
    ]
    for call in gone:
        with pytest.raises(ContactUnknown):
            await call()
    assert store.kept == {}


async def test_verified_or_not(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    assert (await book.verify("Bob")).verified
    assert (await book_of(store)).get("Bob").verified
    assert not (await book.unverify("Bob")).verified
    assert not (await book_of(store)).get("Bob").verified


async def test_before_loading_nobody_is_a_stranger(store: MemoryStore) -> None:
    book = ContactBook(store)
    for look in (lambda: book.find(identity("bob").public), lambda: book.get("Bob"), lambda: book.names):
        with pytest.raises(RuntimeError, match="load"):
            look()


# --- changed keys -----------------------------------------------------------------------------------------------------


async def test_other_keys_under_a_known_name(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    assert book.presented("bob", identity("bob").public) == bob
    with pytest.raises(KeyChanged) as changed:
        book.presented("bob", identity("eve").public)
    assert (changed.value.name, changed.value.known, changed.value.presented) == (
        "Bob",
        identity("bob").public.fingerprint,
        identity("eve").public.fingerprint,
    )
    with pytest.raises(ContactUnknown):
        book.presented("eve", identity("eve").public)


async def test_other_keys_with_a_known_mailbox(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    await book.add(card("carol", name="Carol"), NOW)
    for forged in (card("eve", name="Eve"), card("carol", name="Carol", serial=2)):
        with pytest.raises(KeyChanged) as changed:
            await book.add(with_mailbox_of(forged, card("bob")), NOW)
        assert changed.value.name == "Bob"
    assert book.names == ("Bob", "Carol")
    assert book.get("Carol").serial == 1


async def test_accepting_a_change(store: MemoryStore) -> None:
    book = await book_of(store)
    old = await book.add(card("bob"), NOW)
    await book.verify("Bob")
    await book.keep_prekey(old, b"old prekey")
    sent = await book.next_sent(old, NOW)
    await book.accept_received(old, 5)
    new = await book.accept_change("bob", card("bob 2", serial=1), NOW + 100)
    assert (new.name, new.identity, new.mailbox) == ("Bob", identity("bob 2").public, card("bob 2").mailbox)
    assert (new.verified, new.received) == (False, 0)
    assert await book.next_sent(new, 0) > sent
    for seen in (book, await book_of(store)):
        assert seen.presented("Bob", identity("bob 2").public).identity == new.identity
        assert seen.find(old.identity) is None
        assert await seen.prekey(new) is None
        with pytest.raises(KeyChanged):
            seen.presented("Bob", old.identity)
    assert set(store.kept) == {new.entry, counters_entry(new.entry)}


async def test_what_is_no_change(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.add(card("carol", name="Carol"), NOW)
    assert await book.accept_change("Bob", card("bob", serial=2), NOW) == bob
    with pytest.raises(ContactExists):
        await book.accept_change("Bob", card("carol"), NOW)
    with pytest.raises(KeyChanged):
        await book.accept_change("Bob", with_mailbox_of(card("eve"), card("carol")), NOW)
    with pytest.raises(ContactUnknown):
        await book.accept_change("Eve", card("eve"), NOW)
    assert book.names == ("Bob", "Carol")


@pytest.mark.parametrize("clock", [NOW + 100, NOW, NOW - 1e6])
async def test_there_and_back_again(store: MemoryStore, clock: float) -> None:
    """Old keys return, and those that they replaced come as somebody else: whatever the clock says, no one is lost."""
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    await book.accept_change("Bob", card("bob 2"), clock)
    await book.accept_change("Bob", card("bob"), clock)
    await book.add(card("bob 2"), clock, "Other")
    await book.next_sent(book.get("Bob"), clock)
    for seen in (book, await book_of(store)):
        assert seen.names == ("Bob", "Other")
        assert seen.get("Bob").identity == identity("bob").public
        assert seen.damaged == ()
    await book.remove("Bob")
    assert (await book_of(store)).names == ("Other",)


@pytest.mark.parametrize("clock", [NOW + 100, NOW - 1e6])
async def test_a_crash_at_each_step_of_a_change(clock: float) -> None:
    """At any moment the name stands for the old keys or for the new ones, and for nobody else."""
    outcomes = set()
    for steps in range(9):
        store = DyingStore()
        book = await book_of(store)
        old = await book.add(card("bob"), NOW)
        await book.keep_prekey(old, b"old prekey")
        store.dies_after(steps)
        with pytest.raises(StoreError) if steps < 6 else contextlib.nullcontext():
            await book.accept_change("Bob", card("bob 2"), clock)
        store.revive()
        again = await book_of(store)
        assert again.names == ("Bob",)
        assert again.damaged == ()
        assert again.get("Bob").identity == book.get("Bob").identity
        outcomes.add(again.get("Bob").identity)
        await again.rename("Bob", "Robert")
        assert (await book_of(store)).names == ("Robert",)
        await again.remove("Robert")
        assert (await book_of(store)).names == ()
        assert not [entry for entry in store.kept if entry.startswith(("contacts/", "prekeys/"))]
    assert outcomes == {identity("bob").public, identity("bob 2").public}


# --- damage -----------------------------------------------------------------------------------------------------------


async def test_a_damaged_entry(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.add(card("carol", name="Carol"), NOW)
    entry = contact_entry(bob.identity)
    store.kept[entry] = Secret("damaged")
    again = await book_of(store)
    assert again.names == ("Carol",)
    assert again.damaged == (entry,)
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: asyncio.to_thread(again.get, "Bob"),
        lambda: asyncio.to_thread(again.find, bob.identity),
        lambda: asyncio.to_thread(again.presented, "Bob", bob.identity),
        lambda: again.add(card("bob"), NOW),
        lambda: again.remove("Bob"),
        lambda: book.next_sent(bob, NOW),
        lambda: book.accept_received(bob, 1),
        lambda: again.accept_change("Carol", card("bob"), NOW),
    ]
    for call in refused:
        with pytest.raises(IdentityDamaged, match=entry):
            await call()
    assert store.kept[entry] == Secret("damaged")
    await again.verify("Carol")
    await again.rename("Carol", "Caro")
    with pytest.raises(ContactUnknown):
        await again.discard(contact_entry(again.get("Caro").identity))
    await again.discard(entry)
    fresh = await book_of(store)
    assert fresh.names == ("Caro",)
    assert fresh.damaged == ()
    assert (await again.add(card("bob"), NOW)).name == "Bob"


async def test_an_entry_in_the_place_of_another(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    eve = await book.add(card("eve", name="Eve"), NOW)
    store.kept[contact_entry(bob.identity)] = store.kept[contact_entry(eve.identity)]
    again = await book_of(store)
    assert (again.names, again.damaged) == (("Eve",), (contact_entry(bob.identity),))


async def test_two_entries_of_one_name(store: MemoryStore) -> None:
    """As two programs can leave them that add in the same moment: the first one pinned has the name."""
    first, second = MemoryStore(), MemoryStore()
    await (await book_of(first)).add(card("bob"), NOW)
    await (await book_of(second)).add(card("eve", name="bob"), NOW + 1)
    store.kept = second.kept | first.kept
    book = await book_of(store)
    assert book.get("BOB").identity == identity("bob").public
    assert book.damaged == (contact_entry(identity("eve").public),)
    await book.discard(book.damaged[0])
    assert store.kept == first.kept


async def test_a_keyring_that_has_a_name_and_no_entry(store: MemoryStore) -> None:
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    store.listed.add("contacts/" + 32 * "0")
    again = await book_of(store)
    assert (again.names, again.damaged) == (("Bob",), ())


async def test_other_entries_are_left_alone(store: MemoryStore) -> None:
    store.kept = {"work": Secret("x"), "identity/me": Secret("y"), "prekeys/00": Secret("z")}
    before = dict(store.kept)
    book = await book_of(store)
    await book.add(card("bob"), NOW)
    await book.remove("Bob")
    assert store.kept == before


# --- prekeys ----------------------------------------------------------------------------------------------------------


async def test_prekeys_are_kept_apart(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    kept = dict(store.kept)
    assert await book.prekey(bob) is None
    await book.keep_prekey(bob, b"first")
    await book.keep_prekey(bob, b"second")
    assert await (await book_of(store)).prekey(bob) == b"second"
    store.writes = 0
    await book.keep_prekey(bob, b"second")
    assert store.writes == 0
    assert store.kept == kept | {prekey_entry(bob.entry): store.kept[prekey_entry(bob.entry)]}
    with pytest.raises(ValueError, match="2048"):
        await book.keep_prekey(bob, bytes(MAX_PREKEY + 1))


async def test_a_damaged_prekey_is_none(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    store.kept[prekey_entry(bob.entry)] = Secret("\u00e4")
    assert await book.prekey(bob) is None
    await book.keep_prekey(bob, b"new")
    assert await book.prekey(bob) == b"new"


async def test_who_is_removed_leaves_nothing_in_the_store(store: MemoryStore) -> None:
    """Not the entry, not the prekey, no counter, and no session of a double ratchet."""
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.next_sent(bob, NOW)
    await book.keep_prekey(bob, b"prekey")
    await store.set(conversation_entry(bob.entry), Secret("session"))
    assert counters_entry(bob.entry) in store.kept
    await book.remove("Bob")
    assert store.kept == {}


# --- a real vault -----------------------------------------------------------------------------------------------------


async def test_in_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "COST", LOWEST)
    path = tmp_path / "data" / "vault"
    book = ContactBook(VaultStore(path, Secret("passphrase")))
    await book.load()
    bob = await book.add(card("bob"), NOW)
    await book.keep_prekey(bob, bytes(1300))
    assert await asyncio.gather(*(book.next_sent(bob, NOW) for _ in range(3))) == [
        MICROSECONDS,
        MICROSECONDS + 1,
        MICROSECONDS + 2,
    ]
    await book.accept_received(bob, 5)
    await book.accept_change("Bob", card("bob 2"), NOW)
    other = VaultStore(path, Secret("passphrase"))
    again = ContactBook(other)
    await again.load()
    assert again.get("Bob") == book.get("Bob")
    entry = contact_entry(identity("bob 2").public)
    assert await other.names() == (entry, counters_entry(entry))
