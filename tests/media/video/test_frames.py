"""Packets in any order become frames in theirs, each with all it refers to; what is missing is asked for in time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.video.feedback import MAX_WANTS, Wants
from relaycall.media.video.frames import (
    HOLD,
    KEYFRAME_INTERVAL,
    MAX_ASKS,
    MAX_FRAME,
    MAX_HOLD,
    MAX_MISSING,
    MAX_PIECES,
    EncodedFrame,
    FrameBuffer,
    State,
)
from relaycall.media.video.pieces import FIRST, KEYFRAME, parse_piece
from tests.media.video.coded import H264, STEP, VP8, Stream, packets_of, rtp

RTT = 0.1


class Receiver:
    """A buffer in virtual time, called every 2 ms as long as it waits for something."""

    def __init__(self, rtt: float = RTT) -> None:
        self.buffer = FrameBuffer()
        self.now = 100.0
        self.rtt = rtt
        self.frames: list[EncodedFrame] = []
        self.wants: list[tuple[float, Wants]] = []

    def add(self, *packets: bytes) -> Receiver:
        for packet in packets:
            self.buffer.add(packet, self.now)
            self.step()
        return self

    def step(self) -> None:
        self.frames += self.buffer.take(self.now, self.rtt)
        wants = self.buffer.wants(self.now, self.rtt)
        if wants is not None:
            self.wants.append((self.now, wants))

    def wait(self, seconds: float) -> Receiver:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + 0.002, end)
            if self.buffer.waiting:
                self.step()
        return self

    @property
    def data(self) -> list[bytes]:
        return [frame.data for frame in self.frames]

    @property
    def asked(self) -> list[int]:
        return [number for _, wants in self.wants for number in wants.numbers]

    @property
    def keyframes(self) -> int:
        return sum(wants.keyframe for _, wants in self.wants)


def frame(stream: Stream, name: bytes, pieces: int = 3, *, keyframe: bool = False) -> list[bytes]:
    """A frame of so many pieces of 10 bytes."""
    return stream.packets(name[:1] * 10 * pieces, keyframe)


@pytest.fixture
def stream() -> Stream:
    return Stream(piece=10)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def begun(receiver: Receiver, stream: Stream) -> Receiver:
    return receiver.add(*frame(stream, b"K", keyframe=True))


def test_frames_come_out_whole_and_in_order(receiver: Receiver, stream: Stream) -> None:
    first = stream.timestamp
    for number in range(10):  # numbers and timestamps begin anew meanwhile
        receiver.add(*frame(stream, bytes([65 + number]), keyframe=number == 0)).wait(0.03)
    assert receiver.data == [bytes([65 + number]) * 30 for number in range(10)]
    assert [out.timestamp for out in receiver.frames] == [(first + n * STEP) & 0xFFFFFFFF for n in range(10)]
    assert [out.keyframe for out in receiver.frames] == [True] + [False] * 9
    assert receiver.wants == []
    assert (receiver.buffer.packets, receiver.buffer.lost, receiver.buffer.frames_dropped) == (30, 0, 0)


def test_a_frame_says_when_its_first_packet_came(receiver: Receiver, stream: Stream) -> None:
    one, two, three = frame(stream, b"K", keyframe=True)
    receiver.add(two).wait(0.004)
    receiver.add(one).wait(0.02)
    receiver.add(three)
    assert [out.arrived_at for out in receiver.frames] == [100.0]


def test_what_was_only_overtaken_is_not_asked_for(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, two, three = frame(stream, b"A")
    receiver.add(one, three).wait(0.009)
    receiver.add(two)
    assert receiver.data == [b"K" * 30, b"A" * 30]
    assert receiver.wants == []
    assert receiver.buffer.recovered == 0


def test_it_is_asked_for_after_10_ms(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, two, three = frame(stream, b"A")
    receiver.add(one, three).wait(0.03)
    [(when, wants)] = receiver.wants
    assert when == pytest.approx(100.01, abs=0.003)
    assert wants == Wants((int.from_bytes(two[2:4], "big"),))
    receiver.add(two)
    assert receiver.data[1:] == [b"A" * 30]
    assert receiver.buffer.recovered == 1


def test_it_is_asked_for_after_two_later_packets(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, _, three, four = frame(stream, b"A", 4)
    receiver.add(one, three)
    assert receiver.wants == []
    receiver.add(four)
    assert [when for when, _ in receiver.wants] == [100.0]


def test_it_is_asked_for_as_long_as_it_can_come_in_time_and_then_given_up(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, two, three = frame(stream, b"A")
    receiver.add(one, three).wait(1.1)
    asked = [when for when, wants in receiver.wants if wants.numbers]
    assert asked == pytest.approx([100.01 + 0.12 * n for n in range(8)], abs=0.02)
    [when] = [when for when, wants in receiver.wants if wants.keyframe]
    assert when == pytest.approx(asked[-1] + 0.12, abs=0.009)
    assert receiver.buffer.state is State.NOTHING
    assert (receiver.buffer.lost, receiver.buffer.frames_dropped) == (1, 1)
    receiver.add(two)
    assert receiver.data[1:] == []
    assert receiver.buffer.late == 1


def test_questions_are_60_ms_apart_at_least(stream: Stream) -> None:
    receiver = begun(Receiver(rtt=0.001), stream)
    one, _, three = frame(stream, b"A")
    receiver.add(one, three).wait(1.1)
    asked = [when for when, wants in receiver.wants if wants.numbers]
    assert asked == pytest.approx([100.01 + 0.06 * n for n in range(MAX_ASKS)], abs=0.03)


@pytest.mark.parametrize(("rtt", "asks"), [(0.2, 4), (0.3, 3), (0.4, 3), (0.6, 4), (1.5, 1), (2.0, 0)])
def test_it_is_asked_for_only_while_it_can_come_in_time(stream: Stream, rtt: float, asks: int) -> None:
    """A second, or three round trips; and where those are long, twice in each."""
    receiver = begun(Receiver(rtt), stream)
    one, _, three = frame(stream, b"A")
    receiver.add(one, three).wait(MAX_HOLD + 0.1)
    assert len(receiver.asked) == asks
    times = [when for when, wants in receiver.wants if wants.numbers]
    assert all(after - before >= min(rtt, max(0.3, rtt / 2)) for before, after in pairwise(times))
    assert receiver.buffer.state is State.NOTHING
    assert not receiver.buffer.waiting


def test_what_is_missing_is_given_up_after_a_second(stream: Stream) -> None:
    receiver = begun(Receiver(rtt=0.3), stream)
    one, _, three = frame(stream, b"A")
    receiver.add(one, three).wait(HOLD - 0.05)
    assert receiver.buffer.state is State.FLOWING
    receiver.wait(0.1)
    assert receiver.buffer.state is State.NOTHING


def test_a_way_that_becomes_longer_changes_nothing_of_it(stream: Stream) -> None:
    receiver = begun(Receiver(), stream)
    one, _, three = frame(stream, b"A")
    receiver.add(one, three).wait(0.05)
    receiver.rtt = 2.0
    receiver.wait(MAX_HOLD - 0.1)
    assert receiver.buffer.state is State.FLOWING
    receiver.wait(0.1)
    assert receiver.buffer.state is State.NOTHING


def lossy(receiver: Receiver, stream: Stream) -> None:
    """Every fourth packet of some frames comes late, and in time for them."""
    for _ in range(12):
        one, two, three, four = frame(stream, b"A", 4)
        receiver.add(one, two, four).wait(0.03)
        receiver.add(three)
    receiver.wait(0.1)
    receiver.wants.clear()


def test_when_much_is_lost_each_question_is_sent_twice(receiver: Receiver, stream: Stream) -> None:
    lossy(begun(receiver, stream), stream)
    one, two, three = frame(stream, b"B")
    receiver.add(one, three).wait(0.2)
    times = [when - receiver.wants[0][0] for when, wants in receiver.wants if wants.numbers]
    assert times == pytest.approx([0, 0.02, 0.12, 0.14], abs=0.009)
    receiver.add(two).wait(0.1)
    assert len(receiver.asked) == 4
    assert receiver.data[-1] == b"B" * 30
    for _ in range(100):
        receiver.add(*frame(stream, b"C", 4)).wait(0.03)
    receiver.wants.clear()
    one, two, three = frame(stream, b"D")
    receiver.add(one, three).wait(0.1)
    assert len(receiver.asked) == 1, "that is long ago"


def test_and_each_wish_for_a_keyframe(receiver: Receiver, stream: Stream) -> None:
    lossy(begun(receiver, stream), stream)
    receiver.buffer.restart()
    wished = receiver.buffer.keyframes_wanted
    receiver.add(*frame(stream, b"B"))
    assert receiver.buffer.waiting
    receiver.wait(0.4)
    assert not receiver.buffer.waiting
    [first, second] = [when for when, wants in receiver.wants if wants.keyframe]
    assert second - first == pytest.approx(0.02, abs=0.009)
    assert receiver.buffer.keyframes_wanted == wished + 1
    receiver.wait(0.2).add(*frame(stream, b"B"))
    receiver.add(*frame(stream, b"L", keyframe=True)).wait(0.2)
    assert receiver.keyframes == 3, "the next one only once: its keyframe came"
    assert not receiver.buffer.waiting


def test_packets_that_were_only_overtaken_are_no_loss(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    for _ in range(30):
        one, two, three = frame(stream, b"A")
        receiver.add(one, three, two).wait(0.03)
    one, _, three = frame(stream, b"B")
    receiver.add(one, three).wait(0.1)
    assert len(receiver.asked) == 1


def test_with_more_missing_than_a_message_can_ask_for_a_keyframe_is_wanted_too(
    receiver: Receiver, stream: Stream
) -> None:
    begun(receiver, stream)
    lost = frame(stream, b"A", MAX_WANTS)
    receiver.add(*frame(stream, b"B")).wait(0.03)
    assert (receiver.keyframes, len(set(receiver.asked))) == (0, MAX_WANTS)
    lost += frame(stream, b"C", 1)
    receiver.add(*frame(stream, b"D")).wait(0.03)
    assert receiver.keyframes >= 1
    receiver.add(*lost)
    assert receiver.data == [b"K" * 30, b"A" * 10 * MAX_WANTS, b"B" * 30, b"C" * 10, b"D" * 30], (
        "what comes first counts"
    )


def test_a_keyframe_is_wanted_every_half_second(receiver: Receiver, stream: Stream) -> None:
    frame(stream, b"K", keyframe=True)  # did not come
    for _ in range(100):
        receiver.add(*frame(stream, b"A")).wait(0.02)
    times = [when for when, wants in receiver.wants if wants.keyframe]
    assert len(times) == receiver.buffer.keyframes_wanted == 4
    assert times[0] == 100.0
    assert all(after - before >= KEYFRAME_INTERVAL for before, after in pairwise(times))
    assert receiver.asked == []
    assert receiver.frames == []


def test_with_a_long_way_not_before_it_can_have_come(stream: Stream) -> None:
    receiver = Receiver(rtt=0.9)
    for _ in range(100):
        receiver.add(*frame(stream, b"A")).wait(0.02)
    assert receiver.keyframes == 2


def test_none_is_wanted_while_one_comes(receiver: Receiver, stream: Stream) -> None:
    receiver.add(*frame(stream, b"A"))
    assert receiver.keyframes == 1
    for packet in frame(stream, b"K", 60, keyframe=True):  # slowly: 3 s
        receiver.add(packet).wait(0.05)
    assert receiver.keyframes == 1
    assert receiver.data == [b"K" * 600]


def test_none_is_wanted_when_nothing_comes(receiver: Receiver, stream: Stream) -> None:
    receiver.add(*frame(stream, b"A"))
    receiver.wait(0.8).step()
    assert receiver.keyframes == 2
    receiver.wait(5).step()
    assert receiver.keyframes == 2


def test_without_reference_nothing_useless_is_asked_for(receiver: Receiver, stream: Stream) -> None:
    lost = frame(stream, b"A")
    receiver.add(lost[0], lost[2], *frame(stream, b"B")[1:], *frame(stream, b"C")[:1]).wait(0.2)
    assert receiver.asked == []
    assert receiver.frames == []


def test_the_missing_first_piece_of_a_keyframe_is_asked_for(receiver: Receiver, stream: Stream) -> None:
    receiver.add(*frame(stream, b"A")).wait(0.6)
    one, two, three = frame(stream, b"K", keyframe=True)
    receiver.add(two, three).wait(0.05)
    assert receiver.asked == [int.from_bytes(one[2:4], "big")]
    assert receiver.keyframes == 1, "the first wish; one piece is less than another keyframe"
    receiver.add(*frame(stream, b"B"), one)
    assert receiver.data == [b"K" * 30, b"B" * 30]


def test_after_a_loss_it_goes_on_with_a_keyframe(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    frame(stream, b"A")  # did not come
    for _ in range(60):
        receiver.add(*frame(stream, b"B")).wait(0.03)
    assert receiver.keyframes == 2
    receiver.add(*frame(stream, b"L", keyframe=True), *frame(stream, b"C"))
    assert receiver.data == [b"K" * 30, b"L" * 30, b"C" * 30]
    assert receiver.buffer.lost == 3


def test_a_whole_keyframe_is_not_held_up_by_what_is_before_it(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, two, _ = frame(stream, b"A")
    receiver.add(one, two).wait(0.03)
    receiver.add(*frame(stream, b"L", keyframe=True)).wait(0.02)
    assert receiver.data == [b"K" * 30, b"L" * 30]
    assert receiver.buffer.state is State.FLOWING
    assert receiver.keyframes == 0
    assert receiver.buffer.frames_dropped == 1


def test_a_keyframe_that_is_not_whole_does_not_hold_up_a_later_one(receiver: Receiver, stream: Stream) -> None:
    one, _, three = frame(stream, b"K", keyframe=True)
    receiver.add(one, three, *frame(stream, b"L", keyframe=True)).wait(0.02)
    assert receiver.data == [b"L" * 30]


def test_a_restart_goes_on_with_the_next_keyframe(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    one, *rest = frame(stream, b"A")
    receiver.add(one)
    receiver.buffer.restart()
    receiver.buffer.restart()
    receiver.add(*rest, *frame(stream, b"L", keyframe=True))
    assert receiver.data == [b"K" * 30, b"L" * 30]
    assert receiver.keyframes == 1


# --- what contradicts itself ------------------------------------------------------------------------------------------


def altered(packet: bytes, **changes: int) -> bytes:
    made = bytearray(packet)
    for name, value in changes.items():
        place = {"kind": 1, "timestamp": 7, "descriptor": 12}[name]
        made[place] = value
    return bytes(made)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda packet: altered(packet, descriptor=FIRST), id="two first pieces"),
        pytest.param(lambda packet: altered(packet, timestamp=packet[7] ^ 1), id="two timestamps"),
        pytest.param(lambda packet: altered(packet, descriptor=KEYFRAME), id="half a keyframe"),
        pytest.param(lambda packet: altered(packet, kind=H264.payload_type), id="two codecs"),
    ],
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_pieces_that_contradict_each_other(
    receiver: Receiver, stream: Stream, change: Callable[[bytes], bytes], order: tuple[int, ...]
) -> None:
    begun(receiver, stream)
    pieces = frame(stream, b"A")
    pieces[1] = change(pieces[1])
    receiver.add(*(pieces[place] for place in order)).wait(0.03)
    assert receiver.data == [b"K" * 30]
    assert receiver.buffer.malformed == 1
    assert receiver.buffer.state is State.NOTHING
    receiver.add(*frame(stream, b"B"), *frame(stream, b"L", keyframe=True)).wait(0.03)
    assert receiver.data == [b"K" * 30, b"L" * 30]
    assert receiver.keyframes == 1


def test_a_frame_must_begin_with_its_first_piece(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    receiver.add(altered(frame(stream, b"A")[0], descriptor=0))
    assert receiver.buffer.malformed == 1
    assert receiver.buffer.state is State.NOTHING


def test_two_frames_have_two_timestamps(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    stream.timestamp -= STEP
    receiver.add(*frame(stream, b"A"))
    assert receiver.data == [b"K" * 30]
    assert receiver.buffer.malformed >= 1


def test_another_codec_begins_with_a_keyframe(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    receiver.add(*stream.packets(b"a" * 30, False, H264))
    assert receiver.data == [b"K" * 30]
    assert receiver.buffer.malformed == 1
    receiver.add(*stream.packets(b"L" * 30, True, H264), *stream.packets(b"b" * 30, False, H264))
    assert [(out.data, out.codec) for out in receiver.frames[1:]] == [(b"L" * 30, H264), (b"b" * 30, H264)]


def test_a_frame_has_a_mebibyte_at_most(receiver: Receiver) -> None:
    stream = Stream(piece=1400)
    receiver.add(*stream.packets(bytes(MAX_FRAME), True))
    assert [len(out.data) for out in receiver.frames] == [MAX_FRAME]
    receiver.add(*stream.packets(bytes(MAX_FRAME + 1), True))
    assert len(receiver.frames) == 1
    assert (receiver.buffer.malformed, receiver.buffer.state) == (1, State.NOTHING)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(rtp(1, b"\3", 0, last=True), id="nothing of a frame"),
        pytest.param(rtp(1, b"\7x", 0, last=True), id="unknown descriptor"),
        pytest.param(rtp(1, b"\3x", 0, last=True, payload_type=99), id="unknown codec"),
    ],
)
def test_packets_that_hold_no_piece(receiver: Receiver, packet: bytes) -> None:
    assert parse_piece(packet, 1.0) is None
    assert receiver.buffer.add(packet, 1.0) is False
    assert (receiver.buffer.malformed, receiver.buffer.packets) == (1, 0)


# --- bounds -----------------------------------------------------------------------------------------------------------


def held(buffer: FrameBuffer) -> tuple[int, int]:
    return len(buffer._pieces), len(buffer._missing)


def test_a_keyframe_without_end(receiver: Receiver) -> None:
    most = 0
    for number in range(3 * MAX_PIECES):
        receiver.add(rtp(number, bytes([KEYFRAME | (FIRST if number == 0 else 0)]) + b"x", 1, last=False))
        most = max(most, *held(receiver.buffer))
    assert most <= MAX_PIECES
    assert receiver.frames == []


def test_numbers_that_leap(receiver: Receiver) -> None:
    for number in range(0, 60000, 200):
        receiver.add(rtp(number, bytes([FIRST]) + b"x", number, last=True)).wait(0.002)
        assert max(held(receiver.buffer)) <= MAX_MISSING
    assert len(receiver.wants) <= 30
    assert receiver.asked == []


def test_leaps_within_a_keyframe_are_not_asked_for_without_end(receiver: Receiver) -> None:
    """All the questions there are room for, and then no more."""
    receiver.add(rtp(0, bytes([FIRST | KEYFRAME]) + b"x", 1, last=False))
    for number in range(100, 30000, 100):
        receiver.add(rtp(number, bytes([KEYFRAME]) + b"x", 1, last=False)).wait(0.005)
        assert max(held(receiver.buffer)) <= MAX_MISSING
    seconds = receiver.now - 100
    assert len(receiver.wants) <= seconds / 0.02 + 1
    assert all(len(wants.numbers) <= MAX_WANTS for _, wants in receiver.wants)
    assert max(map(receiver.asked.count, receiver.asked)) <= MAX_ASKS


def test_a_gap_too_large_to_be_asked_for(receiver: Receiver, stream: Stream) -> None:
    begun(receiver, stream)
    stream.number += MAX_MISSING + 1
    receiver.add(*frame(stream, b"A"))
    assert (receiver.keyframes, receiver.asked) == (1, [])
    receiver.add(*frame(stream, b"L", keyframe=True))
    assert receiver.data == [b"K" * 30, b"L" * 30]
    assert receiver.buffer.lost == MAX_MISSING + 1


def test_what_nothing_has_made_useful_is_dropped_after_a_second(receiver: Receiver, stream: Stream) -> None:
    for _ in range(200):
        receiver.add(*frame(stream, b"A")).wait(0.05)
    assert held(receiver.buffer)[0] <= 3 * (HOLD / 0.05 + 1)


def test_what_was_dropped_before_it_was_useful_is_a_loss(receiver: Receiver, stream: Stream) -> None:
    """A keyframe's first piece that comes more than a second after what follows the keyframe."""
    key, after = frame(stream, b"K", keyframe=True), frame(stream, b"A")
    receiver.add(key[1], key[2], *after).wait(1.1)
    receiver.add(*frame(stream, b"B")).wait(0.01)
    receiver.add(key[0]).wait(0.02)
    receiver.add(*frame(stream, b"C"), *frame(stream, b"L", keyframe=True)).wait(0.02)
    assert receiver.data == [b"L" * 30]


