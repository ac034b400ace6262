"""What every transport with nameplates must do besides, as cases that anybody can run on theirs.

They are run as those of `relaycall.signaling.contract` are, with the same `Rig`. Its clients have to be `Rendezvous`,
and its server must not count how often they ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from relaycall.errors import NameplateUnknown, SignalingClosed, SignalingError
from relaycall.signaling.base import Signaling, SignalingState
from relaycall.signaling.keys import FreshKey, MailboxKey
from relaycall.signaling.rendezvous import Rendezvous
from relaycall.signaling.rig import PATIENCE, Rig, fresh_envelope, refused, take


async def a_number_leads_to_the_mailbox(rig: Rig) -> None:
    """Who claims it can write to who had it allocated, and be answered."""
    ours, theirs = await _opened(rig), await _opened(rig)
    mailbox = await theirs.claim_nameplate(await ours.allocate_nameplate())
    assert mailbox == ours.mailbox
    asked, answered = fresh_envelope(), fresh_envelope()
    await theirs.send(mailbox, asked)
    assert [one.envelope for one in await take(ours.receive())] == [asked]
    await ours.send(theirs.mailbox, answered)
    assert [one.envelope for one in await take(theirs.receive())] == [answered]


async def a_number_is_for_one_use(rig: Rig) -> None:
    """A second claim finds nothing, whoever makes it."""
    ours, theirs, other = await _opened(rig), await _opened(rig), await _opened(rig)
    number = await ours.allocate_nameplate()
    await theirs.claim_nameplate(number)
    for client in (other, theirs, ours):
        await refused(NameplateUnknown, client.claim_nameplate(number))


async def of_many_that_claim_at_once_one_is_told(rig: Rig) -> None:
    """Also when they ask from different places."""
    ours, others = await _opened(rig), [await _opened(rig) for _ in range(4)]
    number = await ours.allocate_nameplate()
    found = await asyncio.gather(*(other.claim_nameplate(number) for other in others), return_exceptions=True)
    assert [one for one in found if not isinstance(one, NameplateUnknown)] == [ours.mailbox]


async def an_unknown_number_is_refused(rig: Rig) -> None:
    """Of any size; and nothing else comes of it."""
    ours, theirs = await _opened(rig), await _opened(rig)
    number = await ours.allocate_nameplate()
    for unknown in (-1, 0, 10**7, 2**32 - 1, 2**32, 10**40):
        await refused(NameplateUnknown, theirs.claim_nameplate(unknown))
    assert await theirs.claim_nameplate(number) == ours.mailbox


async def numbers_given_out_at_once_differ(rig: Rig) -> None:
    """Each is its mailbox's, and short."""
    clients = [await _opened(rig) for _ in range(6)]
    numbers = await asyncio.gather(*(client.allocate_nameplate() for client in clients))
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number < 1000 for number in numbers)
    claimed = await asyncio.gather(*(clients[0].claim_nameplate(number) for number in numbers))
    assert claimed == [client.mailbox for client in clients]


async def a_mailbox_has_one_number_at_a_time(rig: Rig) -> None:
    """Asked again, it is the same; once it is claimed, it is another."""
    key = FreshKey()
    ours, theirs = await _opened(rig, key), await _opened(rig)
    numbers = await asyncio.gather(*(ours.allocate_nameplate() for _ in range(5)))
    assert len(set(numbers)) == 1
    await ours.close()
    ours = await _opened(rig, key)
    number = await ours.allocate_nameplate()
    assert number == numbers[0]
    assert await theirs.claim_nameplate(number) == ours.mailbox
    another = await ours.allocate_nameplate()
    assert another != number
    assert await theirs.claim_nameplate(another) == ours.mailbox


