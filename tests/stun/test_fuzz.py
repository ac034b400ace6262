"""Any bytes: a message or MalformedMessage, nothing else, with work and memory that the size bounds."""

from __future__ import annotations

import binascii
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.framing import StreamFramer, channel_data
from relaycall.stun.message import HEADER_SIZE, MAX_ATTRIBUTES, Class, Message, Method, decode

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEY = b"the key"
HEADER = struct.pack("!HHI", 0x0001, 0, 0x2112A442) + bytes(12)
IP4, IP6 = Address("192.0.2.1", 40000), Address("2001:db8::1", 40000)
SEEDS = [
    Message(Method.BINDING, Class.REQUEST, bytes(12)).encode(),
    Message(
        Method.BINDING,
        Class.REQUEST,
        bytes(range(12)),
        [a.USERNAME("abcd:efgh"), a.PRIORITY(1), a.USE_CANDIDATE(None), a.ICE_CONTROLLING(7), a.NOMINATION(2)],
    ).encode(KEY, fingerprint=True),
    Message(
        Method.ALLOCATE,
        Class.ERROR,
        bytes(12),
        [
            a.ERROR_CODE(a.ErrorCode(401, "Unauthorized")),
            a.REALM("example.org"),
            a.NONCE("obMatJos2AAACf"),
            a.PASSWORD_ALGORITHMS((a.PasswordAlgorithm(2), a.PasswordAlgorithm(1, b"abc"))),
            a.UNKNOWN_ATTRIBUTES((1, 2, 3)),
            a.ALTERNATE_SERVER(IP4),
            a.ADDRESS_ERROR_CODE((2, a.ErrorCode(440))),
        ],
    ).encode(),
    Message(
        Method.ALLOCATE,
        Class.SUCCESS,
        bytes(12),
        [a.XOR_RELAYED_ADDRESS(IP6), a.XOR_MAPPED_ADDRESS(IP4), a.LIFETIME(600), a.RESERVATION_TOKEN(bytes(8))],
    ).encode(KEY, sha256=True),
    Message(
        Method.DATA, Class.INDICATION, bytes(12), [a.XOR_PEER_ADDRESS(IP6), a.DATA(bytes(99)), a.ICMP(a.Icmp(3, 1, 0))]
    ).encode(),
    Message(
        Method.REFRESH, Class.REQUEST, bytes(12), [a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(2)), a.EVEN_PORT(True)]
    ).encode(KEY, fingerprint=True),
]


def take(data: bytes) -> Message | None:
    """What decode makes of it. Any error but MalformedMessage ends the test."""
    try:
        message = decode(data)
    except MalformedMessage:
        return None
    assert len(message.transaction_id) == 12
    assert len(message.attributes) + len(message.unknown) <= MAX_ATTRIBUTES
    assert message.raw == data
    message.verify(KEY)
    assert str(message)
    return message


def fixed(data: bytes) -> bytes:
    """With a header that decode does not refuse, so that the attributes are reached."""
    body = data[: len(data) & ~3]
    return HEADER[:2] + struct.pack("!H", len(body)) + HEADER[4:] + body


# --- random bytes ----------------------------------------------------------------------------------------------------


@steady
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    take(data)


@steady
@given(st.binary(max_size=200))
@example(b"\x00\x06\xff\xff")
@example(b"\x80\x28\x00\x04\x00\x00\x00\x00")
def test_any_attributes(data: bytes) -> None:
    take(fixed(data))


@steady
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(a.BY_TYPE)) | st.integers(0, 0xFFFF), st.binary(max_size=40), st.integers(-3, 3)
        ),
        max_size=10,
    )
)
def test_any_values_of_known_attributes(attributes: list[tuple[int, bytes, int]]) -> None:
    """Types that exist, values that may not, lengths that are sometimes a little wrong."""
    body = b"".join(
        struct.pack("!HH", type_, max(0, len(data) + wrong)) + data + bytes(-len(data) % 4)
        for type_, data, wrong in attributes
    )
    take(fixed(body))


# --- mutations of valid messages -------------------------------------------------------------------------------------


def test_every_truncation() -> None:
    for seed in SEEDS:
        assert take(seed) is not None
        for size in range(len(seed)):
            assert take(seed[:size]) is None
            take(fixed(seed[HEADER_SIZE:size]))