def test_the_arrival_of_what_was_asked_for_says_nothing_of_the_path(stream: Stream) -> None:
    buffer = FrameBuffer()
    packets = frame(stream, b"K", 6, keyframe=True)
    assert buffer.add(packets[0], 1.0) is True
    assert buffer.add(packets[3], 1.0) is True
    assert buffer.add(packets[1], 1.001) is True, "only overtaken"
    buffer.wants(1.02, RTT)
    assert buffer.add(packets[2], 1.1) is False


# --- anything ---------------------------------------------------------------------------------------------------------


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[tuple[bytes, bool]], list[bytes], list[int | None]]:
    """Frames, their packets, and how many others overtake each packet; None: it is lost for good."""
    stream = Stream(number=draw(st.sampled_from([0, 5, 65520])), piece=4)
    frames = []
    packets: list[bytes] = []
    for number in range(draw(st.integers(1, 14))):
        data = bytes([number]) * draw(st.integers(1, 16))
        keyframe = number == 0 or draw(st.integers(0, 4)) == 0
        frames.append((data, keyframe))
        packets += stream.packets(data, keyframe)
    fate = st.sampled_from([0, 0, 0, 0, 0, 1, 2, 5, 12, None])
    return frames, packets, draw(st.lists(fate, min_size=len(packets), max_size=len(packets)))