async def a_released_number_leads_nowhere(rig: Rig) -> None:
    """To release it twice, or without one, does no harm, to others neither."""
    ours, theirs = await _opened(rig), await _opened(rig)
    await ours.release_nameplate()
    number, other = await ours.allocate_nameplate(), await theirs.allocate_nameplate()
    await ours.release_nameplate()
    await ours.release_nameplate()
    await refused(NameplateUnknown, theirs.claim_nameplate(number))
    assert await ours.claim_nameplate(other) == theirs.mailbox
    await theirs.release_nameplate()


async def a_number_survives_a_reconnect(rig: Rig) -> None:
    """Of who has it, and of who claims it."""
    ours, theirs = await _opened(rig), await _opened(rig)
    number = await ours.allocate_nameplate()
    ours = _with_nameplates(await rig.reopen(ours))
    theirs = _with_nameplates(await rig.reopen(theirs))
    assert await ours.allocate_nameplate() == number
    assert await theirs.claim_nameplate(number) == ours.mailbox


async def what_is_asked_while_the_connection_breaks_is_done_once(rig: Rig) -> None:
    """A transport that does not reconnect by itself says that it was closed."""
    ours, theirs = await _opened(rig), await _opened(rig)
    allocating = asyncio.ensure_future(ours.allocate_nameplate())
    await asyncio.sleep(0)
    reopened = _with_nameplates(await rig.reopen(ours))
    (allocated,) = await asyncio.gather(allocating, return_exceptions=True)
    number = await reopened.allocate_nameplate()
    assert allocated == number or isinstance(allocated, SignalingError)
    claiming = asyncio.ensure_future(theirs.claim_nameplate(number))
    await asyncio.sleep(0)
    await rig.reopen(theirs)
    (claimed,) = await asyncio.gather(claiming, return_exceptions=True)
    assert claimed == ours.mailbox or (theirs.state is SignalingState.CLOSED and isinstance(claimed, SignalingError))


async def asking_may_be_cancelled(rig: Rig) -> None:
    """What was asked for may be done or not; what is asked for next is."""
    ours, theirs = await _opened(rig), await _opened(rig)
    for _ in range(3):
        allocating = asyncio.ensure_future(ours.allocate_nameplate())
        await asyncio.sleep(0)
        allocating.cancel()
        await asyncio.wait([allocating])
    number = await ours.allocate_nameplate()
    assert await theirs.claim_nameplate(number) == ours.mailbox
    await refused(NameplateUnknown, theirs.claim_nameplate(number))


async def who_is_not_open_is_told_so(rig: Rig) -> None:
    """Whoever waits when it is closed, and whoever asks afterwards."""
    ours, theirs = await _opened(rig), await _opened(rig)
    number = await ours.allocate_nameplate()
    waiting = asyncio.ensure_future(theirs.allocate_nameplate())
    await asyncio.sleep(0)
    await theirs.close()
    async with asyncio.timeout(PATIENCE):
        (told,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(told, int | SignalingClosed)
    await refused(SignalingClosed, theirs.allocate_nameplate())
    await refused(SignalingClosed, theirs.claim_nameplate(number))
    await refused(SignalingClosed, theirs.claim_nameplate(-1))
    await refused(SignalingClosed, theirs.release_nameplate())
    assert await ours.allocate_nameplate() == number


async def _opened(rig: Rig, key: MailboxKey | None = None) -> Rendezvous:
    return _with_nameplates(await rig.open(key))


def _with_nameplates(client: Signaling) -> Rendezvous:
    assert isinstance(client, Rendezvous)
    return client


RENDEZVOUS_CONTRACT: list[Callable[[Rig], Awaitable[None]]] = [
    a_number_leads_to_the_mailbox,
    a_number_is_for_one_use,
    of_many_that_claim_at_once_one_is_told,
    an_unknown_number_is_refused,
    numbers_given_out_at_once_differ,
    a_mailbox_has_one_number_at_a_time,
    a_released_number_leads_nowhere,
    a_number_survives_a_reconnect,
    what_is_asked_while_the_connection_breaks_is_done_once,
    asking_may_be_cancelled,
    who_is_not_open_is_told_so,
]
