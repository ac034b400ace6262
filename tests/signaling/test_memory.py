"""Mailboxes in memory."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.errors import SignalingError
from relaycall.signaling.memory import ENVELOPE_SIZE, MAILBOX_SIZE, QUEUE, MemorySignaling
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here


async def test_envelopes_arrive_in_order_and_unchanged() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    envelopes = [b"", b"one", bytes(range(256)), bytes(ENVELOPE_SIZE)]
    for envelope in envelopes:
        await signaling.send(mailbox, envelope)
    assert [await signaling.receive(mailbox, timeout=1) for _ in envelopes] == envelopes


async def test_a_reader_waits_for_the_envelope() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    reading = asyncio.ensure_future(signaling.receive(mailbox, timeout=5))
    await asyncio.sleep(0)
    assert not reading.done()
    await signaling.send(mailbox, b"hello")
    assert await reading == b"hello"


async def test_mailboxes_are_apart_and_their_names_unguessable() -> None:
    signaling = MemorySignaling()
    one, other = signaling.open_mailbox(), signaling.open_mailbox()
    assert len(one) == len(other) == MAILBOX_SIZE
    assert one != other
    await signaling.send(one, b"for one")
    with pytest.raises(SignalingError, match="in time"):
        await signaling.receive(other, timeout=0.01)
    assert await signaling.receive(one, timeout=0.01) == b"for one"


async def test_what_nobody_sends_is_not_waited_for_longer_than_asked() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    start = asyncio.get_running_loop().time()
    with pytest.raises(SignalingError):
        await signaling.receive(mailbox, timeout=0.05)
    assert 0.04 < asyncio.get_running_loop().time() - start < 1.0


async def test_what_arrives_after_the_wait_is_kept_for_the_next() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    with pytest.raises(SignalingError):
        await signaling.receive(mailbox, timeout=0.01)
    await signaling.send(mailbox, b"late")
    assert await signaling.receive(mailbox, timeout=0.01) == b"late"


async def test_a_mailbox_that_is_not_there() -> None:
    signaling = MemorySignaling()
    closed = signaling.open_mailbox()
    signaling.close_mailbox(closed)
    signaling.close_mailbox(closed)
    for mailbox in (closed, bytes(MAILBOX_SIZE), b""):
        with pytest.raises(SignalingError, match="no such mailbox"):
            await signaling.send(mailbox, b"x")
        with pytest.raises(SignalingError, match="no such mailbox"):
            await signaling.receive(mailbox, timeout=1)


async def test_an_envelope_is_at_most_4096_bytes() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    with pytest.raises(SignalingError, match="4096"):
        await signaling.send(mailbox, bytes(ENVELOPE_SIZE + 1))
    with pytest.raises(SignalingError, match="in time"):
        await signaling.receive(mailbox, timeout=0.01)


async def test_a_full_mailbox_refuses_and_keeps_what_it_has() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    for number in range(QUEUE):
        await signaling.send(mailbox, bytes([number]))
    with pytest.raises(SignalingError, match="full"):
        await signaling.send(mailbox, b"one too many")
    assert [await signaling.receive(mailbox, timeout=1) for _ in range(QUEUE)] == [bytes([n]) for n in range(QUEUE)]


async def test_an_error_names_no_mailbox() -> None:
    signaling = MemorySignaling()
    mailbox = bytes(range(MAILBOX_SIZE))
    with pytest.raises(SignalingError) as found:
        await signaling.send(mailbox, b"secret")
    shown = f"{found.value} {found.value!r} {found.value.args} {signaling!r}"
    assert mailbox.hex() not in shown
    assert repr(mailbox) not in shown
    assert "secret" not in shown


async def test_a_reader_whose_mailbox_closes_gives_up_in_time() -> None:
    signaling = MemorySignaling()
    mailbox = signaling.open_mailbox()
    reading = asyncio.ensure_future(signaling.receive(mailbox, timeout=0.05))
    await asyncio.sleep(0)
    signaling.close_mailbox(mailbox)
    with pytest.raises(SignalingError):
        await reading
