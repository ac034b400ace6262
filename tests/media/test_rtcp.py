"""Compound RTCP packets, taken apart."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.media.rtcp import split_compound

REPORT = struct.pack("!BBHL", 0x80, 201, 1, 7)
GOODBYE = struct.pack("!BBHL", 0x81, 203, 1, 7)


def test_split_compound() -> None:
    assert list(split_compound(REPORT + GOODBYE)) == [(201, REPORT), (203, GOODBYE)]
    assert list(split_compound(b"")) == []
    for cut in (1, 4, 5, 7):
        with pytest.raises(MalformedMessage):
            list(split_compound(REPORT + GOODBYE[:-cut]))


@given(st.binary(max_size=100))
def test_what_is_split_is_all_there_was(compound: bytes) -> None:
    try:
        parts = [packet for _, packet in split_compound(compound)]
    except MalformedMessage:
        return
    assert b"".join(parts) == compound
