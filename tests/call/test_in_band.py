"""In-band control at work: two sides, a path between them, and how a call ends in so many milliseconds."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from relaycall.call.control import Control
from relaycall.call.control_format import ControlState, HangupReason
from relaycall.call.in_band import InBand
from relaycall.media.transport import RtpTransport
from relaycall.stun.address import Address
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually

START = ControlState((Address("9.9.9.1", 5001),)), ControlState((Address("9.9.9.2", 5002),))
MOVED = Address("9.9.9.3", 5003)


class Road:
    """One side's transport: hands its messages to the other's after 10 ms, or loses them.

    Attributes:
        sent: when, by the loop's clock.
        broken: loses everything.
    """

    def __init__(self) -> None:
        self.on_control: object = None
        self.other = self
        self.sent: list[float] = []
        self.broken = False
        self._loop = asyncio.get_running_loop()

    def send_control(self, payload: bytes) -> None:
        self.sent.append(self._loop.time())
        if not self.broken:
            self._loop.call_later(0.01, self.other.arrive, payload)

    def arrive(self, payload: bytes) -> None:
        if callable(self.on_control):
            self.on_control(payload)


class Party:
    """One side, and the news it got."""

    def __init__(self, number: int) -> None:
        self.road = Road()
        self.news: list[ControlState] = []
        self.control = Control(START[number], START[1 - number])
        self.in_band = InBand(cast(RtpTransport, self.road), self.control, self.news.append)


class Pair:
    """Both."""

    def __init__(self) -> None:
        self.alice, self.bob = Party(0), Party(1)
        self.alice.road.other, self.bob.road.other = self.bob.road, self.alice.road

    def cut(self) -> None:
        """Nothing arrives any more, either way."""
        self.alice.road.broken = self.bob.road.broken = True

    def close(self) -> None:
        self.alice.in_band.close()
        self.bob.in_band.close()


@pytest.fixture
async def pair() -> Pair:
    return Pair()


async def timed_hang_up(party: Party) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await party.in_band.hang_up(HangupReason.FINISHED)
    return loop.time() - started


async def test_what_changes_is_told_and_repeated_until_it_arrived(pair: Pair) -> None:
    pair.alice.road.broken = True
    pair.alice.in_band.update(muted=True)
    await asyncio.sleep(0.1)
    assert 3 <= len(pair.alice.road.sent) <= 5
    assert pair.bob.news == []
    pair.alice.road.broken = False
    await eventually(lambda: pair.bob.news)
    assert [news.muted for news in pair.bob.news] == [True]
    assert pair.bob.in_band.remote == pair.bob.news[0]
    await asyncio.sleep(0.05)
    seen = len(pair.alice.road.sent), len(pair.bob.road.sent)
    await asyncio.sleep(0.4)
    assert (len(pair.alice.road.sent), len(pair.bob.road.sent)) == seen  # silent once it is known
    pair.close()


async def test_one_change_does_not_undo_another(pair: Pair) -> None:
    pair.alice.in_band.update(muted=True)
    pair.alice.in_band.update(candidates=(MOVED,))
    pair.alice.in_band.update(protect=True)
    await eventually(lambda: pair.bob.in_band.remote == ControlState((MOVED,), muted=True, protect=True))
    pair.close()


# --- hanging up -------------------------------------------------------------------------------------------------------


async def test_a_hangup_that_is_acknowledged_does_not_wait(pair: Pair) -> None:
    assert await timed_hang_up(pair.alice) < 0.15
    assert pair.bob.news[-1].hangup is HangupReason.FINISHED
    pair.close()


async def test_a_hangup_that_nobody_hears_waits_three_tenths_of_a_second(pair: Pair) -> None:
    pair.cut()
    assert 0.29 < await timed_hang_up(pair.alice) < 0.5
    assert len(pair.alice.road.sent) >= 3  # it was repeated meanwhile
    pair.close()


async def test_an_older_acknowledgement_is_none(pair: Pair) -> None:
    """What comes back for an earlier change is not about the hangup."""
    pair.alice.in_band.update(muted=True)
    await asyncio.sleep(0.015)  # it has arrived, and its acknowledgement is on its way
    assert pair.bob.news
    pair.alice.road.broken = True
    assert await timed_hang_up(pair.alice) > 0.29
    pair.close()


async def test_both_at_once(pair: Pair) -> None:
    took = await asyncio.gather(timed_hang_up(pair.alice), timed_hang_up(pair.bob))
    assert max(took) < 0.15
    for party in (pair.alice, pair.bob):
        assert party.in_band.remote.hangup is HangupReason.FINISHED
    pair.close()


async def test_who_was_hung_up_on_has_nobody_to_tell(pair: Pair) -> None:
    await pair.alice.in_band.hang_up(HangupReason.ERROR)
    before = len(pair.bob.road.sent)
    assert await timed_hang_up(pair.bob) < 0.05
    assert len(pair.bob.road.sent) == before
    assert [news.hangup for news in pair.bob.news] == [HangupReason.ERROR]
    pair.close()


async def test_hanging_up_twice_is_hanging_up(pair: Pair) -> None:
    await timed_hang_up(pair.alice)
    assert await timed_hang_up(pair.alice) < 0.1
    await asyncio.sleep(0.05)
    assert len(pair.bob.news) == 1
    pair.close()


async def test_a_cancelled_hangup_is_told_all_the_same(pair: Pair) -> None:
    task = asyncio.ensure_future(pair.alice.in_band.hang_up(HangupReason.FINISHED))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await eventually(lambda: pair.bob.news)
    pair.close()


async def test_after_a_hangup_nothing_changes_and_nobody_complains(pair: Pair) -> None:
    await pair.alice.in_band.hang_up(HangupReason.FINISHED)
    sent = len(pair.alice.road.sent)
    pair.alice.in_band.update(muted=True)
    pair.alice.in_band.update(candidates=(MOVED,))
    await asyncio.sleep(0.05)
    assert len(pair.alice.road.sent) == sent
    assert len(pair.bob.news) == 1
    assert not pair.alice.control.local.muted
    pair.close()


# --- closed -----------------------------------------------------------------------------------------------------------


async def test_closed_it_sends_and_takes_nothing(pair: Pair) -> None:
    pair.cut()
    pair.alice.in_band.update(muted=True)
    pair.alice.in_band.close()
    pair.alice.in_band.close()
    sent = len(pair.alice.road.sent)
    await asyncio.sleep(0.2)
    assert len(pair.alice.road.sent) == sent
    pair.bob.road.broken = False
    pair.bob.in_band.update(muted=True)
    await asyncio.sleep(0.05)
    assert pair.alice.news == []
    pair.close()


@pytest.mark.parametrize("how", ["the same once more", "something else"])
async def test_closed_it_stays_quiet_whatever_is_said(pair: Pair, how: str) -> None:
    """The first after a hangup that nobody acknowledged, the second after the peer's: setting `muted` is enough."""
    if how == "the same once more":
        pair.cut()
        await pair.alice.in_band.hang_up(HangupReason.FINISHED)
    else:
        await pair.bob.in_band.hang_up(HangupReason.FINISHED)
        await pair.alice.in_band.hang_up(HangupReason.FINISHED)
    pair.close()
    sent = len(pair.alice.road.sent)
    pair.alice.in_band.update(muted=how == "something else")
    try:
        await asyncio.sleep(0.1)
        assert len(pair.alice.road.sent) == sent
        assert pair.alice.in_band._timer is None or pair.alice.in_band._timer.cancelled()
    finally:
        pair.close()