def test_every_bit() -> None:
    for seed in SEEDS:
        for bit in range(len(seed) * 8):
            changed = bytearray(seed)
            changed[bit // 8] ^= 1 << bit % 8
            take(bytes(changed))


@pytest.mark.slow
def test_every_byte_at_every_length_field() -> None:
    """All values of each byte of the second seed and the third, the ones with the most kinds of attributes."""
    for seed in SEEDS[1:3]:
        for at in range(HEADER_SIZE, len(seed)):
            for value in range(256):
                take(seed[:at] + bytes((value,)) + seed[at + 1 :])


@steady
@given(st.lists(st.tuples(st.sampled_from(SEEDS), st.integers(0, 200), st.integers(0, 200)), max_size=5))
def test_splices(cuts: list[tuple[bytes, int, int]]) -> None:
    take(fixed(b"".join(seed[HEADER_SIZE:][low // 4 * 4 : high // 4 * 4] for seed, low, high in cuts)))
    take(b"".join(seed[low:high] for seed, low, high in cuts))


def test_random_mutations() -> None:
    """20,000 messages with some bytes changed, taken out, doubled or put in; the seed is fixed."""
    source = random.Random(5769)
    taken = 0
    for _ in range(20_000):
        data = bytearray(source.choice(SEEDS)[HEADER_SIZE:])
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(data) + 1)
            match source.randrange(4):
                case 0:
                    data[at : at + 1] = source.randbytes(1)
                case 1:
                    del data[at : at + source.randrange(9)]
                case 2:
                    data[at:at] = data[at : at + 4 * source.randrange(9)]
                case _:
                    data[at:at] = source.randbytes(source.randrange(9))
        taken += take(fixed(bytes(data))) is not None
    assert 1000 < taken < 19_000  # neither all refused at the door nor all harmless


@settings(steady, max_examples=100)
@given(st.data())
def test_the_framer_and_the_decoder_together(data: st.DataObject) -> None:
    """A stream with something wrong in it, as a client reads it."""
    parts = data.draw(st.lists(st.sampled_from([*SEEDS, channel_data(0x4001, b"abcde", padded=True)]), max_size=5))
    stream = bytearray(b"".join(parts))
    for at in data.draw(st.lists(st.integers(0, 500), max_size=3)):
        if at < len(stream):
            stream[at] = data.draw(st.integers(0, 255))
    framer = StreamFramer()
    size = data.draw(st.integers(1, 100))
    for at in range(0, len(stream), size):
        try:
            messages = framer.feed(bytes(stream[at : at + size]))
        except MalformedMessage:
            return
        for message in messages:
            take(message)


# --- work and memory -------------------------------------------------------------------------------------------------


def attribute_of(type_: int, data: bytes) -> bytes:
    return struct.pack("!HH", type_, len(data)) + data + bytes(-len(data) % 4)


def filled(body: bytes, size: int) -> bytes:
    """As many of these attributes as fit."""
    return fixed(body * (size // len(body)))


LONG = 1016
WORST: dict[str, Callable[[int], bytes]] = {
    "many known": lambda size: filled(attribute_of(0x000D, bytes(4)), size),
    "many unknown": lambda size: filled(attribute_of(0x7FFF, b""), size),
    "many unknown that may be ignored": lambda size: filled(attribute_of(0xFFFF, b""), size),
    "many after the integrity": lambda size: fixed(
        (attribute_of(0x0008, bytes(20)) + attribute_of(0x7FFF, b"") * size)[:size]
    ),
    "many integrities": lambda size: filled(attribute_of(0x0008, bytes(20)), size),
    "many fingerprints": lambda size: filled(attribute_of(0x8028, bytes(4)), size),
    "many peers": lambda size: filled(attribute_of(0x0012, b"\0\2" + bytes(18)), size),
    "long values": lambda size: filled(attribute_of(0x0013, bytes(LONG)), size),
    "long texts": lambda size: filled(attribute_of(0x8022, b"x" * 763), size),
    "lists of algorithms": lambda size: filled(attribute_of(0x8002, bytes(64)), size),
    "lists of types": lambda size: filled(attribute_of(0x000A, bytes(256)), size),
    "one long value": lambda size: fixed(attribute_of(0x0013, bytes(size - 4))),
    "a long value under a fingerprint": lambda size: Message(
        Method.SEND, Class.INDICATION, bytes(12), [a.DATA(bytes(size - 12))]
    ).encode(fingerprint=True),
    "a long value under an integrity": lambda size: Message(
        Method.SEND, Class.INDICATION, bytes(12), [a.DATA(bytes(size - 28))]
    ).encode(KEY),
}
LARGEST = 65532
each_worst = pytest.mark.parametrize("worst", WORST.values(), ids=WORST.keys())


def lines_run(function: Callable[[], Any]) -> int:
    """How many lines of the codec a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if "/stun/" not in frame.f_code.co_filename or "tests" in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@each_worst
def test_the_work_does_not_grow_with_the_size(worst: Callable[[int], bytes]) -> None:
    """However large the message, no more than MAX_ATTRIBUTES attributes are looked at, and sixteen entries in each.

    What remains grows with the size only in C, once over each value and once over the whole for the fingerprint.
    """
    for size in (1024, 4096, 16384, LARGEST):
        message = worst(size)
        assert len(message) > size * 0.75
        assert 0 < lines_run(lambda message=message: take(message)) < MAX_ATTRIBUTES * 160


def test_lines_are_counted() -> None:
    one, sixty = (lines_run(lambda n=n: decode(filled(attribute_of(0x000D, bytes(4)), 8 * n))) for n in (1, 60))
    assert 10 < one < 60 * 10 < sixty


@each_worst
def test_the_memory_is_a_small_multiple_of_the_size(worst: Callable[[int], bytes]) -> None:
    message = worst(LARGEST)
    take(message)
    tracemalloc.start()
    try:
        kept = take(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(message)
    assert kept is None or len(kept.attributes) <= MAX_ATTRIBUTES


def test_the_fingerprint_is_computed_once_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """It covers the whole message, so computing it for each of many attributes would be quadratic."""
    covered: list[int] = []
    real = binascii.crc32
    monkeypatch.setattr(binascii, "crc32", lambda data: covered.append(len(data)) or real(data))
    for name, worst in WORST.items():
        message = worst(LARGEST)
        covered.clear()
        take(message)
        assert sum(covered) <= len(message)
        assert bool(covered) is (name == "a long value under a fingerprint")
