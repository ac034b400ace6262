"""Frames: each arrives as it was, has one length, and anything else is refused without harm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.signaling import frames as f
from relaycall.signaling.base import ENVELOPE_SIZE

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
NUMBERS = st.integers(0, 2**32 - 1)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


ENVELOPES = sized(8).map(lambda start: start.ljust(ENVELOPE_SIZE, b"e"))
CLIENT = st.one_of(
    st.builds(f.Claim, NAMES, sized(16), sized(32), sized(32), sized(64)),
    st.builds(f.Send, NUMBERS, sized(32), ENVELOPES),
    st.builds(f.Acknowledge, sized(32)),
    st.builds(f.Receive, sized(16)),
    st.builds(f.NameplateRequest, NUMBERS, st.just(f.NameplateAction.CLAIM), st.integers(1, f.MAX_NAMEPLATE)),
    st.builds(
        f.NameplateRequest,
        NUMBERS,
        st.sampled_from([f.NameplateAction.ALLOCATE, f.NameplateAction.RELEASE]),
        st.just(0),
    ),
)
SERVER = st.one_of(
    st.builds(f.Challenge, sized(32), sized(16)),
    st.builds(f.Opened, sized(f.TOKEN_SIZE)),
    st.builds(f.Answer, NUMBERS, st.sampled_from(f.Verdict), NUMBERS),
    st.builds(f.Deliver, sized(16), st.booleans(), ENVELOPES),
    st.builds(f.Nothing),
    st.builds(f.NameplateAnswer, NUMBERS, st.sampled_from(f.NameplateOutcome), NUMBERS, NUMBERS, sized(32)),
)
LENGTHS = {
    f.Claim: 401,
    f.Send: 4133,
    f.Acknowledge: 33,
    f.Receive: 17,
    f.Challenge: 49,
    f.Opened: 89,
    f.Answer: 10,
    f.Deliver: 4114,
    f.Nothing: 4114,
    f.NameplateRequest: 9,
    f.NameplateAnswer: 46,
}


@given(CLIENT)
def test_a_client_frame_arrives_as_it_was(frame: f.ClientFrame) -> None:
    data = frame.encode()
    assert f.decode_client(data) == frame
    assert type(f.decode_client(data)) is type(frame)
    assert len(data) == LENGTHS[type(frame)] <= f.MAX_FRAME


@given(SERVER)
def test_a_server_frame_arrives_as_it_was(frame: f.ServerFrame) -> None:
    data = frame.encode()
    assert f.decode_server(data) == frame
    assert type(f.decode_server(data)) is type(frame)
    assert len(data) == LENGTHS[type(frame)] <= f.MAX_REPLY


@given(CLIENT, st.integers(-40, 40).filter(bool))
def test_another_length_is_refused(frame: f.ClientFrame, change: int) -> None:
    data = frame.encode()
    with pytest.raises(MalformedMessage):
        f.decode_client(data[:change] if change < 0 else data + bytes(change))


@given(SERVER, st.integers(-40, 40).filter(bool))
def test_another_length_is_refused_of_the_server(frame: f.ServerFrame, change: int) -> None:
    data = frame.encode()
    with pytest.raises(MalformedMessage):
        f.decode_server(data[:change] if change < 0 else data + bytes(change))


@given(
    st.one_of(
        st.binary(max_size=500),
        st.builds(
            lambda kind, size: bytes([kind]).ljust(size, b"\xff"),
            st.integers(0, 255),
            st.sampled_from([*LENGTHS.values()]),
        ),
    )
)
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    for decode in (f.decode_client, f.decode_server):
        try:
            frame = decode(data)
        except MalformedMessage:
            continue
        assert frame.encode() == data


@pytest.mark.parametrize("change", [(1, 0), (2, 0x20), (2, 0x80), (2, 0), (12, 0x61)], ids=str)
def test_a_name_is_visible_ascii_and_nothing_follows_it(change: tuple[int, int]) -> None:
    data = bytearray(f.Claim("host.test", bytes(16), bytes(32), bytes(32), bytes(64)).encode())
    assert f.decode_client(bytes(data)).name == "host.test"  # type: ignore[union-attr]
    data[change[0]] = change[1]
    with pytest.raises(MalformedMessage):
        f.decode_client(bytes(data))


@pytest.mark.parametrize(
    ("frame", "place", "value"),
    [
        (f.Answer(1, f.Verdict.BUSY, 0), 5, 4),
        (f.Deliver(bytes(16), True, bytes(4096)), 17, 2),
        (f.Nothing(), 4113, 1),
        (f.NameplateAnswer(1, f.NameplateOutcome.BUSY, 0, 0, bytes(32)), 5, 4),
    ],
    ids=["verdict", "again", "nothing", "outcome"],
)
def test_a_value_out_of_range_is_refused(frame: f.ServerFrame, place: int, value: int) -> None:
    data = bytearray(frame.encode())
    data[place] = value
    with pytest.raises(MalformedMessage):
        f.decode_server(bytes(data))


@pytest.mark.parametrize("action", f.NameplateAction)
def test_only_a_claim_names_a_nameplate(action: f.NameplateAction) -> None:
    is_claim = action is f.NameplateAction.CLAIM
    with pytest.raises(MalformedMessage):
        f.decode_client(f.NameplateRequest(1, action, 0 if is_claim else 7).encode())


def test_the_known_answer_of_a_claimed_nameplate() -> None:
    """As docs/protocol.md has it."""
    request = f.NameplateRequest(3, f.NameplateAction.CLAIM, 7).encode()
    answer = f.NameplateAnswer(3, f.NameplateOutcome.DONE, 0, 0, b"\xa5" * 32).encode()
    assert request.hex() == "060000000300000007"
    assert answer.hex() == "8600000003" + "00" * 9 + "a5" * 32
    shown = re.sub(r"\s", "", (Path(__file__).parents[2] / "docs" / "protocol.md").read_text())
    assert f"request={request.hex()}answer={answer.hex()}" in shown


def test_who_says_what() -> None:
    """A client's frame is none of the server's, and the other way round."""
    with pytest.raises(MalformedMessage):
        f.decode_server(f.Send(1, bytes(32), bytes(4096)).encode())
    with pytest.raises(MalformedMessage):
        f.decode_client(f.Deliver(bytes(16), False, bytes(4096)).encode())
