"""What every transport must do, as cases that anybody can run on theirs.

    from relaycall.signaling.rig import Rig

    class MyRig(Rig):
        async def open(self, key=None): ...
        async def reopen(self, client): ...

    @pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
    async def test_my_transport(case):
        async with MyRig() as rig:
            await case(rig)

A case takes a `Rig`, which brings the transport, and raises AssertionError where the transport breaks the contract.
Those of `RESTART_CONTRACT` take a `MortalRig`: they are for transports whose server can die and come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from relaycall.errors import (
    EnvelopeRefused,
    MailboxFull,
    MailboxRefused,
    MailboxReplaced,
    SignalingClosed,
    SignalingError,
)
from relaycall.signaling.base import (
    CLOSE_TIMEOUT,
    ENVELOPE_SIZE,
    MAILBOX_SIZE,
    QUEUE,
    SignalingState,
)
from relaycall.signaling.keys import FreshKey, mailbox_of
from relaycall.signaling.rig import (
    PATIENCE,
    Impostor,
    MortalRig,
    Rig,
    ends,
    fresh_envelope,
    refused,
    silent,
    take,
    take_distinct,
    until_taken,
)

# --- the cases -------------------------------------------------------------------------------------------------------


async def envelopes_arrive_unchanged_and_in_order(rig: Rig) -> None:
    """Those of one sender, in the order of sending, to who waits for them already."""
    sender, receiver = await rig.open(), await rig.open()
    sent = [fresh_envelope() for _ in range(20)]
    waiting = asyncio.ensure_future(take(receiver.receive(), len(sent)))
    await asyncio.sleep(0)
    for envelope in sent:
        await sender.send(receiver.mailbox, envelope)
    received = await waiting
    assert [one.envelope for one in received] == sent
    assert not any(one.duplicate for one in received)
    assert len({one.id for one in received}) == len(sent)


async def what_is_sent_at_once_keeps_its_order(rig: Rig) -> None:
    """Sends that do not wait for each other arrive in the order in which they were begun."""
    sender, receiver = await rig.open(), await rig.open()
    sent = [fresh_envelope() for _ in range(50)]
    await asyncio.gather(*(sender.send(receiver.mailbox, envelope) for envelope in sent))
    assert [one.envelope for one in await take(receiver.receive(), len(sent))] == sent


async def each_receives_only_its_own(rig: Rig) -> None:
    """Mailboxes are apart."""
    sender, one, other = await rig.open(), await rig.open(), await rig.open()
    assert len({sender.mailbox, one.mailbox, other.mailbox}) == 3
    assert len(one.mailbox) == MAILBOX_SIZE
    for_one, for_other = fresh_envelope(), fresh_envelope()
    await sender.send(one.mailbox, for_one)
    await sender.send(other.mailbox, for_other)
    assert [got.envelope for got in await take(one.receive())] == [for_one]
    assert [got.envelope for got in await take(other.receive())] == [for_other]
    assert await silent(one.receive())
    assert await silent(sender.receive())


async def a_mailbox_of_our_own_takes_envelopes_too(rig: Rig) -> None:
    """One may send to oneself."""
    client = await rig.open()
    envelope = fresh_envelope()
    await client.send(client.mailbox, envelope)
    assert [one.envelope for one in await take(client.receive())] == [envelope]


async def an_envelope_waits_for_who_comes_later(rig: Rig) -> None:
    """A mailbox takes envelopes before its owner is there."""
    sender, key = await rig.open(), FreshKey()
    envelope = fresh_envelope()
    await sender.send(mailbox_of(key.public), envelope)
    receiver = await rig.open(key)
    assert receiver.mailbox == mailbox_of(key.public)
    assert [(one.envelope, one.duplicate) for one in await take(receiver.receive())] == [(envelope, False)]


async def the_same_envelope_again_is_one_envelope(rig: Rig) -> None:
    """It is taken each time, and comes once."""
    sender, receiver = await rig.open(), await rig.open()
    incoming, envelope = receiver.receive(), fresh_envelope()
    for _ in range(3):
        await sender.send(receiver.mailbox, envelope)
    (received,) = await take(incoming)
    await sender.send(receiver.mailbox, envelope)
    await receiver.acknowledge(received)
    await sender.send(receiver.mailbox, envelope)
    assert await silent(incoming)


async def another_size_is_refused(rig: Rig) -> None:
    """Of the envelope or the mailbox id, before anything is sent."""
    sender, receiver = await rig.open(), await rig.open()
    for envelope in (b"", bytes(ENVELOPE_SIZE - 1), bytes(ENVELOPE_SIZE + 1), bytes(1_000_000)):
        await refused(EnvelopeRefused, sender.send(receiver.mailbox, envelope))
    for mailbox in (b"", bytes(MAILBOX_SIZE - 1), bytes(MAILBOX_SIZE + 1)):
        await refused(EnvelopeRefused, sender.send(mailbox, fresh_envelope()))
    assert await silent(receiver.receive())


async def a_mailbox_that_is_not_ours_is_refused(rig: Rig) -> None:
    """Who knows a public key and not the private one does not get the mailbox."""
    key = FreshKey()
    owner, sender = await rig.open(key), await rig.open()
    await refused(MailboxRefused, rig.open(Impostor(key.public)))
    envelope = fresh_envelope()
    await sender.send(owner.mailbox, envelope)
    assert [one.envelope for one in await take(owner.receive())] == [envelope]


async def a_later_client_with_the_same_key_takes_over(rig: Rig) -> None:
    """The earlier one is told so, and does not come back."""
    key = FreshKey()
    earlier, sender = await rig.open(key), await rig.open()
    incoming = earlier.receive()
    later = await rig.open(key)
    await refused(MailboxReplaced, ends(incoming))
    assert earlier.state is SignalingState.CLOSED
    await refused(MailboxReplaced, earlier.send(later.mailbox, fresh_envelope()))
    envelope = fresh_envelope()
    await sender.send(later.mailbox, envelope)
    assert [one.envelope for one in await take(later.receive())] == [envelope]


async def what_is_acknowledged_never_comes_again(rig: Rig) -> None:
    """And what is not does: after a reconnect, and to a later client, which sees that it is a duplicate."""
    key = FreshKey()
    sender, receiver = await rig.open(), await rig.open(key)
    sent = [fresh_envelope() for _ in range(4)]
    for envelope in sent:
        await sender.send(receiver.mailbox, envelope)
    received = await take(receiver.receive(), 4)
    await receiver.acknowledge(received[0])
    await receiver.acknowledge(received[2])
    await receiver.acknowledge(received[2])
    receiver = await rig.reopen(receiver)
    incoming = receiver.receive()
    again = await take(incoming, 2)
    assert [(one.envelope, one.duplicate) for one in again] == [(sent[1], True), (sent[3], True)]
    await receiver.acknowledge(again[0])
    assert await silent(incoming)
    await receiver.close()
    later = await rig.open(key)
    incoming = later.receive()
    assert [(one.envelope, one.duplicate) for one in await take(incoming)] == [(sent[3], True)]
    assert await silent(incoming)


async def nothing_is_lost_when_the_receiver_reconnects(rig: Rig) -> None:
    """What was sent before, meanwhile and after comes, in order."""
    sender, receiver = await rig.open(), await rig.open()
    sent = [fresh_envelope() for _ in range(12)]
    for envelope in sent[:4]:
        await sender.send(receiver.mailbox, envelope)
    reopening = asyncio.ensure_future(rig.reopen(receiver))
    for envelope in sent[4:8]:
        await sender.send(receiver.mailbox, envelope)
    receiver = await reopening
    for envelope in sent[8:]:
        await sender.send(receiver.mailbox, envelope)
    assert [one.envelope for one in await take_distinct(receiver.receive(), 12)] == sent


async def nothing_is_lost_when_the_sender_reconnects(rig: Rig) -> None:
    """What was sent before, at the same time and after comes once, in order."""
    sender, receiver = await rig.open(), await rig.open()
    sent = [fresh_envelope() for _ in range(12)]
    sending = [asyncio.ensure_future(sender.send(receiver.mailbox, envelope)) for envelope in sent[:6]]
    await asyncio.sleep(0)
    reopening = asyncio.ensure_future(rig.reopen(sender))
    failed = await asyncio.gather(*sending, return_exceptions=True)
    sender = await reopening
    for envelope, failure in zip(sent[:6], failed, strict=True):
        if failure is not None:  # a transport that does not reconnect by itself says so
            assert isinstance(failure, SignalingError)
            await sender.send(receiver.mailbox, envelope)
    for envelope in sent[6:]:
        await sender.send(receiver.mailbox, envelope)
    incoming = receiver.receive()
    assert [one.envelope for one in await take(incoming, 12)] == sent
    assert await silent(incoming)


async def a_mailbox_that_nobody_reads_fills_up(rig: Rig) -> None:
    """It takes 64 envelopes, then the sender is told; others are not concerned, and once read it takes more."""
    sender, receiver, other = await rig.open(), await rig.open(), await rig.open()
    sent = [fresh_envelope() for _ in range(QUEUE)]
    for envelope in sent:
        await sender.send(receiver.mailbox, envelope)
    await refused(MailboxFull, sender.send(receiver.mailbox, fresh_envelope()))
    elsewhere = fresh_envelope()
    await sender.send(other.mailbox, elsewhere)
    assert [one.envelope for one in await take(other.receive())] == [elsewhere]
    incoming = receiver.receive()
    received = await take(incoming, QUEUE)
    assert [one.envelope for one in received] == sent
    for one in received:
        await receiver.acknowledge(one)
    last = fresh_envelope()
    await until_taken(sender, receiver.mailbox, last)
    assert [one.envelope for one in await take(incoming)] == [last]


async def waiting_may_be_cancelled(rig: Rig) -> None:
    """For the next envelope, or for a send; what comes later is not lost."""
    sender, receiver = await rig.open(), await rig.open()
    incoming = receiver.receive()
    for _ in range(3):
        waiting = asyncio.ensure_future(anext(incoming))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    sending = asyncio.ensure_future(sender.send(receiver.mailbox, fresh_envelope()))
    sending.cancel()  # before its first step, so it is never sent
    await asyncio.wait([sending])
    cut_off = asyncio.ensure_future(sender.send(receiver.mailbox, fresh_envelope()))
    await asyncio.sleep(0)
    cut_off.cancel()  # on its way: it may arrive or not
    await asyncio.wait([cut_off])
    last = fresh_envelope()
    await sender.send(receiver.mailbox, last)
    async with asyncio.timeout(PATIENCE):
        while (await anext(incoming)).envelope != last:
            pass


async def states_are_told_in_order(rig: Rig) -> None:
    """Open, and closed in the end; never anything after that."""
    client = await rig.open()
    states = [client.state]
    client.on_state = states.append
    await client.close()
    await client.close()
    await asyncio.sleep(0)
    states.append(client.state)
    assert states == [SignalingState.OPEN, SignalingState.CLOSED, SignalingState.CLOSED]


async def closing_is_bounded_and_final(rig: Rig) -> None:
    """Whoever waits is let go, and everything after says that it is closed."""
    client, other = await rig.open(), await rig.open()
    waiting = asyncio.ensure_future(ends(client.receive()))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await client.close()
    assert loop.time() - start < CLOSE_TIMEOUT + 0.5
    assert await waiting
    assert await ends(client.receive())
    await refused(SignalingClosed, client.send(other.mailbox, fresh_envelope()))
    await refused(SignalingClosed, client.open())
    await other.send(client.mailbox, fresh_envelope())


CONTRACT: list[Callable[[Rig], Awaitable[None]]] = [
    envelopes_arrive_unchanged_and_in_order,
    what_is_sent_at_once_keeps_its_order,
    each_receives_only_its_own,
    a_mailbox_of_our_own_takes_envelopes_too,
    an_envelope_waits_for_who_comes_later,
    the_same_envelope_again_is_one_envelope,
    another_size_is_refused,
    a_mailbox_that_is_not_ours_is_refused,
    a_later_client_with_the_same_key_takes_over,
    what_is_acknowledged_never_comes_again,
    nothing_is_lost_when_the_receiver_reconnects,
    nothing_is_lost_when_the_sender_reconnects,
    a_mailbox_that_nobody_reads_fills_up,
    waiting_may_be_cancelled,
    states_are_told_in_order,
    closing_is_bounded_and_final,
]


async def nothing_is_lost_when_the_server_dies(rig: MortalRig) -> None:
    """What the server had taken, and forgot, comes all the same, once and in order, and so does what comes after."""
    sender, receiver, key = await rig.open(), await rig.open(), FreshKey()
    states: list[SignalingState] = []
    sender.on_state = states.append
    waiting = fresh_envelope()
    await sender.send(mailbox_of(key.public), waiting)
    sent = [fresh_envelope() for _ in range(9)]
    incoming = receiver.receive()
    for envelope in sent[:3]:
        await sender.send(receiver.mailbox, envelope)
    received = await take(incoming, 3)
    await receiver.acknowledge(received[0])
    for envelope in sent[3:6]:
        await sender.send(receiver.mailbox, envelope)
    await rig.restart()
    for envelope in sent[6:]:
        await sender.send(receiver.mailbox, envelope)
    got = received
    async with asyncio.timeout(PATIENCE):
        while len(got) < 9:
            one = await anext(incoming)
            if one.duplicate:
                assert one.envelope in {known.envelope for known in got[1:]}
            else:
                got.append(one)
    assert [one.envelope for one in got] == sent
    assert [one.envelope for one in await take((await rig.open(key)).receive())] == [waiting]
    assert states == [SignalingState.RECONNECTING, SignalingState.OPEN]


RESTART_CONTRACT: list[Callable[[MortalRig], Awaitable[None]]] = [nothing_is_lost_when_the_server_dies]
