"""Reports on the wire: one encoding for each, everything else is refused, and what is out of range is clamped."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.control_format import STATE
from relaycall.errors import MalformedMessage
from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE
from relaycall.media.video.feedback import ARRIVALS, WANTS
from relaycall.quality.report_format import MAX_NUMBER, REPORT, REPORT_SIZE, decode_report, encode_report
from relaycall.quality.sample import PeerReport

COUNTS = ["received", "lost", "recovered", "concealed", "video_received", "video_lost", "frames_shown"]
TIMES = ["jitter_ms", "queue_ms", "playout_delay_ms"]
USED = 41  # bytes; the rest are zeros

counts = st.integers(0, 2**32 - 1)
times = st.integers(0, 2**16 - 1).map(lambda units: units / 10)
reports = st.builds(
    PeerReport,
    **dict.fromkeys(COUNTS, counts),
    **dict.fromkeys(TIMES, times),
    video_height=st.integers(0, 2**16 - 1),
)


def test_the_fields_are_all_known_here() -> None:
    assert {each.name for each in fields(PeerReport)} == {*COUNTS, *TIMES, "video_height"}


def test_it_is_a_control_message_of_its_own_kind() -> None:
    assert REPORT_SIZE == CONTROL_PAYLOAD_SIZE
    assert len({REPORT, STATE, ARRIVALS, WANTS}) == 4


def test_the_bytes() -> None:
    report = PeerReport(1, 2, 3, 4, 0.5, 600.0, 70.1, 8, 9, 10, 720)
    assert encode_report(report, 0xA1B2C3D4) == bytes.fromhex(
        "14 a1b2c3d4 00000001 00000002 00000003 00000004 0005 1770 02bd 00000008 00000009 0000000a 02d0"
    ).ljust(80, b"\0")


@given(reports, st.integers(0, MAX_NUMBER))
def test_what_is_written_is_read(report: PeerReport, number: int) -> None:
    data = encode_report(report, number)
    assert len(data) == REPORT_SIZE
    assert decode_report(data) == (number, report)


@given(st.binary(min_size=USED - 1, max_size=USED - 1))
def test_every_report_has_one_encoding(rest: bytes) -> None:
    data = (bytes([REPORT]) + rest).ljust(REPORT_SIZE, b"\0")
    number, report = decode_report(data)
    assert encode_report(report, number) == data


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=79, max_size=79).map(lambda rest: bytes([REPORT]) + rest)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        number, report = decode_report(data)
    except MalformedMessage:
        return
    assert encode_report(report, number) == data


GOOD = encode_report(PeerReport(received=50, video_height=360), 7)


@pytest.mark.parametrize("size", [0, 1, USED, 79, 81, 160])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessage):
        decode_report(GOOD.ljust(size, b"\0")[:size])


@pytest.mark.parametrize("kind", [0, STATE, ARRIVALS, WANTS, 0x15, 0x94])
def test_another_kind_is_refused(kind: int) -> None:
    with pytest.raises(MalformedMessage):
        decode_report(bytes([kind]) + GOOD[1:])


@pytest.mark.parametrize("position", range(USED, REPORT_SIZE))
def test_anything_after_the_end_is_refused(position: int) -> None:
    with pytest.raises(MalformedMessage):
        decode_report(GOOD[:position] + b"\x01" + GOOD[position + 1 :])


def written(**changes: float) -> PeerReport:
    return decode_report(encode_report(replace(PeerReport(), **changes), 0))[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_clamped(name: str) -> None:
    assert getattr(written(**{name: 2**32 + 5}), name) == 2**32 - 1
    assert getattr(written(**{name: -1}), name) == 0


@pytest.mark.parametrize("name", TIMES)
def test_times_are_clamped(name: str) -> None:
    for time, read in [(1e9, 6553.5), (math.inf, 6553.5), (-3.0, 0.0), (-math.inf, 0.0), (math.nan, 0.0)]:
        assert getattr(written(**{name: time}), name) == read


def test_times_are_rounded_to_a_tenth() -> None:
    assert written(jitter_ms=1.26).jitter_ms == 1.3
    assert written(queue_ms=0.04).queue_ms == 0.0


def test_height_and_number_are_clamped() -> None:
    assert written(video_height=70000).video_height == 65535
    assert written(video_height=-1).video_height == 0
    assert decode_report(encode_report(PeerReport(), 2**32))[0] == MAX_NUMBER
    assert decode_report(encode_report(PeerReport(), -1))[0] == 0
