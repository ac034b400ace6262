"""When packets of video leave, which are sent again, and what is known of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.srtp import RTP_HEADER_SIZE, TAG_SIZE
from relaycall.media.video.fates import LOST_MESSAGES, MAX_SHIFT, WRAP, Fate, FateLog
from relaycall.media.video.feedback import MAX_WANTS, Arrivals
from relaycall.media.video.format import MIN_BITRATE
from relaycall.media.video.history import KEPT_PACKETS, KEPT_SECONDS, MAX_TIMES, MIN_PACKETS, PacketHistory
from relaycall.media.video.pacer import MAX_PIECE, Pacer, Piece, pieces_of

PACKET = 1000  # bytes

# --- pieces -----------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=6000), st.booleans())
def test_pieces_make_up_the_picture(data: bytes, keyframe: bool) -> None:
    pieces = pieces_of(data, 90, keyframe=keyframe)
    assert b"".join(piece.payload[1:] for piece in pieces) == data
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.payload[0] for piece in pieces] == [2 * keyframe + (number == 0) for number in range(len(pieces))]
    assert {piece.timestamp for piece in pieces} == {90}
    sizes = [len(piece.payload) for piece in pieces]
    assert max(sizes) <= MAX_PIECE + 1
    assert min(sizes) > 1
    assert len(pieces) == -(-len(data) // MAX_PIECE)


# --- pace -------------------------------------------------------------------------------------------------------------


def drain(pacer: Pacer, start: float, until: float) -> list[tuple[float, Piece | bytes]]:
    """What leaves when it is asked for as it says."""
    out, now = [], start
    while True:
        while (one := pacer.take(now)) is not None:
            out.append((now, one))
        if pacer.next_at is None or pacer.next_at > until:
            return out
        assert pacer.next_at > now
        now = pacer.next_at


def test_a_picture_leaves_evenly_at_half_as_much_again_as_the_bit_rate() -> None:
    pacer = Pacer()
    pacer.bitrate = 400_000
    pieces = pieces_of(bytes(20 * MAX_PIECE), 0, keyframe=True)
    pacer.add(pieces)
    expected = 20 * (MAX_PIECE + 1 + RTP_HEADER_SIZE + TAG_SIZE) * 8 / 600_000
    assert abs(pacer.seconds - expected) < 1e-9
    out = drain(pacer, 100.0, 200.0)
    assert [piece for _, piece in out] == pieces
    times = [time for time, _ in out]
    assert times[0] == 100.0, "the first at once"
    gaps = [after - before for before, after in pairwise(times[1:])]
    assert max(gaps) - min(gaps) < 1e-9
    assert abs(times[-1] - times[0] - expected) < 0.035
    assert pacer.next_at is None
    assert pacer.seconds == 0


def test_who_is_late_makes_up_for_little() -> None:
    pacer = Pacer()
    pacer.bitrate = 1_000_000
    pacer.add(pieces_of(bytes(100 * MAX_PIECE), 0, keyframe=True))
    assert pacer.take(10.0)
    at_once = sum(1 for _ in iter(lambda: pacer.take(15.0), None))
    assert 1 <= at_once <= 3


def test_what_is_wanted_again_leaves_first_and_at_the_same_pace() -> None:
    pacer = Pacer()
    pacer.bitrate = 400_000
    pieces = pieces_of(bytes(3 * MAX_PIECE), 0, keyframe=False)
    pacer.add(pieces)
    for number in range(3):
        pacer.add_again(bytes([number]) * PACKET)
    out = drain(pacer, 0.0, 10.0)
    assert [one if isinstance(one, Piece) else one[0] for _, one in out] == [0, 1, 2, *pieces]
    assert out[-1][0] > 5 * PACKET * 8 / 600_000 - 0.011


def test_what_has_begun_is_finished_and_the_rest_dropped() -> None:
    pacer = Pacer()
    pacer.bitrate = 400_000
    first, second = pieces_of(bytes(5 * MAX_PIECE), 0, keyframe=True), pieces_of(bytes(3000), 1, keyframe=False)
    pacer.add(first)
    pacer.add(second)
    pacer.add_again(bytes(PACKET))
    assert isinstance(pacer.take(0.0), bytes)
    assert pacer.take(1.0) == first[0]
    pacer.add_again(bytes(PACKET))
    assert pacer.trim(0.5) is False
    assert [one for _, one in drain(pacer, 2.0, 9.0)] == first[1:]
    assert pacer.next_at is None
    pacer.add(second)
    assert pacer.trim(0.5) is False
    assert pacer.next_at is None, "what has not begun is not missed"


def test_what_has_begun_is_broken_off_when_it_would_take_too_long() -> None:
    pacer = Pacer()
    pacer.bitrate = 400_000
    pacer.add(pieces_of(bytes(50 * MAX_PIECE), 0, keyframe=True))
    pacer.take(0.0)
    pacer.bitrate = 30_000
    assert pacer.trim(0.5) is True
    assert (pacer.next_at, pacer.seconds) == (None, 0)


# --- sent again -------------------------------------------------------------------------------------------------------


def history(count: int, size: int = PACKET, start: int = 0) -> PacketHistory:
    made = PacketHistory()
    for number in range(start, start + count):
        made.add(number, number.to_bytes(4, "big") + bytes(size - 4), number / 1e6)
    return made


def ask(made: PacketHistory, *numbers: int, now: float = 0.5, bitrate: int = 400_000, rtt: float = 0.1) -> list[int]:
    again = made.again(numbers, bitrate=bitrate, round_trip=rtt, now=now)
    assert all(packet[:4] == number.to_bytes(4, "big") for number, packet in again)
    return [number for number, _ in again]


def test_what_is_there_is_given_again_by_its_low_bits() -> None:
    made = history(100, start=65500)
    assert ask(made, 65501, 65535, 0, 63) == [65501, 65535, 65536, 65599]
    assert ask(made, 64, 40000, 65499) == []
    assert made.refused == 3


def test_a_packet_is_sent_again_twelve_times_and_not_too_soon() -> None:
    for rtt, between in ((0.4, 0.2), (0.0, 0.05)):
        made = history(10)
        times = [now / 1000 for now in range(15, 999, 5) if ask(made, 3, now=now / 1000, rtt=rtt)]
        assert times[0] == 0.015, "the first at once: it may have been asked for at once"
        assert all(0 <= after - before - between < 0.0051 for before, after in pairwise(times))
    assert len(times) == MAX_TIMES
    assert made.refused == sum(now / 1000 >= times[-1] + 0.05 for now in range(15, 999, 5)), "those in between are not"


def test_a_question_that_comes_twice_is_answered_once() -> None:
    made = history(3)
    made.add(3, (3).to_bytes(4, "big") + bytes(PACKET - 4), 0.5)
    assert ask(made, 3, now=0.501) == [3], "though it was sent just now"
    assert ask(made, 3, now=0.521) == []
    assert made.refused == 0
    assert ask(made, 3, now=0.552) == [3]


def test_what_is_sent_again_beyond_a_quarter_is_taken_from_the_pictures() -> None:
    made = history(100)
    for count, rest in ((0, 400_000), (12, 400_000), (20, 340_000), (25, 300_000), (50, 300_000)):
        ask(made, *range(count), now=0.5)
        assert made.rest(400_000, 0.5) == rest
        assert made.rest(MIN_BITRATE, 0.5) == MIN_BITRATE
    assert made.rest(400_000, 1.5) == 400_000


def test_packets_are_kept_for_some_seconds_and_512_of_them() -> None:
    made = history(KEPT_PACKETS + 5)
    assert ask(made, 4, 5, now=KEPT_SECONDS - 0.1) == [5]
    assert ask(made, 100, 101, now=KEPT_SECONDS + 0.2) == []


def test_no_more_in_a_second_than_half_of_the_bit_rate_or_ten_packets() -> None:
    for bitrate, most in ((100_000, MIN_PACKETS), (2_400_000, 150)):
        made = history(500)
        given_out = []
        for now in range(100, 1000, 5):
            first = now % 400
            again = ask(made, *range(first, first + MAX_WANTS), now=now / 1000, bitrate=bitrate, rtt=0.0)
            given_out += again
        assert len(given_out) == most
        for number in range(500, 540):
            made.add(number, number.to_bytes(4, "big") + bytes(PACKET - 4), 2.0)
        assert len(ask(made, *range(500, 500 + MAX_WANTS), now=2.1, bitrate=2_400_000)) == MAX_WANTS, "and then anew"


@given(st.lists(st.tuples(st.integers(0, 65535), st.floats(0, 0.02)), max_size=300), st.integers(0, 200_000))
def test_whatever_is_asked_for_only_what_was_sent_is_given(asked: list[tuple[int, float]], start: int) -> None:
    made, now = history(300, start=start), 0.2
    sent: list[int] = []
    for low, pause in asked:
        now += pause
        for number, packet in made.again((low,), bitrate=30_000, round_trip=0.0, now=now):
            assert packet[:4] == number.to_bytes(4, "big")
            sent.append(number)
    assert all(start <= number < start + 300 for number in sent)
    assert all(sent.count(number) <= MAX_TIMES for number in sent)
    assert len(sent) <= MIN_PACKETS * 7
    assert len(made._again) <= MIN_PACKETS


# --- fates ------------------------------------------------------------------------------------------------------------


def sent(count: int, *, every: float = 0.01, start: int = 0) -> FateLog:
    log = FateLog()
    for number in range(start, start + count):
        log.sent(number, PACKET + number % 7, (number - start) * every)
    return log


def told(fates: list[Fate]) -> dict[int, float | None]:
    assert len({fate.number for fate in fates}) == len(fates)
    return {fate.number: fate.arrived_at for fate in fates}


def test_what_arrived_is_told_once_with_what_was_sent() -> None:
    log = sent(10)
    (fate, *_) = log.arrivals(Arrivals(3, (700.5, None, 700.52)), 0.2)
    assert fate == Fate(3, PACKET + 3, 0.03, 700.5)
    assert told(log.arrivals(Arrivals(3, (700.5, 700.53, 700.52)), 0.3)) == {4: 700.53}
    assert log.refused == 0


def test_what_three_messages_pass_over_is_lost_and_then_nothing_more_is_said_of_it() -> None:
    log = sent(30)
    found: list[Fate] = []
    for number in range(LOST_MESSAGES):
        assert 2 not in told(found)
        found += log.arrivals(Arrivals(3 + number, (5.0 + number / 10,)), 0.3 + number / 10)
    assert told(found) == {0: None, 1: None, 2: None, 3: 5.0, 4: 5.1, 5: 5.2}
    assert log.arrivals(Arrivals(0, (5.0, 5.0, 5.0)), 0.7) == []


def test_what_nobody_speaks_of_is_lost_after_two_seconds() -> None:
    log = sent(3, every=0.1)
    assert log.next_at == 2.0
    assert log.overdue(1.99) == []
    assert told(log.overdue(2.1001)) == {0: None, 1: None}
    assert log.next_at == 2.2
    assert told(log.overdue(9.0)) == {2: None}
    assert (log.next_at, len(log)) == (None, 0)


def test_what_was_asked_for_again_is_lost() -> None:
    log = sent(3)
    assert told(log.sent_again(1)) == {1: None}
    assert log.sent_again(1) == []
    assert told(log.arrivals(Arrivals(0, (1.0, 1.5, 1.1)), 0.1)) == {0: 1.0, 2: 1.1}


def test_numbers_wrap() -> None:
    log = sent(20, start=65526)
    fates = log.arrivals(Arrivals(65530, tuple(50.0 + n / 100 for n in range(12))), 0.5)
    assert list(told(fates)) == list(range(65530, 65542))


def test_what_was_never_sent_is_refused() -> None:
    log = sent(10)
    for first, count in ((10, 1), (9, 2), (65535, 1), (30000, 1), (65535, 5)):
        assert log.arrivals(Arrivals(first, (1.0,) * count), 0.1) == []
    assert log.refused == 5
    assert FateLog().arrivals(Arrivals(0, (1.0,)), 0.1) == []
    assert len(log.arrivals(Arrivals(0, (1.0,) * 10), 0.2)) == 10


def test_times_that_jump_are_refused_and_then_begin_anew() -> None:
    log = sent(10)
    log.arrivals(Arrivals(0, (1000.0,)), 0.1)
    assert log.arrivals(Arrivals(1, (1000.0 + MAX_SHIFT + 1,)), 0.2) == []
    assert log.refused == 1
    assert told(log.arrivals(Arrivals(1, (7.0,)), 0.3)) == {1: 7.0}
    assert told(log.arrivals(Arrivals(2, (7.1,)), 0.4)) == {2: 7.1}


def test_the_peers_clock_begins_anew_every_12_days() -> None:
    log = sent(10)
    before = WRAP - 0.1
    assert told(log.arrivals(Arrivals(0, (before,)), 0.1)) == {0: before}
    (late,) = log.arrivals(Arrivals(1, (0.15,)), 0.35)
    assert late.arrived_at is not None
    assert abs(late.arrived_at - (WRAP + 0.15)) < 1e-6
    (again,) = log.arrivals(Arrivals(2, (0.3,)), 0.5)
    assert again.arrived_at is not None
    assert abs(again.arrived_at - (WRAP + 0.3)) < 1e-6


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.3),
            st.one_of(st.integers(0, 65535), st.integers(0, 200)),
            st.lists(st.one_of(st.none(), st.floats(0, 1.1e6), st.floats(100, 101)), min_size=1, max_size=36),
        ),
        max_size=40,
    )
)
def test_whatever_is_told_each_packet_has_one_fate(messages: list[tuple[float, int, list[float | None]]]) -> None:
    log, now, number = FateLog(), 0.0, 0
    found: list[Fate] = []
    for pause, first, times in messages:
        for _ in range(5):
            log.sent(number, PACKET, now)
            number += 1
        now += pause
        found += log.overdue(now)
        if any(time is not None for time in times):
            found += log.arrivals(Arrivals(first, tuple(times)), now)
        assert len(log) <= 5 * 2.0 / 0.001 + 5
    found += log.overdue(now + 2.5)
    assert sorted(fate.number for fate in found) == list(range(number))
    assert len(log) == 0
