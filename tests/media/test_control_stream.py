"""Control packets beside the audio: one size, keys and SSRCs of their own, and no way to keep us busy."""

from __future__ import annotations

import struct
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import CallClosed, ConfigError
from relaycall.media import budget, control_stream
from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE, CONTROL_PAYLOAD_TYPE, ControlStream
from relaycall.media.srtp import OutgoingSrtp, Refusal, derive_keys
from relaycall.media.transport import BUDGET_PACKETS, RtpTransport
from tests.media.paths import MemoryPath

CALL_KEY = bytes(range(32))
CALLER, CALLEE = 0x0A0A0A0A, 0x0B0B0B0B  # audio SSRCs


class Side:
    """A transport, and what it got."""

    def __init__(self, *, caller: bool, key: bytes = CALL_KEY) -> None:
        self.path = MemoryPath()
        self.got: list[bytes] = []
        local, remote = (CALLER, CALLEE) if caller else (CALLEE, CALLER)
        keys = derive_keys(key, caller=caller)
        self.transport = RtpTransport(self.path, keys, local_ssrc=local, remote_ssrc=remote, payload_type=111)
        self.transport.on_control = self.got.append
        self.transport.open()

    def send(self, payload: bytes) -> bytes:
        self.transport.send_control(payload)
        return self.path.sent[-1]

    @property
    def dropped(self) -> dict[str, int]:
        return {reason: count for reason, count in asdict(self.transport.counters.dropped).items() if count}


@pytest.fixture
def sides() -> tuple[Side, Side]:
    return Side(caller=True), Side(caller=False)


def stream(*, caller: bool, key: bytes = CALL_KEY) -> ControlStream:
    return ControlStream(derive_keys(key, caller=caller), *((CALLER, CALLEE) if caller else (CALLEE, CALLER)))


def payload(number: int) -> bytes:
    return bytes([number & 0xFF]) * CONTROL_PAYLOAD_SIZE


def test_both_directions(sides: tuple[Side, Side]) -> None:
    for sender, receiver in (sides, sides[::-1]):
        for number in range(3):
            assert receiver.transport.receive(sender.send(payload(number))) is True
        assert receiver.got == [payload(0), payload(1), payload(2)]
        assert receiver.dropped == sender.dropped == {}
        assert sender.transport.counters.control_sent == receiver.transport.counters.control_received == 3
        assert sender.transport.counters.audio_sent == receiver.transport.counters.audio_received == 0
    counters = sides[0].transport.counters
    assert (counters.packets_sent, counters.bytes_sent, counters.packets_received) == (3, 324, 3)


async def test_audio_and_control_have_one_size(sides: tuple[Side, Side]) -> None:
    sender, _ = sides
    await sender.transport._send_rtp(struct.pack("!BBHLL", 0x80, 111, 1, 0, CALLER) + bytes(80))
    sender.send(payload(0))
    sender.send(payload(255))
    assert {len(packet) for packet in sender.path.sent} == {108} == sender.transport.counters.sent_sizes


def test_only_the_payload_type_tells_control_from_audio_in_a_header(sides: tuple[Side, Side]) -> None:
    packet = sides[0].send(payload(0))
    first, kind, _, timestamp, ssrc = struct.unpack_from("!BBHLL", packet)
    assert (first, kind, timestamp) == (0x80, CONTROL_PAYLOAD_TYPE, 0)
    assert ssrc not in (0, CALLER, CALLEE)
    assert payload(0)[:8] not in packet