def check(frames: list[tuple[bytes, bool]], out: list[EncodedFrame]) -> list[int]:
    """What came out are frames as they were sent, in order, and each with the one it refers to."""
    numbers = [frame.data[0] for frame in out]
    assert numbers == sorted(set(numbers))
    for place, one in enumerate(out):
        assert (one.data, one.keyframe) == frames[numbers[place]]
        assert one.keyframe or numbers[place - 1] == numbers[place] - 1
    return numbers


@given(journeys(), st.floats(0.0, 0.03))
def test_any_order_and_any_loss(
    journey: tuple[list[tuple[bytes, bool]], list[bytes], list[int | None]], interval: float
) -> None:
    frames, packets, fates = journey
    receiver = Receiver()
    order = sorted((number + fate, number) for number, fate in enumerate(fates) if fate is not None)
    for _, number in order:
        receiver.add(packets[number]).wait(interval)
        if number % 3 == 0:
            receiver.add(packets[number])  # twice: nothing comes of it
    receiver.wait(2.5)
    numbers = check(frames, receiver.frames)
    assert not receiver.buffer.waiting
    if None not in fates and all(fate is not None and fate <= 2 for fate in fates) and interval < 0.004:
        assert numbers == list(range(len(frames))), "nothing is lost to a little disorder"


