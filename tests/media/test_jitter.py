"""The jitter buffer alone: which packet is next, what is late, and that its bounds hold whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.jitter import COPIES, COPY_WAIT, MAX_AT_ALL, MAX_PACKETS, MAX_TARGET, JitterBuffer
from relaycall.media.opus import FRAME_SAMPLES as FRAME
from relaycall.media.opus import FRAME_SECONDS
from relaycall.media.opus import SAMPLE_RATE as RATE

START = 5000  # timestamp of packet 0


class Listener:
    """Asks every 20 ms, and knows packets by their number."""

    def __init__(self, start: int = START, now: float = 100.0) -> None:
        self.buffer = JitterBuffer()
        self.start = start
        self.now = now

    def gets(self, *numbers: float) -> None:
        for number in numbers:
            timestamp = (self.start + round(FRAME * number)) & 0xFFFFFFFF
            self.buffer.add(timestamp, str(number).encode(), self.now)

    def hears(self, frames: int = 1) -> list[float | None]:
        """The next frames, in time."""
        heard: list[float | None] = []
        for _ in range(frames):
            self.now += FRAME_SECONDS
            self.buffer.tick(self.now, 0)
            payload = self.buffer.next()
            heard.append(None if payload is None else float(payload))
        return heard

    def call(self, count: int, first: int = 0) -> None:
        """So many packets, each in time and heard."""
        for number in range(first, first + count):
            self.gets(number)
            assert self.hears() == [number]


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_in_order(listener: Listener) -> None:
    listener.call(200)
    assert listener.buffer.late == listener.buffer.skipped == 0
    assert listener.buffer.delay == pytest.approx(FRAME_SECONDS)
    assert listener.buffer.target == pytest.approx(FRAME_SECONDS)


def test_before_the_first_packet_there_is_nothing(listener: Listener) -> None:
    assert listener.hears(3) == [None, None, None]
    assert listener.buffer.empty
    listener.gets(0)
    assert listener.buffer.ready
    assert listener.hears() == [0]


@pytest.mark.parametrize("start", [0, START, 2**31 - 1000, 2**32 - 1000])
def test_order_is_repaired_and_timestamps_wrap(start: int) -> None:
    listener = Listener(start)
    listener.gets(0, 2, 1, 4, 3)
    assert listener.hears(5) == [0, 1, 2, 3, 4]


def test_timestamps_may_be_unwrapped_already() -> None:
    buffer = JitterBuffer()
    for number in range(3):
        buffer.add(2**32 - 960 + 960 * number, b"%d" % number, 1.0)
    assert [buffer.next() for _ in range(3)] == [b"0", b"1", b"2"]


def test_a_lost_packet_costs_its_own_time_only(listener: Listener) -> None:
    listener.call(10)
    listener.gets(11)
    assert listener.hears() == [None]
    listener.gets(12)
    assert listener.hears(2) == [11, 12]


def test_what_comes_after_its_turn_is_late(listener: Listener) -> None:
    listener.call(10)
    listener.gets(11)
    assert listener.hears() == [None]
    listener.gets(10)
    assert listener.hears(2) == [11, None]
    assert listener.buffer.late == 1
    listener.gets(11)
    assert listener.buffer.late == 2, "heard already"
    assert listener.buffer.empty


def test_duplicates_are_ignored(listener: Listener) -> None:
    listener.gets(0, 1, 1, 0, 1)
    assert listener.hears(3) == [0, 1, None]
    assert listener.buffer.late == 0


def test_what_an_outage_delayed_is_heard(listener: Listener) -> None:
    listener.call(10)
    assert listener.hears(6) == [None] * 6
    listener.gets(*range(10, 17))
    assert listener.hears(7) == [10, 11, 12, 13, 14, 15, 16]
    assert listener.buffer.late == 0
    assert listener.buffer.delay == pytest.approx(0.14), "for which the delay grew"


def test_new_packets_before_the_delayed_ones(listener: Listener) -> None:
    listener.call(10)
    assert listener.hears(6) == [None] * 6
    listener.gets(16, 15, 14, 13)
    assert listener.hears(4) == [13, 14, 15, 16]
    listener.gets(10, 11)
    assert listener.hears() == [None]
    assert listener.buffer.late == 2, "sound went on since"


def test_only_a_quarter_of_a_second_is_gone_back(listener: Listener) -> None:
    listener.call(10)
    listener.hears(50)
    listener.gets(*range(10, 61))
    frames = listener.hears(15)
    first = frames[0]
    assert first is not None
    assert 60 - 13 <= first <= 60 - 11
    assert [frame for frame in frames if frame is not None] == list(range(int(first), 61))
    assert listener.buffer.late == first - 10
    assert listener.buffer.skipped == 0


def test_outages_do_not_add_up(listener: Listener) -> None:
    """A second outage before the delay of the first is brought back: what would double it is dropped, not skipped."""
    listener.call(10)
    assert listener.hears(12) == [None] * 12
    listener.gets(*range(10, 23))
    for number in range(23, 31):
        assert listener.hears() == [number - 13]
        listener.gets(number)
    assert listener.hears(24)[-11:] == [None] * 11
    listener.gets(*range(31, 55))
    assert listener.buffer.late >= 10
    assert listener.hears() == [31 + listener.buffer.late]
    assert listener.buffer.skipped == 0
    assert listener.buffer.delay - listener.buffer.target <= MAX_AT_ALL / RATE


def test_far_above_the_target_it_skips(listener: Listener) -> None:
    listener.call(100)
    listener.now += 2.0  # our own stall
    listener.gets(*range(100, 201))
    assert listener.hears() == [200], "what arrived just now"
    assert listener.buffer.skipped == 100 * FRAME
    assert listener.buffer.delay == pytest.approx(FRAME_SECONDS)


def test_our_own_stall_is_not_jitter(listener: Listener) -> None:
    listener.call(100)
    for number in range(100, 200, 10):
        listener.now += 9 * FRAME_SECONDS
        listener.gets(*range(number, number + 10))
        listener.hears()
    assert listener.buffer.target == pytest.approx(FRAME_SECONDS)


def test_the_same_on_the_way_is_jitter(listener: Listener) -> None:
    listener.call(100)
    for number in range(100, 200, 10):
        listener.hears(9)
        listener.gets(*range(number, number + 10))
        listener.hears()
    assert 0.15 < listener.buffer.target < 0.25


def test_a_single_spike_is_an_accident(listener: Listener) -> None:
    listener.call(100)
    listener.hears(9)
    listener.gets(*range(100, 110))
    listener.hears(10)
    assert listener.buffer.target == pytest.approx(FRAME_SECONDS)


@pytest.mark.parametrize("jump", [5.0, -5.0, 100000.0, -100000.0, 40000.0, -0.4, -0.5, 0.001, -0.03])
def test_a_new_timeline_is_followed_within_a_quarter_of_a_second(listener: Listener, jump: float) -> None:
    listener.call(100)
    listener.start += round(jump * RATE)
    silence = 0
    for number in range(100, 200):
        listener.gets(number)
        silence += listener.hears() == [None]
    assert silence <= 12
    assert listener.hears(2)[0] is not None
    assert listener.buffer.delay < 0.05


@pytest.mark.parametrize("jump", [0.04, 0.3, 0.9, -0.04, -0.1, -0.2])
def test_a_small_jump_is_followed(listener: Listener, jump: float) -> None:
    listener.call(100)
    listener.start += round(jump * RATE)
    heard = []
    for number in range(100, 300):
        listener.gets(number)
        heard += listener.hears()
    assert None not in heard[-50:]


def test_a_single_stray_changes_nothing(listener: Listener) -> None:
    listener.call(100)
    for number in range(100, 150):
        listener.gets(number + 100000, number, number - 100000)
        assert listener.hears() == [number]
    assert listener.buffer.late == 100


def test_stragglers_of_an_outage_are_not_a_new_timeline(listener: Listener) -> None:
    listener.call(100)
    for straggler in (80, 81, 85, 86, 87):
        assert listener.hears(6) == [None] * 6
        listener.gets(straggler)
    listener.gets(130)
    assert listener.hears() == [130]
    assert listener.buffer.late == 5


def test_a_flood_is_bounded_and_the_newest_stay(listener: Listener) -> None:
    for number in range(40 * MAX_PACKETS):
        listener.now += 0.019
        listener.gets(number, number + 0.5)
        assert len(listener.buffer._packets) <= MAX_PACKETS
    assert listener.buffer._packets.keys() >= {START + FRAME * (number - n) for n in range(MAX_PACKETS)}


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_the_base_follows_a_clock_that_drifts(drift: float) -> None:
    generator = random.Random(5)
    listener = Listener()
    surpluses = []
    waiting = 0
    arrivals = sorted((n * FRAME_SECONDS * (1 + drift) + generator.random() * 0.01, n) for n in range(50 * 120))
    position = 0
    for tick in range(50 * 120):
        due = 0.03 + tick * FRAME_SECONDS
        while position < len(arrivals) and arrivals[position][0] <= due:
            arrival, number = arrivals[position]
            listener.buffer.add(START + FRAME * number, b"x", arrival)
            position += 1
        surpluses.append(surplus := listener.buffer.tick(due, waiting))
        waiting -= FRAME + (96 if surplus > 720 else -96 if surplus < -240 else 0)
        while waiting < 0:
            listener.buffer.next()
            waiting += FRAME
    assert max(abs(surplus) for surplus in surpluses[100:]) < 0.03 * RATE
    assert listener.buffer.late <= 3


def test_the_packet_after_a_missing_one_can_be_seen(listener: Listener) -> None:
    listener.call(10)
    assert listener.buffer.following is None
    listener.gets(11)
    assert listener.hears() == [None]
    assert listener.buffer.following == b"11"
    assert listener.hears() == [11]
    assert listener.buffer.following is None


def test_the_target_is_longer_for_20_s_after_each_loss_with_a_copy(listener: Listener) -> None:
    listener.call(100)
    start = listener.now
    listener.buffer.expect_copies()
    targets = []
    for number in range(100, 2000):
        listener.gets(number)
        listener.hears()
        if listener.now - start == pytest.approx(10):
            listener.buffer.expect_copies()
        targets.append((listener.now - start, listener.buffer.target))
    assert all(target == pytest.approx(FRAME_SECONDS + COPY_WAIT) for time, target in targets if time < 9.9 + COPIES)
    assert all(target == pytest.approx(FRAME_SECONDS) for time, target in targets if time > 10.1 + COPIES)


def test_what_waits_on_the_way_is_known(listener: Listener) -> None:
    listener.call(100)
    assert listener.buffer.queueing.mean == pytest.approx(0)
    listener.hears(4)
    for number in range(100, 200):
        listener.gets(number)
        listener.hears()
    assert listener.buffer.queueing.mean == pytest.approx(0.08)


def test_our_own_stall_is_no_queue(listener: Listener) -> None:
    listener.call(100)
    for number in range(100, 200, 10):
        listener.now += 9 * FRAME_SECONDS
        listener.gets(*range(number, number + 10))
        listener.hears()
    assert listener.buffer.queueing.mean == pytest.approx(0)


# --- whatever comes ---------------------------------------------------------------------------------------------------

ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("near"), st.integers(-40 * FRAME, 40 * FRAME)),
    st.tuples(st.just("tick"), st.integers(1, 5)),
    st.tuples(st.just("wait"), st.integers(0, 3000)),
)


@given(st.lists(ACTIONS, max_size=150), st.integers(0, 2**32 - 1))
def test_any_packets_and_ticks_keep_the_bounds(actions: list[tuple[str, int]], first: int) -> None:
    buffer = JitterBuffer()
    now, timestamp = 50.0, first
    for action, value in actions:
        if action == "add":
            timestamp = value
            buffer.add(timestamp, b"x", now)
        elif action == "near":
            timestamp = (timestamp + value) & 0xFFFFFFFF
            buffer.add(timestamp, b"x", now)
        elif action == "wait":
            now += value / 1000
        else:
            for _ in range(value):
                now += FRAME_SECONDS
                surplus = buffer.tick(now, 0)
                assert surplus <= MAX_AT_ALL
                ready = buffer.ready
                assert (buffer.next() is not None) or not ready
        assert len(buffer._packets) <= MAX_PACKETS
        assert FRAME_SECONDS - 1e-9 <= buffer.target <= MAX_TARGET
        assert all(buffer._head <= held for held in buffer._packets)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 0.2)), min_size=1, max_size=60, unique_by=lambda p: p[0]))
def test_no_packet_is_heard_twice_or_out_of_order(packets: list[tuple[int, float]]) -> None:
    listener = Listener()
    arrivals = sorted((number * FRAME_SECONDS + delay, number) for number, delay in packets)
    heard: list[float] = []
    for tick in range(200):
        due = 0.001 + tick * FRAME_SECONDS
        while arrivals and arrivals[0][0] <= due:
            arrival, number = arrivals.pop(0)
            listener.now = 100 + arrival
            listener.gets(number)
        listener.now = 100 + due - FRAME_SECONDS
        heard += [frame for frame in listener.hears() if frame is not None]
    assert heard == sorted(set(heard))
    assert len(heard) + listener.buffer.late + listener.buffer.skipped // FRAME >= len(packets)
