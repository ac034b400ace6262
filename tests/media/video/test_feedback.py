"""What is told to the sender of video: it reads what was written, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE
from relaycall.media.video.feedback import (
    ARRIVALS,
    MAX_ARRIVALS,
    MAX_WANTS,
    TIME_UNIT,
    WANTS,
    Arrivals,
    Wants,
    decode_arrivals,
    decode_wants,
    encode_arrivals,
    encode_wants,
    unwrapped,
)

NUMBERS = st.integers(0, 0xFFFF)
TIMES = st.floats(0, 16).map(lambda seconds: 1000 + seconds)


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    middle = draw(st.lists(st.none() | TIMES, max_size=MAX_ARRIVALS - 2))
    last = draw(st.lists(TIMES, max_size=1))
    return Arrivals(draw(NUMBERS), (draw(TIMES), *(middle if last else ()), *last))


@st.composite
def wants(draw: st.DrawFn) -> Wants:
    first = draw(NUMBERS)
    steps = sorted(draw(st.sets(st.integers(0, 0x7FFF), max_size=MAX_WANTS)))
    numbers = tuple((first + step - steps[0]) & 0xFFFF for step in steps)
    return Wants(numbers, draw(st.booleans()) or not numbers)


@given(arrivals())
def test_arrivals_come_back_to_a_quarter_of_a_millisecond(told: Arrivals) -> None:
    data = encode_arrivals(told)
    assert (len(data), data[0]) == (CONTROL_PAYLOAD_SIZE, ARRIVALS)
    read = decode_arrivals(data)
    assert (read.first, len(read.times)) == (told.first, len(told.times))
    for ours, theirs in zip(told.times, read.times, strict=True):
        assert (ours is None) is (theirs is None)
        if ours is not None and theirs is not None:
            assert math.isclose(ours, theirs, abs_tol=TIME_UNIT / 2 + 1e-9)


@given(wants())
def test_wants_come_back(wanted: Wants) -> None:
    data = encode_wants(wanted)
    assert (len(data), data[0]) == (CONTROL_PAYLOAD_SIZE, WANTS)
    assert decode_wants(data) == wanted


def mostly_valid(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Messages with some bytes changed."""
    changes = st.dictionaries(st.integers(0, CONTROL_PAYLOAD_SIZE - 1), st.integers(0, 255), max_size=3)

    def change(data: bytes, changed: dict[int, int]) -> bytes:
        return bytes(changed.get(place, byte) for place, byte in enumerate(data))

    return st.builds(change, valid, changes) | st.binary(max_size=CONTROL_PAYLOAD_SIZE + 1)


@given(mostly_valid(arrivals().map(encode_arrivals)))
def test_arrivals_have_one_encoding(data: bytes) -> None:
    try:
        read = decode_arrivals(data)
    except MalformedMessage:
        return
    assert encode_arrivals(read) == data


@given(mostly_valid(wants().map(encode_wants)))
def test_wants_have_one_encoding(data: bytes) -> None:
    try:
        read = decode_wants(data)
    except MalformedMessage:
        return
    assert encode_wants(read) == data


def message(head: str, *entries: int) -> bytes:
    data = bytes.fromhex(head) + b"".join(entry.to_bytes(2, "big") for entry in entries)
    return data.ljust(CONTROL_PAYLOAD_SIZE, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(message("12 0001 00000000 01", 1)[:-1], id="too short"),
        pytest.param(message("12 0001 00000000 01", 1) + b"\0", id="too long"),
        pytest.param(message("13 0001 00000000 01", 1), id="another kind"),
        pytest.param(message("12 0001 00000000 00"), id="of no packet"),
        pytest.param(message("12 0001 00000000 25", *range(1, 38))[:80], id="of 37 packets"),
        pytest.param(message("12 0001 00000000 02", 0, 1), id="begins with none"),
        pytest.param(message("12 0001 00000000 02", 1, 0), id="ends with none"),
        pytest.param(message("12 0001 00000000 02", 2, 3), id="nothing came at its base time"),
        pytest.param(message("12 0001 00000000 01", 1, 1), id="more than it counts"),
        pytest.param(message("12 0001 00000000 01", 1)[:-1] + b"\1", id="its last byte"),
    ],
)
def test_other_arrivals_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_arrivals(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(message("13 00 01", 7)[:-1], id="too short"),
        pytest.param(message("13 00 01", 7) + b"\0", id="too long"),
        pytest.param(message("12 00 01", 7), id="another kind"),
        pytest.param(message("13 00 00"), id="of nothing"),
        pytest.param(message("13 02 01", 7), id="unknown flag"),
        pytest.param(message("13 01 27", *range(1, 40))[:80], id="of 39 packets"),
        pytest.param(message("13 00 02", 7, 7), id="twice"),
        pytest.param(message("13 00 02", 8, 7), id="not in order"),
        pytest.param(message("13 00 02", 0, 0x8000), id="half a circle"),
        pytest.param(message("13 01 01", 7, 8), id="more than it counts"),
        pytest.param(message("13 01 00")[:-1] + b"\1", id="its last byte"),
    ],
)
def test_other_wants_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_wants(data)


def test_the_largest_messages_are_full() -> None:
    assert encode_arrivals(Arrivals(65535, (5.0,) * MAX_ARRIVALS))[-2:] == b"\0\1"
    assert encode_wants(Wants(tuple(range(1, MAX_WANTS + 1))))[-3:] == bytes([0, MAX_WANTS, 0])


def test_what_cannot_be_told_is_not_written() -> None:
    for times in ((), (None,), (1.0, None), (None, 1.0), (1.0,) * (MAX_ARRIVALS + 1), (1.0,) * 300):
        with pytest.raises(MalformedMessage):
            encode_arrivals(Arrivals(1, times))
    for numbers in ((), (1, 1), (2, 1), (0, 0x8000), tuple(range(MAX_WANTS + 1)), tuple(range(300))):
        with pytest.raises(MalformedMessage):
            encode_wants(Wants(numbers))


def test_times_that_are_too_far_apart_are_brought_together() -> None:
    read = decode_arrivals(encode_arrivals(Arrivals(1, (100.0, 5000.0))))
    assert read.times == (100.0, 100.0 + 0xFFFE * TIME_UNIT)


def test_the_clock_of_the_receiver_may_be_any() -> None:
    read = decode_arrivals(encode_arrivals(Arrivals(1, (-3.0, 4e9))))
    assert read.times[0] is not None
    assert read.times[1] is not None
    assert 0 <= read.times[0] <= read.times[1] <= (1 << 33) * TIME_UNIT


@given(NUMBERS, st.integers(-(1 << 40), 1 << 40))
def test_an_unwrapped_number_is_the_nearest(number: int, near: int) -> None:
    whole = unwrapped(number, near)
    assert whole & 0xFFFF == number
    assert -0x8000 <= whole - near < 0x8000