@given(journeys(), st.floats(0.001, 0.3), st.integers(1, 3))
def test_what_is_asked_for_and_comes_makes_the_stream_whole(
    journey: tuple[list[tuple[bytes, bool]], list[bytes], list[int | None]], rtt: float, lost: int
) -> None:
    """Each packet that is lost comes when it is asked for the first, second or third time, questions twice counted."""
    frames, packets, fates = journey
    receiver = Receiver(rtt)
    numbers = {int.from_bytes(packet[2:4], "big"): packet for packet in packets}
    asked: dict[int, int] = {}
    coming: list[tuple[float, bytes]] = []
    seen = 0

    def answer() -> None:
        nonlocal seen
        for when, wants in receiver.wants[seen:]:
            for number in wants.numbers:
                asked[number] = asked.get(number, 0) + 1
                if asked[number] == lost:
                    coming.append((when + rtt, numbers[number]))
        seen = len(receiver.wants)
        for arrival in [arrival for arrival in coming if arrival[0] <= receiver.now]:
            coming.remove(arrival)
            receiver.add(arrival[1])

    for place, packet in enumerate(packets):
        # The first and the last ones come: before there is one nothing is known of, after it nobody can know.
        if place in (0, len(packets) - 1) or fates[place] is not None:
            receiver.add(packet)
        receiver.wait(0.005)
        answer()
    for _ in range(300):
        receiver.wait(0.005)
        answer()
    out = check(frames, receiver.frames)
    assert max(asked.values(), default=0) <= 2 * MAX_ASKS
    if rtt <= 0.25 and not any(keyframe for _, keyframe in frames[1:]):
        assert out == list(range(len(frames)))
        assert receiver.keyframes == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF) | st.integers(0, 40),
            st.integers(0, 3) | st.integers(0, 255),
            st.booleans(),
            st.integers(0, 3),
            st.sampled_from([97, 98]),
            st.floats(0, 0.3),
        ),
        max_size=60,
    )
)
def test_whatever_comes_is_taken_or_counted(
    packets: list[tuple[int, int, bool, int, int, float]],
) -> None:
    receiver = Receiver()
    for number, descriptor, last, timestamp, kind, pause in packets:
        receiver.add(rtp(number, bytes([descriptor]) + b"x", timestamp, last=last, payload_type=kind)).wait(pause)
    receiver.wait(3)
    assert not receiver.buffer.waiting
    for before, after in zip([None, *receiver.frames], receiver.frames, strict=False):
        assert after.keyframe or (before is not None and before.codec is after.codec)


def test_one_packet_frames(receiver: Receiver) -> None:
    for number in range(5):
        receiver.add(*packets_of(b"x", number, number, keyframe=number == 0, codec=VP8))
    assert len(receiver.frames) == 5
