"""Counters of contacts, and a store that fails: nothing is used or accepted twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relaycall.errors import (
    ContactExists,
    ContactUnknown,
    IdentityDamaged,
    MessageRefused,
    MessageReplayed,
    StoreError,
)
from relaycall.identity.contact import (
    MAX_COUNTER,
    Contact,
    contact_entry,
    counters_entry,
    decode_counters,
)
from relaycall.identity.contacts import ContactBook
from relaycall.redact import Secret
from tests.identity.address_book import MICROSECONDS, NOW, book_of, card, identity
from tests.identity.stores import DyingStore, MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


# --- counters ---------------------------------------------------------------------------------------------------------


async def test_counters_are_the_clock_or_one_more(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    assert await book.next_sent(bob, NOW) == MICROSECONDS
    assert await book.next_sent(bob, NOW) == MICROSECONDS + 1
    assert await book.next_sent(bob, NOW - 3600) == MICROSECONDS + 2
    assert await (await book_of(store)).next_sent(bob, NOW - 3600) == MICROSECONDS + 3
    assert await book.next_sent(bob, NOW + 1) == MICROSECONDS + 1_000_000


async def test_a_counter_is_accepted_once(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    assert (await book.accept_received(bob, 7)).received == 7
    for seen in (book, await book_of(store)):
        for old in (7, 6, 0, -1):
            with pytest.raises(MessageReplayed):
                await seen.accept_received(bob, old)
    with pytest.raises(MessageRefused, match="out of range"):
        await book.accept_received(bob, MAX_COUNTER + 1)
    assert (await book.accept_received(bob, MAX_COUNTER)).received == MAX_COUNTER


async def test_two_at_once(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    sent = await asyncio.gather(*(book.next_sent(bob, NOW) for _ in range(20)))
    assert sorted(sent) == list(range(MICROSECONDS, MICROSECONDS + 20))
    accepted = await asyncio.gather(*(book.accept_received(bob, 9) for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in accepted] == [Contact] + 4 * [MessageReplayed]


async def test_another_program_at_the_same_store(store: MemoryStore) -> None:
    """What one program changes, the other neither undoes nor misses."""
    phone, command = await book_of(store), await book_of(store)
    bob = await phone.add(card("bob"), NOW)
    await command.load()
    await command.verify("Bob")
    await command.rename("Bob", "Robert")
    sent = await phone.next_sent(bob, NOW)
    assert phone.get("Robert").verified
    assert await command.next_sent(bob, NOW) == sent + 1
    await command.accept_received(bob, 3)
    with pytest.raises(MessageReplayed):
        await phone.accept_received(bob, 3)
    await command.remove("Robert")
    with pytest.raises(ContactUnknown):
        await phone.next_sent(bob, NOW)
    assert phone.names == ()
    await command.add(card("carol"), NOW)
    with pytest.raises(ContactExists):
        await phone.add(card("eve"), NOW)


async def test_a_store_that_goes_back_in_time(store: MemoryStore) -> None:
    """Another program writes an old entry back in the same moment: what we know to be used is not used again."""
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    before = dict(store.kept)
    sent = await book.next_sent(bob, NOW)
    await book.accept_received(bob, 5)
    store.kept = dict(before)
    with pytest.raises(MessageReplayed):
        await book.accept_received(bob, 5)
    assert await book.next_sent(bob, NOW) == sent + 1
    store.kept = dict(before)
    await book.load()
    with pytest.raises(MessageReplayed):
        await book.accept_received(bob, 5)


# --- an entry of their own --------------------------------------------------------------------------------------------


def counting(book: ContactBook, bob: Contact, which: str) -> Callable[[int], Awaitable[object]]:
    return {
        "next_sent": lambda counter: book.next_sent(bob, NOW),
        "accept_received": lambda counter: book.accept_received(bob, counter),
    }[which]


@pytest.mark.parametrize("which", ["next_sent", "accept_received"])
async def test_who_floods_us_undoes_nothing(store: MemoryStore, which: str) -> None:
    """Another program takes verifying back, and then the contact, at any moment of a phone that counts messages."""
    for moment in range(12):
        store.kept.clear()
        phone = await book_of(store)
        bob = await phone.add(card("bob"), NOW)
        await phone.verify("Bob")
        command = await book_of(store)
        count = counting(phone, bob, which)

        for act, counter in ((command.unverify, 1), (command.remove, 2)):
            counted = asyncio.ensure_future(count(counter))
            for _ in range(moment):
                await asyncio.sleep(0)
            await act("Bob")
            with contextlib.suppress(ContactUnknown):
                await counted
            fresh = await book_of(store)
            assert not [name for name in fresh.names if fresh.get(name).verified]
        assert fresh.names == ()
        assert fresh.find(bob.identity) is None
        with pytest.raises(ContactUnknown):
            await count(3)
        assert phone.names == ()


async def test_messages_write_nothing_but_the_counters(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    kept = dict(store.kept)
    assert set(kept) == {bob.entry}
    await book.next_sent(bob, NOW)
    await book.accept_received(bob, 5)
    counted = dict(store.kept)
    entry = counters_entry(bob.entry)
    assert {name: counted[name] for name in counted if name != entry} == kept
    assert decode_counters(entry, counted[entry]) == (MICROSECONDS, 5)
    await book.verify("Bob")
    await book.rename("Bob", "Robert")
    await book.unverify("Robert")
    await book.add(card("bob", serial=2), NOW)
    assert store.kept[entry] == counted[entry]


async def test_counters_left_behind_hold_for_who_is_added_again(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    sent = await book.next_sent(bob, NOW)
    await book.accept_received(bob, 5)
    left = store.kept[counters_entry(bob.entry)]
    await book.remove("Bob")
    store.kept[counters_entry(bob.entry)] = left
    again = await book_of(store)
    assert (again.names, again.damaged, again.find(bob.identity)) == ((), (), None)
    for call in (lambda: again.next_sent(bob, NOW), lambda: again.accept_received(bob, 6)):
        with pytest.raises(ContactUnknown):
            await call()
    bob = await again.add(card("bob"), NOW)
    assert (bob.sent, bob.received) == (sent, 5)
    with pytest.raises(MessageReplayed):
        await again.accept_received(bob, 5)
    await again.remove("Bob")
    assert store.kept == {}


@pytest.mark.parametrize("removed", [False, True])
async def test_damaged_counters_are_never_none(store: MemoryStore, removed: bool) -> None:
    """Nothing is accepted, sent or pinned in their place; the contact can be seen, renamed and removed."""
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.add(card("carol", name="Carol"), NOW)
    await book.accept_received(bob, 5)
    entry = counters_entry(bob.entry)
    if removed:
        await book.remove("Bob")
    store.kept[entry] = Secret("damaged")
    again = await book_of(store)
    assert again.damaged == (entry,)
    assert again.names == (("Carol",) if removed else ("Bob", "Carol"))
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: asyncio.to_thread(again.find, bob.identity),
        lambda: asyncio.to_thread(again.recognise, card("bob")),
        lambda: again.add(card("bob", serial=2), NOW),
        lambda: again.accept_change("Carol", card("bob"), NOW),
    ]
    if not removed:
        refused += [
            lambda: again.next_sent(bob, NOW),
            lambda: again.accept_received(bob, 6),
            lambda: book.next_sent(bob, NOW),
            lambda: book.accept_received(bob, 6),
            lambda: again.accept_change("Bob", card("bob 2"), NOW),
        ]
    for call in refused:
        with pytest.raises(IdentityDamaged, match=entry):
            await call()
    with pytest.raises(ContactUnknown):
        again.get("Nobody")
    assert store.kept[entry] == Secret("damaged")
    if not removed:
        await again.rename("Bob", "Robert")
    await again.discard(entry)
    assert (again.names, again.damaged) == (("Carol",), ())
    assert list(store.kept) == [contact_entry(identity("carol").public)]
    assert (await again.add(card("bob"), NOW)).name == "Bob"


async def test_who_has_damaged_counters_can_be_removed(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    store.kept[counters_entry(bob.entry)] = Secret("damaged")
    await book.remove("Bob")
    assert store.kept == {}
    assert book.damaged == ()


async def test_damage_does_not_make_us_forget(store: MemoryStore) -> None:
    """The counters are restored from an old copy: what we know to be used is not used again."""
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    await book.accept_received(bob, 4)
    entry = counters_entry(bob.entry)
    old = store.kept[entry]
    await book.accept_received(bob, 5)
    store.kept[entry] = Secret("damaged")
    await book.load()
    store.kept[entry] = old
    await book.load()
    with pytest.raises(MessageReplayed):
        await book.accept_received(bob, 5)


async def test_a_crash_while_removing_leaves_no_contact_without_counters() -> None:
    for steps in range(4):
        store = DyingStore()
        book = await book_of(store)
        bob = await book.add(card("bob"), NOW)
        await book.accept_received(bob, 5)
        store.dies_after(steps)
        with pytest.raises(StoreError):
            await book.remove("Bob")
        store.revive()
        again = await book_of(store)
        if again.names:
            with pytest.raises(MessageReplayed):
                await again.accept_received(bob, 5)
        else:
            assert set(store.kept) == {counters_entry(bob.entry)}


# --- a store that fails -----------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[ContactBook, Contact], Awaitable[object]]] = {
    "add": lambda book, bob: book.add(card("carol", name="Carol"), NOW),
    "move": lambda book, bob: book.add(card("bob", serial=2, url="ws://x.example"), NOW),
    "rename": lambda book, bob: book.rename("Bob", "Robert"),
    "verify": lambda book, bob: book.verify("Bob"),
    "next_sent": lambda book, bob: book.next_sent(bob, NOW),
    "accept_received": lambda book, bob: book.accept_received(bob, 5),
    "keep_prekey": lambda book, bob: book.keep_prekey(bob, b"prekey"),
    "accept_change": lambda book, bob: book.accept_change("Bob", card("bob 2"), NOW),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("written", [False, True])
async def test_nothing_is_ahead_of_the_store(change: str, written: bool) -> None:
    """The write fails, or it is made and its answer is lost. What is seen here is as it was; the next try works."""
    store = DyingStore()
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    store.dies_after(0, written=written)
    with pytest.raises(StoreError):
        await CHANGES[change](book, bob)
    assert book.names == ("Bob",)
    assert book.get("Bob") == bob
    store.revive()
    assert await book.prekey(bob) == (b"prekey" if change == "keep_prekey" and written else None)
    if written and change in ("accept_received", "rename"):
        return
    await CHANGES[change](book, bob)
    again = await book_of(store)
    assert again.names == book.names
    assert [again.get(name) for name in again.names] == [book.get(name) for name in book.names]


async def test_a_counter_whose_write_was_cut_off() -> None:
    """The message was not acted on, and is not accepted later either; no counter is used twice."""
    store = DyingStore()
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    store.dies_after(0, written=True)
    for cut_off in (lambda: book.accept_received(bob, 5), lambda: book.next_sent(bob, NOW)):
        with pytest.raises(StoreError):
            await cut_off()
    store.revive()
    again = await book_of(store)
    with pytest.raises(MessageReplayed):
        await again.accept_received(bob, 5)
    assert (await again.accept_received(bob, 6)).received == 6


async def test_cancelled_while_it_writes(store: MemoryStore) -> None:
    book = await book_of(store)
    bob = await book.add(card("bob"), NOW)
    store.gate.clear()
    writing = asyncio.create_task(book.next_sent(bob, NOW))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    store.gate.set()
    assert book.get("Bob") == bob
    assert await book.next_sent(bob, NOW) >= MICROSECONDS


# --- any course of events ---------------------------------------------------------------------------------------------


class Counting(RuleBasedStateMachine):
    """Two programs at one store, which dies at any moment, and programs that start again at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = DyingStore()
        self.books = [self.runner.run(book_of(self.store)) for _ in range(2)]
        self.runner.run(self.books[0].add(card("bob"), NOW))
        self.runner.run(self.books[1].load())
        self.bob = self.books[0].get("Bob")
        self.sent = [0]
        self.accepted = [0]

    def teardown(self) -> None:
        self.runner.close()

    @rule(which=st.integers(0, 1), clock=st.floats(0, 2 * NOW))
    def send(self, which: int, clock: float) -> None:
        with contextlib.suppress(StoreError):
            counter = self.runner.run(self.books[which].next_sent(self.bob, clock))
            assert counter > self.sent[-1]
            assert counter >= int(clock * 1_000_000)
            self.sent.append(counter)

    @rule(which=st.integers(0, 1), counter=st.integers(0, 30))
    def receive(self, which: int, counter: int) -> None:
        with contextlib.suppress(StoreError, MessageReplayed):
            self.runner.run(self.books[which].accept_received(self.bob, counter))
            assert counter > self.accepted[-1]
            self.accepted.append(counter)

    @rule(which=st.integers(0, 1), above=st.integers(1, 3))
    def receive_the_next(self, which: int, above: int) -> None:
        """Accepted, however often the store has died, unless what the store had written meanwhile is above."""
        counter = self.accepted[-1] + above
        with contextlib.suppress(StoreError, MessageReplayed):
            self.runner.run(self.books[which].accept_received(self.bob, counter))
            self.accepted.append(counter)

    @rule(which=st.integers(0, 1))
    def start_again(self, which: int) -> None:
        self.books[which] = self.runner.run(book_of(self.store))

    @rule(changes=st.integers(0, 3), written=st.booleans())
    def die(self, changes: int, written: bool) -> None:
        self.store.dies_after(changes, written=written)

    @rule()
    def revive(self) -> None:
        self.store.revive()

    @invariant()
    def nothing_is_ahead_of_the_store(self) -> None:
        entry = counters_entry(self.bob.entry)
        sent, received = decode_counters(entry, self.store.kept[entry]) if entry in self.store.kept else (0, 0)
        assert sent >= self.sent[-1]
        assert received >= self.accepted[-1]
        for book in self.books:
            assert book.get("Bob").sent <= sent
            assert book.get("Bob").received <= received


Counting.TestCase.settings = settings(max_examples=20, stateful_step_count=30)
TestCounting = Counting.TestCase
