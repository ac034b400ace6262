"""ChannelData, and cutting a stream into messages."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.framing import CHANNEL_MAX, CHANNEL_MIN, StreamFramer, channel_data, parse_channel_data
from relaycall.stun.message import Class, Message, Method

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LONGEST = 4 + 65536  # ChannelData of 65533 bytes or more, padded


def stun(payload: bytes) -> bytes:
    return Message(Method.SEND, Class.INDICATION, bytes(12), [a.DATA(payload)]).encode()


# --- ChannelData -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "plain", "padded"),
    [
        (b"", "40010000", "40010000"),
        (b"abcd", "4001000461626364", "4001000461626364"),
        (b"abcde", "400100056162636465", "400100056162636465000000"),
    ],
)
def test_known_bytes(payload: bytes, plain: str, padded: str) -> None:
    assert channel_data(0x4001, payload).hex() == plain
    assert channel_data(0x4001, payload, padded=True).hex() == padded
    for data in (plain, padded):
        assert parse_channel_data(bytes.fromhex(data)) == (0x4001, payload)


@steady
@given(st.integers(CHANNEL_MIN, CHANNEL_MAX), st.binary(max_size=2000), st.booleans())
def test_round_trip(channel: int, payload: bytes, padded: bool) -> None:
    data = channel_data(channel, payload, padded=padded)
    assert parse_channel_data(data) == (channel, payload)
    assert not padded or len(data) % 4 == 0


def test_channels_end_at_4fff() -> None:
    """RFC 8656 section 12: 0x4000 to 0x4FFF; what is above belongs to other protocols."""
    accepted = set()
    for channel in range(0x10000):
        try:
            accepted.add(parse_channel_data(channel.to_bytes(2, "big") + b"\0\0")[0])
        except MalformedMessage:
            continue
    assert accepted == set(range(0x4000, 0x5000)) == set(range(CHANNEL_MIN, CHANNEL_MAX + 1))


@pytest.mark.parametrize(
    "data", [b"", b"\x40", b"\x40\x01\x00", b"\x40\x01\x00\x01", b"\x40\x01\xff\xff" + bytes(65534)]
)
def test_cut_short(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_channel_data(data)


def test_the_longest_payload() -> None:
    assert parse_channel_data(channel_data(CHANNEL_MAX, bytes(65535))) == (CHANNEL_MAX, bytes(65535))
    with pytest.raises(ValueError, match="too long"):
        channel_data(CHANNEL_MIN, bytes(65536))


@steady
@given(st.binary(max_size=40))
def test_any_bytes_are_channel_data_or_malformed(data: bytes) -> None:
    try:
        channel, payload = parse_channel_data(data)
    except MalformedMessage:
        assert len(data) < 4 or data[0] >> 4 != 4 or len(data) < 4 + (data[2] << 8 | data[3])
    else:
        assert channel_data(channel, payload) == data[: 4 + len(payload)]


# --- the stream ------------------------------------------------------------------------------------------------------

messages = st.lists(
    st.binary(max_size=40).map(stun)
    | st.builds(channel_data, st.integers(CHANNEL_MIN, CHANNEL_MAX), st.binary(max_size=40)),
    max_size=8,
)
chunks_of = st.lists(st.integers(0, 30), max_size=60)


def chunks(stream: bytes, sizes: list[int]) -> list[bytes]:
    """The stream in chunks of these sizes, the rest in one."""
    edges = list(itertools.accumulate(sizes, initial=0))
    return [*(stream[low:high] for low, high in itertools.pairwise(edges)), stream[edges[-1] :]]


def feed(framer: StreamFramer, pieces: list[bytes]) -> list[bytes] | None:
    """What comes out, or None when the stream is given up."""
    found: list[bytes] = []
    for piece in pieces:
        try:
            found += framer.feed(piece)
        except MalformedMessage:
            return None
        assert len(framer._buffer) < LONGEST
    return found


@steady
@given(messages, chunks_of)
def test_messages_come_out_however_the_stream_is_cut(sent: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(message + bytes(-len(message) % 4) for message in sent)
    framer = StreamFramer()
    assert feed(framer, chunks(stream, sizes)) == sent
    assert not framer._buffer
    assert StreamFramer().feed(stream) == sent


@steady
@given(messages, st.binary(max_size=40), chunks_of)
def test_any_stream_is_judged_alike_however_it_is_cut(sent: list[bytes], noise: bytes, sizes: list[int]) -> None:
    stream = b"".join(message + bytes(-len(message) % 4) for message in sent) + noise
    assert feed(StreamFramer(), chunks(stream, sizes)) == feed(StreamFramer(), [stream])


@steady
@given(st.binary(max_size=200), chunks_of)
def test_any_bytes_are_judged_alike_however_they_are_cut(stream: bytes, sizes: list[int]) -> None:
    assert feed(StreamFramer(), chunks(stream, sizes)) == feed(StreamFramer(), [stream])


def test_one_byte_at_a_time() -> None:
    framer = StreamFramer()
    stream = stun(b"12345") + channel_data(0x4000, b"1", padded=True)
    ends = [at for at in range(len(stream)) if framer.feed(stream[at : at + 1])]
    assert ends == [len(stun(b"12345")) - 1, len(stream) - 1]


def test_the_buffer_holds_one_message_at_most() -> None:
    """Two of the longest messages, then a long run of short ones, in chunks of many sizes."""
    stream = channel_data(0x4000, bytes(65535), padded=True) * 2 + channel_data(0x4001, b"x", padded=True) * 3000
    for size in (1000, 4096, 65537, len(stream)):
        framer = StreamFramer()
        count = 0
        for at in range(0, len(stream), size):
            before = len(framer._buffer)
            count += len(framer.feed(stream[at : at + size]))
            assert before < LONGEST
        assert count == 3002
        assert not framer._buffer


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"\x50\x00\x00\x00", id="a channel that is reserved"),
        pytest.param(b"\x80\x00\x00\x00", id="RTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"SSH-2.0-OpenSSH", id="SSH"),
        pytest.param(b"220 mail.example.org ESMTP", id="SMTP"),
        pytest.param(b"\x00\x01\x00\x03", id="a STUN length that is no multiple of four"),
        pytest.param(b"\x00\x01\x00\x08\x21\x12\xa4\x43", id="another cookie"),
        pytest.param(
            b"\x00\x01\xff\xfc\x21\x13", id="the first wrong byte of the cookie, long before the message ends"
        ),
    ],
)
def test_a_stream_that_is_not_turn_is_given_up_at_once(start: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not TURN"):
        StreamFramer().feed(start)
    with pytest.raises(MalformedMessage, match="not TURN"):
        StreamFramer().feed(stun(b"1234") + start)


def test_a_stream_given_up_stays_given_up() -> None:
    framer = StreamFramer()
    for piece in (b"\xff\xff\xff\xff", b"", stun(b"")):
        with pytest.raises(MalformedMessage):
            framer.feed(piece)


def test_http_cannot_be_told_from_channel_data() -> None:
    """G and H are 0x47 and 0x48: only who knows the bound channels, and that there are none yet, can tell."""
    for start in (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        assert StreamFramer().feed(start) == []
