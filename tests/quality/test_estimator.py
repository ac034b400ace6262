"""What the estimator makes of fates: exact ones, in virtual time, and whatever a peer may make up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.quality.estimator import MAX_KEPT, MAX_RATE, Load, RateEstimator
from relaycall.quality.sample import PeerReport
from tests.quality.simulated import Fated

SIZE = 1129  # bytes of a packet with SRTP; 1161 on the wire
VOICE = 56_000  # bit/s on the wire


@dataclass
class Path:
    """Packets at an even rate over a path that is told for each; fates come every 100 ms."""

    estimator: RateEstimator = field(default_factory=RateEstimator)
    now: float = 1000.0
    offset: float = -5_000_000.0  # of the peer's clock
    base: float = 0.03  # seconds on the way
    drift: float = 0.0
    number: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(1))
    last_arrival: float = 0.0
    pending: list[Fated] = field(default_factory=list)

    def send(
        self,
        seconds: float,
        rate: float,
        *,
        link: float | None = None,
        loss: float = 0.0,
        jitter: float = 0.0,
        standing: float = 0.0,
    ) -> None:
        """Send video at this rate on the wire. A link carries so much, voice besides."""
        gap = (SIZE + 32) * 8 / rate
        end = self.now + seconds
        tell_at = self.now + 0.1
        while self.now < end:
            self.now += gap
            self.estimator.sent(self.now, SIZE)
            arrived = self.now + self.base + standing + jitter * self.random.random()
            if link is not None:
                share = rate / (rate + VOICE)
                arrived = max(arrived, self.last_arrival + (SIZE + 32) * 8 / (link * share))
                self.last_arrival = arrived
            lost = self.random.random() < loss
            at = arrived * (1 + self.drift) + self.offset
            self.pending.append(Fated(self.number, SIZE, self.now, None if lost else at))
            self.number += 1
            if self.now >= tell_at:
                tell_at += 0.1
                self.tell()

    def tell(self) -> None:
        """Those that arrived by now are told, and those that are lost."""
        here = self.now * (1 + self.drift) + self.offset
        told = [fate for fate in self.pending if fate.arrived_at is None or fate.arrived_at <= here]
        self.estimator.handle_timeout(self.now)
        self.estimator.fates(self.now, told)
        self.pending = [fate for fate in self.pending if fate not in told]

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.1
            self.tell()


def test_nothing_is_known_at_first() -> None:
    estimator = RateEstimator()
    assert estimator.available is None
    assert estimator.load is Load.CLEAR


def test_what_arrives_is_available() -> None:
    path = Path()
    path.send(5, 500_000)
    assert path.estimator.load is Load.CLEAR
    assert path.estimator.available == pytest.approx(500_000 + VOICE, rel=0.05)


@pytest.mark.parametrize("link", [150_000, 400_000, 1_500_000])
def test_a_full_link_is_measured(link: int) -> None:
    path = Path()
    path.send(3, 0.5 * link)
    path.send(0.6, 2.5 * link, link=link)
    assert path.estimator.load is Load.QUEUED
    assert path.estimator.capacity == pytest.approx(link, rel=0.1)
    assert path.estimator.available == pytest.approx(0.9 * link, rel=0.1)


def test_a_queue_ends_once_its_packets_came_and_voice_behind_them_passed() -> None:
    path = Path()
    path.send(3, 200_000)
    path.send(0.6, 1_200_000, link=400_000)
    assert path.estimator.load is Load.QUEUED
    waits = path.last_arrival - path.now
    entered = path.now
    while path.estimator.load is Load.QUEUED and path.now < entered + 10:
        path.pause(0.1)
    assert waits <= path.now - entered <= 1.5 * waits + 0.2
    path.send(3, 200_000, link=400_000)
    assert path.estimator.load is Load.CLEAR
    assert path.estimator.measured == 1


def test_more_in_vain_is_seen_before_there_is_a_queue() -> None:
    """Packets wait 30 ms longer than they used to: so much is known without filling the link."""
    path = Path()
    estimator = path.estimator
    path.send(3, 300_000, link=400_000)
    estimator.changed(path.now, more=True)
    for _ in range(20):
        if estimator.load is Load.CLEAR:
            path.send(0.1, 400_000, link=400_000)
    assert estimator.load is Load.TRIED
    assert estimator.queue < 0.12
    assert estimator.capacity == pytest.approx(400_000, rel=0.05)
    assert estimator.held, "a rest, so that what waits passes"
    estimator.changed(path.now, more=False)
    path.pause(0.2)
    assert not estimator.held
    path.send(2, 300_000, link=400_000)
    assert (estimator.load, estimator.measured) == (Load.CLEAR, 1)


def test_a_queue_that_stays_after_a_trial_is_one() -> None:
    path = Path()
    path.send(3, 300_000, link=400_000)
    path.estimator.changed(path.now, more=True)
    for _ in range(20):
        if path.estimator.load is Load.CLEAR:
            path.send(0.1, 400_000, link=400_000)
    assert path.estimator.load is Load.TRIED
    path.estimator.changed(path.now, more=False)
    path.send(3, 390_000, link=400_000)
    assert path.estimator.measured == 2
    assert path.estimator.load is Load.QUEUED


def test_a_full_link_that_becomes_narrow_is_measured_as_it_is_now() -> None:
    path = Path()
    path.send(3, 500_000, link=700_000)
    path.estimator.changed(path.now, more=True)
    for _ in range(20):
        if path.estimator.load is Load.CLEAR:
            path.send(0.1, 750_000, link=700_000)
    assert path.estimator.capacity == pytest.approx(700_000, rel=0.05)
    path.estimator.changed(path.now, more=False)
    for _ in range(10):
        if path.estimator.load is Load.TRIED:
            path.send(0.1, 600_000, link=200_000)
    assert path.estimator.load is Load.QUEUED
    assert path.estimator.capacity == pytest.approx(200_000, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_chance_does_not_make_a_link_narrow(seed: int) -> None:
    path = Path(random=random.Random(seed))
    path.send(3, 200_000, jitter=0.06)
    path.send(0.6, 1_000_000, link=400_000, jitter=0.12)
    assert path.estimator.load is Load.QUEUED
    assert path.estimator.capacity is not None
    assert path.estimator.capacity > 320_000


def test_the_same_queue_without_a_trial_may_pass() -> None:
    path = Path()
    path.send(8, 300_000)
    path.send(0.4, 300_000, standing=0.05)
    path.send(1, 300_000)
    assert path.estimator.measured == 0


def test_what_is_overdue_holds_up_what_follows() -> None:
    """Before it is known whether anything is wrong: nothing was told, and nobody says that nothing will be."""
    path = Path()
    estimator = path.estimator
    path.send(3, 300_000)
    assert not estimator.held
    quiet, first = path.now, None
    while not estimator.held and path.now < quiet + 1:
        path.now += 0.01
        first = first or path.now
        estimator.sent(path.now, SIZE)
        estimator.handle_timeout(path.now)
    assert estimator.held
    assert first is not None
    assert path.now == pytest.approx(estimator.overdue_at, abs=0.011)
    assert 0.12 < path.now - first < 0.3, "sooner than silence"
    assert estimator.load is Load.CLEAR
    path.number += 100
    at = path.now + path.base
    estimator.fates(at, [Fated(path.number, SIZE, path.now, at + path.offset)])
    assert not estimator.held
    assert estimator.overdue_at == float("inf")


def test_one_lost_message_holds_up_nothing_for_long() -> None:
    path = Path()
    path.send(3, 300_000)
    pending, held = path.estimator, []
    for _ in range(10):  # two told, one not
        path.send(0.2, 300_000)
        path.now += 0.1
        pending.handle_timeout(path.now)
        held.append(pending.held)
        path.tell()
        held.append(pending.held)
    assert not any(held[1::2])
    assert pending.measured == pending.silences == 0


def test_jitter_is_no_queue() -> None:
    path = Path()
    path.send(30, 400_000, jitter=0.08)
    assert path.estimator.measured == 0


def test_a_drifting_clock_is_no_queue() -> None:
    path = Path(drift=0.0001)
    path.send(300, 100_000)
    assert path.estimator.measured == 0
    assert path.estimator.queue < 0.01


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.08])
def test_random_loss_is_no_congestion(loss: float) -> None:
    path = Path()
    for rate in (200_000, 250_000, 300_000, 400_000):
        path.estimator.changed(path.now, more=True)
        path.send(10, rate, loss=loss)
    assert path.estimator.measured <= 1  # chance
    assert path.estimator.losses.mean == pytest.approx(loss, abs=0.03)


def test_heavy_loss_that_stays_is_found_to_be_the_paths_own() -> None:
    path = Path()
    path.send(3, 400_000, loss=0.3)
    assert path.estimator.measured == 1
    path.send(4, 200_000, loss=0.3)
    assert path.estimator.load is Load.CLEAR
    assert path.estimator.losses.inherent == pytest.approx(0.3, abs=0.1)
    assert path.estimator.capacity is None
    path.send(20, 300_000, loss=0.3)
    assert path.estimator.measured == 1


def test_loss_that_comes_with_the_rate_is_a_policer() -> None:
    path = Path()
    path.send(12, 300_000)
    path.estimator.changed(path.now, more=True)
    for _ in range(15):
        if path.estimator.load is Load.CLEAR:
            path.send(0.1, 600_000, loss=0.4)
    assert path.estimator.load is Load.LOSSY
    assert path.estimator.capacity == pytest.approx(0.6 * (600_000 + VOICE), rel=0.3)
    path.send(4, 250_000)
    assert path.estimator.load is Load.CLEAR
    assert path.estimator.capacity is not None


def test_a_single_burst_of_loss_is_none_of_ours() -> None:
    path = Path()
    path.send(12, 600_000)
    path.estimator.changed(path.now, more=True)
    path.send(0.5, 600_000)
    path.send(0.1, 600_000, loss=1.0)
    path.send(2, 600_000)
    assert path.estimator.measured == 0


def test_silence_and_its_end() -> None:
    path = Path()
    path.send(3, 300_000)
    estimator = path.estimator
    estimator.report(path.now, PeerReport(received=150))
    for _ in range(12):
        path.now += 0.1
        estimator.sent(path.now, SIZE)
        estimator.handle_timeout(path.now)
    assert estimator.load is Load.SILENT
    assert estimator.silences == 1
    estimator.report(path.now, PeerReport(received=180))  # from before it was silent
    assert estimator.load is Load.SILENT
    path.now += 1.0
    estimator.report(path.now, PeerReport(received=180))
    assert estimator.load is Load.SILENT
    path.now += 1.0
    estimator.report(path.now, PeerReport(received=210))
    assert estimator.load is Load.CLEAR
    path.number += 100
    path.send(3, 300_000)
    assert estimator.silences == 0
    assert estimator.measured == 0


def test_a_capacity_is_believed_for_ten_seconds_and_then_for_twenty() -> None:
    path = Path()
    path.send(3, 200_000)
    trusted = []
    for _ in range(3):
        path.send(0.6, 1_200_000, link=400_000)
        measured_at = path.now
        path.pause(2)
        assert path.estimator.capacity is not None
        while path.estimator.capacity is not None and path.now < measured_at + 60:
            path.send(0.5, 200_000, link=400_000)
        trusted.append(path.now - measured_at)
    assert trusted == pytest.approx([10, 20, 40], abs=2)


def test_a_link_that_becomes_wider_is_seen() -> None:
    path = Path()
    path.send(3, 200_000)
    path.send(0.6, 1_200_000, link=400_000)
    path.pause(2)
    path.send(5, 200_000, standing=0.02, jitter=0.02)
    assert path.estimator.capacity is not None
    path.send(2.5, 200_000)
    assert path.estimator.capacity is None
    assert path.estimator.relieved == 1


def test_a_path_that_stays_as_it_is_is_not_seen_as_wider() -> None:
    path = Path()
    path.send(3, 200_000)
    path.send(0.6, 1_200_000, link=400_000)
    path.pause(2)
    path.send(7, 200_000, standing=0.02, jitter=0.02)
    assert path.estimator.relieved == 0
    assert path.estimator.capacity is not None


def test_a_longer_way_is_accepted_as_it_is() -> None:
    path = Path()
    path.send(5, 300_000)
    path.base = 0.3
    path.send(30, 300_000)
    assert 1 <= path.estimator.measured <= 4
    assert path.estimator.load is Load.CLEAR
    assert path.estimator.queue < 0.01


def test_a_longer_way_that_is_announced_is_no_queue() -> None:
    path = Path()
    path.send(5, 300_000)
    path.base = 0.3
    path.estimator.path_changed(path.now)
    path.send(30, 300_000)
    assert path.estimator.measured == 0


def test_a_clock_that_jumps_is_no_queue() -> None:
    path = Path()
    path.send(5, 300_000)
    path.offset += 1000
    path.send(5, 300_000)
    assert path.estimator.measured == 0
    assert path.estimator.dropped["clock"] == 1


def test_a_packet_that_was_sent_again_comes_late_and_is_no_queue() -> None:
    path = Path()
    path.send(5, 300_000)
    late = [
        Fated(number, SIZE, path.now - 2, path.now + path.offset) for number in range(path.number - 40, path.number)
    ]
    path.estimator.fates(path.now, late)
    assert path.estimator.queue < 0.01


NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15),
    st.floats(),
    st.sampled_from([0, -1, 10**12, 10**400, float("nan"), float("inf"), float("-inf"), 1e308, 1000.0]),
)
FATES = st.builds(
    Fated,
    number=st.one_of(st.integers(0, 300), st.integers()),
    size=st.one_of(st.integers(1, 1500), st.integers()),
    sent_at=st.one_of(st.floats(990, 1010), NUMBERS),
    arrived_at=st.one_of(st.none(), st.floats(0, 100), NUMBERS),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(st.lists(FATES, max_size=40), st.floats(0, 1.0)), max_size=30))
def test_lies_are_bounded(told: list[tuple[list[Fated], float]]) -> None:
    estimator = RateEstimator()
    now = 1000.0
    for fates, pause in told:
        now += pause
        estimator.sent(now, SIZE)
        estimator.fates(now, fates)
        estimator.handle_timeout(now)
        assert estimator.available is None or 0 <= estimator.available <= 65568 * 8 * 40 * 30 + VOICE
        assert estimator.capacity is None or 0 <= estimator.capacity <= MAX_RATE
        assert estimator.queue >= 0
        assert 0 <= estimator.losses.latest <= 1
        assert 0 <= estimator.round_trip <= 1000


@given(st.lists(st.builds(PeerReport, received=NUMBERS, lost=NUMBERS, queue_ms=NUMBERS), max_size=20))
def test_false_reports_are_bounded(reports: list[PeerReport]) -> None:
    estimator = RateEstimator()
    for second, report in enumerate(reports):
        estimator.report(1000.0 + second, report)
        assert 0 <= estimator.hearing.loss <= 1
        assert 0 <= estimator.hearing.latest_loss <= 1
        assert 0 <= estimator.hearing.queue <= 60


def test_what_is_kept_does_not_grow() -> None:
    estimator = RateEstimator()
    for number in range(0, 20_000, 50):
        now = 1000 + number / 1e5
        for _ in range(50):
            estimator.sent(now, SIZE)
        estimator.fates(now, [Fated(number + k, SIZE, now, 7.0) for k in range(50)])
    kept = [estimator._flying, estimator._transits._arrivals, estimator._transits._means, estimator.losses._counts]
    assert all(len(one) <= MAX_KEPT for one in kept)


def test_all_lost_is_no_word_of_arrival() -> None:
    estimator = RateEstimator()
    for k in range(30):
        estimator.sent(1000 + k / 10, SIZE)
        estimator.fates(1000 + k / 10, [Fated(k, SIZE, 1000 + k / 10, None)])
    assert estimator.available is None or estimator.available <= VOICE