def test_other_sizes_are_neither_sent_nor_taken(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    for size in (0, 1, 79, 81, 1400, 2000):
        sender.transport.send_control(bytes(size))
    assert sender.path.sent == []
    assert sender.dropped == {"unsent": 6}
    assert sender.transport.counters.control_sent == 0
    keys = derive_keys(CALL_KEY, caller=True)
    outgoing = OutgoingSrtp(keys.control.send, keys.control.send_ssrc)
    for number, size in enumerate((0, 79, 81)):
        header = struct.pack("!BBHLL", 0x80, CONTROL_PAYLOAD_TYPE, number, 0, keys.control.send_ssrc)
        packet = outgoing.protect_rtp(header + bytes(size))
        assert isinstance(packet, bytes)
        assert receiver.transport.receive(packet) is False
    assert receiver.dropped == {"malformed": 3}
    assert receiver.got == []


@pytest.mark.parametrize("first", [0x81, 0x90, 0xA0])
def test_authentic_packets_without_a_bare_header_are_not_taken(sides: tuple[Side, Side], first: int) -> None:
    """With a CSRC, an extension or padding the right size holds fewer bytes of payload."""
    keys = derive_keys(CALL_KEY, caller=True)
    header = struct.pack("!BBHLL", first, CONTROL_PAYLOAD_TYPE, 1, 0, keys.control.send_ssrc)
    packet = OutgoingSrtp(keys.control.send, keys.control.send_ssrc).protect_rtp(header + bytes(80))
    assert isinstance(packet, bytes)
    assert len(packet) == 108
    assert sides[1].transport.receive(packet) is False
    assert sides[1].dropped == {"malformed": 1}
    assert sides[1].got == []


def test_an_audio_key_opens_no_control_and_the_other_way_round(sides: tuple[Side, Side]) -> None:
    receiver = sides[1]
    keys = derive_keys(CALL_KEY, caller=True)
    as_control = OutgoingSrtp(keys.send, keys.control.send_ssrc).protect_rtp(
        struct.pack("!BBHLL", 0x80, CONTROL_PAYLOAD_TYPE, 1, 0, keys.control.send_ssrc) + bytes(80)
    )
    as_audio = OutgoingSrtp(keys.control.send, CALLER).protect_rtp(
        struct.pack("!BBHLL", 0x80, 111, 1, 0, CALLER) + bytes(80)
    )
    for packet in (as_control, as_audio):
        assert isinstance(packet, bytes)
        assert receiver.transport.receive(packet) is False
    assert receiver.dropped == {"authentication": 2}


def test_other_calls_and_our_own_packets_are_refused(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    assert receiver.transport.receive(Side(caller=True, key=bytes(32)).send(payload(1))) is False
    assert receiver.transport.receive(receiver.send(payload(1))) is False
    assert receiver.dropped == {"wrong_ssrc": 2}
    packet = sender.send(payload(1))
    for place in range(len(packet)):
        altered = bytearray(packet)
        altered[place] ^= 1
        assert receiver.transport.receive(bytes(altered)) is False
    assert receiver.got == []
    assert receiver.transport.receive(packet) is True


def test_control_and_audio_packets_are_not_taken_for_each_other(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    packet = sender.send(payload(1))
    audio = OutgoingSrtp(derive_keys(CALL_KEY, caller=True).send, CALLER).protect_rtp(
        struct.pack("!BBHLL", 0x80, 111, 1, 0, CALLER) + bytes(80)
    )
    assert isinstance(audio, bytes)
    assert receiver.transport.receive(b"\x80\x6f" + packet[2:]) is False
    assert receiver.transport.receive(b"\x80\x7e" + audio[2:]) is False
    assert receiver.dropped == {"wrong_ssrc": 2}
    assert receiver.transport.receive(b"\x80\xfe" + packet[2:]) is False  # with a marker
    assert receiver.transport.receive(b"\x90" + packet[1:]) is False
    assert receiver.dropped == {"wrong_ssrc": 2, "wrong_payload_type": 1, "malformed": 1}


def test_copies_and_replays(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    packets = [sender.send(payload(number)) for number in range(300)]
    assert [receiver.transport.receive(packet) for packet in packets] == [True] * 300
    assert receiver.transport.receive(packets[299]) is True
    assert receiver.transport.receive(packets[299]) is False, "a relay may not live on one copy"
    assert receiver.transport.receive(packets[270]) is True
    assert receiver.transport.receive(packets[260]) is False
    assert receiver.transport.counters.copies == 2
    assert receiver.dropped == {"replay": 2}
    assert len(receiver.got) == 300


def test_a_flood_is_dropped(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    now = budget.monotonic()
    monkeypatch.setattr(budget, "monotonic", lambda: now)
    sender, receiver = sides
    for number in range(BUDGET_PACKETS + 10):
        assert receiver.transport.receive(sender.send(payload(number))) is True
    assert receiver.dropped == {"flood": 10}
    assert len(receiver.got) == receiver.transport.counters.control_received == BUDGET_PACKETS
    now += 10
    receiver.transport.receive(sender.send(payload(1)))
    assert len(receiver.got) == BUDGET_PACKETS + 1


@pytest.mark.parametrize("error", [ValueError, StopIteration, CallClosed, AssertionError, RecursionError])
def test_what_on_control_raises_is_counted(sides: tuple[Side, Side], error: type[Exception]) -> None:
    def fail(payload: bytes) -> None:
        raise error

    sender, receiver = sides
    receiver.transport.on_control = fail
    assert receiver.transport.receive(sender.send(payload(1))) is True
    assert receiver.dropped == {"malformed": 1}
    assert receiver.transport.counters.control_received == 1


def test_nobody_needs_to_listen(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    receiver.transport.on_control = None
    assert receiver.transport.receive(sender.send(payload(1))) is True
    assert receiver.dropped == {}


def test_on_control_may_close_the_transport(sides: tuple[Side, Side]) -> None:
    sender, receiver = sides
    receiver.transport.on_control = lambda payload: receiver.transport.close()
    assert receiver.transport.receive(sender.send(payload(1))) is True
    assert receiver.transport.state == "closed"
    assert receiver.transport.on_control is None
    assert receiver.dropped == {}


def test_sending_raises_nothing_in_any_state(sides: tuple[Side, Side]) -> None:
    keys = derive_keys(CALL_KEY, caller=True)
    path = MemoryPath()
    new = RtpTransport(path, keys, local_ssrc=CALLER, remote_ssrc=CALLEE, payload_type=111)
    new.send_control(payload(1))
    new.open()
    new.send_control(payload(2))
    path.closed = True
    new.send_control(payload(3))
    assert new.state == "connected", "aiortc's sender finds out by itself"
    new.close()
    new.send_control(payload(4))
    assert len(path.sent) == new.counters.control_sent == 1
    assert new.counters.dropped.unsent == 3


def test_the_payload_type_of_control_is_not_for_audio() -> None:
    keys = derive_keys(CALL_KEY, caller=True)
    with pytest.raises(ConfigError):
        RtpTransport(MemoryPath(), keys, local_ssrc=1, remote_ssrc=2, payload_type=CONTROL_PAYLOAD_TYPE)


def test_an_audio_ssrc_that_equals_a_derived_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides step over it alike."""
    keys = derive_keys(CALL_KEY, caller=True)
    audio = keys.control.send_ssrc, keys.control.send_ssrc + 1
    caller = ControlStream(keys, *audio)
    callee = ControlStream(derive_keys(CALL_KEY, caller=False), *audio[::-1])
    packet = caller.protect(payload(1))
    assert isinstance(packet, bytes)
    assert struct.unpack_from("!L", packet, 8) == (keys.control.send_ssrc + 2,)
    assert callee.unprotect(packet) == payload(1)


@pytest.mark.parametrize("start", [0, 0x7FFF])
def test_a_long_call_wraps_the_sequence_number(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    monkeypatch.setattr(control_stream.secrets, "randbelow", lambda limit: start if start < limit else limit - 1)
    caller, callee = stream(caller=True), stream(caller=False)
    for number in range(70_000):
        packet = caller.protect(payload(number))
        assert isinstance(packet, bytes)
        if number % 30_000 == 0 or number > 69_990:  # most are lost
            assert callee.unprotect(packet) == payload(number)


def test_the_sequence_number_starts_at_random() -> None:
    starts = set()
    for _ in range(20):
        packet = stream(caller=True).protect(payload(0))
        assert isinstance(packet, bytes)
        starts.add(int.from_bytes(packet[2:4], "big"))
    assert len(starts) > 10
    assert max(starts) <= 1 << 15


@given(st.binary(max_size=120), st.booleans())
def test_garbage_never_escapes(data: bytes, headed: bool) -> None:
    if headed:
        data = struct.pack("!BBHLL", 0x80, CONTROL_PAYLOAD_TYPE, 1, 0, 5) + data
    receiver = Side(caller=False)
    assert receiver.transport.receive(data) is False
    assert sum(receiver.dropped.values()) == 1
    assert isinstance(stream(caller=False).unprotect(data), Refusal)
