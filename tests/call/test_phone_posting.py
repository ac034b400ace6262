"""What a phone sends before a call is up: in order, and nothing waits for the server's word on what went before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.call.line import Party
from relaycall.call.messages import Kind
from relaycall.call.phone import Phone
from tests.call.phones import befriend, connect, house, nobody_else_writes  # noqa: F401
from tests.identity.stores import MemoryStore
from tests.leaks import nothing_left_behind  # noqa: F401


def _party(phone: Phone) -> Party:
    return Party(phone.card.identity, phone.card.mailbox, None, phone.card.name)


@pytest.mark.slow
async def test_the_answer_does_not_wait_until_the_server_has_taken_what_went_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house() as home:
        alice, bob = await home.friends()
        await connect_and_hang_up(alice, bob)  # introduced
        send, sent = bob.signaling.send, []

        async def send_and_wait(mailbox: bytes, envelope: bytes, **options: Any) -> None:
            await send(mailbox, envelope, **options)
            sent.append(envelope)
            await asyncio.Event().wait()

        monkeypatch.setattr(bob.signaling, "send", send_and_wait)
        outgoing, incoming = await connect(alice, bob, "bob")
        assert len(sent) == 2, "ringing and answer"
        monkeypatch.undo()
        await asyncio.gather(outgoing.hang_up(), incoming.hang_up())


async def test_what_is_posted_first_goes_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side refuses a lower counter after a higher one."""
    async with house() as home:
        alice, bob = await home.friends()
        await connect_and_hang_up(alice, bob)
        desk = alice._desk
        assert desk is not None
        seal, sent = desk._sealer.seal, []
        pauses = iter((0.05, 0.0, 0.02))

        async def slow_seal(to: Any, kind: int, body: bytes) -> bytes:
            envelope = await seal(to, kind, body)
            await asyncio.sleep(next(pauses))
            return envelope + bytes([kind])

        async def send(_: bytes, envelope: bytes) -> None:
            sent.append(Kind(envelope[-1]))

        monkeypatch.setattr(desk._sealer, "seal", slow_seal)
        monkeypatch.setattr(desk._signaling, "send", send)
        kinds = [Kind.RINGING, Kind.DECLINED, Kind.BUSY]
        await asyncio.gather(*(desk.post(_party(bob), kind, bytes(16)) for kind in kinds))
        assert sent == kinds
        monkeypatch.undo()


async def test_a_ring_of_a_contact_reads_their_entry_and_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as home:
        store = MemoryStore()
        alice, bob = await home.phone("alice"), await home.phone("bob", store=store)
        await befriend(alice, bob)
        await connect_and_hang_up(alice, bob)

        async def names() -> tuple[str, ...]:
            raise AssertionError("all entries are read")

        monkeypatch.setattr(store, "names", names)
        await connect_and_hang_up(alice, bob)


async def connect_and_hang_up(alice: Phone, bob: Phone) -> None:
    outgoing, incoming = await connect(alice, bob, "bob")
    await outgoing.hang_up()
    await incoming.ended()
