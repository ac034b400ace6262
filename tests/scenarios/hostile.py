"""What an attacker gives his victim: each kind of packet as a function that makes one. `KINDS` lists them by name."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from relaycall.media.srtp import OutgoingSrtp
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.framing import channel_data
from relaycall.stun.message import Class, Message, Method
from tests.scenarios.attacker import COOKIE, Attacker, is_rtcp, is_rtp


@dataclass(frozen=True)
class Kind:
    """One kind of packet.

    Attributes:
        make: makes one.
        by_relay: a message of the relay's own; otherwise a payload from the peer.
        streams: whether it can be framed on a stream; what cannot ends that connection by design.
        media: needs a call with media, to replay or to imitate.
    """

    make: Callable[[Attacker], bytes]
    by_relay: bool = False
    streams: bool = True
    media: bool = False


KINDS: dict[str, Kind] = {}


def kind(name: str, **how: bool) -> Callable[[Callable[[Attacker], bytes]], Callable[[Attacker], bytes]]:
    def register(make: Callable[[Attacker], bytes]) -> Callable[[Attacker], bytes]:
        KINDS[name] = Kind(make, **how)
        return make

    return register


def a_check(attacker: Attacker, username: str) -> Message:
    found = [
        a.USERNAME(username),
        a.ICE_CONTROLLING(attacker.random.getrandbits(64)),
        a.PRIORITY(1),
        a.USE_CANDIDATE(None),
        a.NOMINATION(2**32 - 1),
    ]
    return Message(Method.BINDING, Class.REQUEST, os.urandom(12), found)


def signed(message: Message, key: bytes | None = b"not the password of anybody") -> bytes:
    return message.encode(key, fingerprint=True)


def stun(body: bytes, kind: int = 0x0001, size: int | None = None) -> bytes:
    """A STUN message written by hand."""
    return struct.pack("!HH", kind, len(body) if size is None else size) + COOKIE + os.urandom(12) + body


def attribute(number: int, value: bytes, size: int | None = None) -> bytes:
    return struct.pack("!HH", number, len(value) if size is None else size) + value + bytes(-len(value) % 4)


# --- malformed, from the relay itself ---------------------------------------------------------------------------------


@kind("relay: an empty datagram", by_relay=True, streams=False)
def _empty(_: Attacker) -> bytes:
    return b""


@kind("relay: one to nineteen bytes", by_relay=True, streams=False)
def _short(attacker: Attacker) -> bytes:
    return os.urandom(attacker.random.randrange(1, 20))


@kind("relay: noise", by_relay=True, streams=False)
def _noise(attacker: Attacker) -> bytes:
    first = attacker.random.choice([*range(0x40), *range(0x50, 0x100)])
    return bytes([first]) + os.urandom(attacker.random.randrange(1, 1400))


@kind("relay: truncated STUN", by_relay=True, streams=False)
def _truncated(attacker: Attacker) -> bytes:
    whole = signed(a_check(attacker, "some:body"))
    return whole[: attacker.random.randrange(1, len(whole))]


@kind("relay: STUN of a wrong length", by_relay=True, streams=False)
def _wrong_length(attacker: Attacker) -> bytes:
    return stun(bytes(attacker.random.randrange(4, 64)), size=attacker.random.choice([0, 1, 2, 3, 60000, 65535]))


def bad_attributes(attacker: Attacker, kind: int) -> bytes:
    return stun(
        attacker.random.choice(
            [
                attribute(0x0006, b"\xff\xfe\xfd\xfc"),  # USERNAME that is not UTF-8
                attribute(0x0006, b"abcd", size=65535),  # longer than the message
                attribute(0x0009, b"\x00\x00\x09\x63"),  # ERROR-CODE 999
                attribute(0x0009, b"\x00"),
                attribute(0x0016, b"\x00\x07" + bytes(6)),  # XOR-RELAYED-ADDRESS of family 7
                attribute(0x0016, b"\x00\x02" + bytes(6)),  # IPv6 of four bytes
                attribute(0x000D, b""),  # LIFETIME
                attribute(0x0008, bytes(19)),  # MESSAGE-INTEGRITY
                attribute(0x8002, b"\x00\x02\xff\xff"),  # PASSWORD-ALGORITHMS
                attribute(0x000A, bytes(258)),  # UNKNOWN-ATTRIBUTES
                attribute(0x7777, b"") * 65,  # too many
            ]
        ),
        kind,
    )


@kind("relay: bad attributes", by_relay=True)
def _bad_attributes(attacker: Attacker) -> bytes:
    return bad_attributes(attacker, attacker.random.choice([0x0103, 0x0113, 0x0017, 0x0104, 0x0001]))


@kind("relay: 28 bytes", by_relay=True)
def _28(attacker: Attacker) -> bytes:
    return stun(attribute(attacker.random.choice([0x0006, 0x0020, 0x8028]), bytes(4), size=8), 0x0101)


@kind("relay: a wrong fingerprint", by_relay=True)
def _fingerprint(attacker: Attacker) -> bytes:
    return signed(a_check(attacker, "some:body"))[:-1] + b"?"


@kind("relay: an unknown method", by_relay=True)
def _method(attacker: Attacker) -> bytes:
    return stun(b"", attacker.random.choice([0x0002, 0x0FFE, 0x3EEF, 0x0115]))


# --- forged, from the relay itself ------------------------------------------------------------------------------------


@kind("relay: requests", by_relay=True)
def _requests(attacker: Attacker) -> bytes:
    return Message(attacker.random.choice(list(Method)), Class.REQUEST, os.urandom(12)).encode()


@kind("relay: successes to requests never made", by_relay=True)
def _successes(attacker: Attacker) -> bytes:
    method = attacker.random.choice([Method.ALLOCATE, Method.REFRESH, Method.CHANNEL_BIND, Method.BINDING])
    found = [
        a.LIFETIME(0),
        a.XOR_RELAYED_ADDRESS(Address("127.0.0.1", 9)),
        a.XOR_MAPPED_ADDRESS(Address("127.0.0.1", 9)),
    ]
    return signed(Message(method, Class.SUCCESS, os.urandom(12), found))


@kind("relay: 300 to 508 to requests never made", by_relay=True)
def _errors(attacker: Attacker) -> bytes:
    method = attacker.random.choice([Method.ALLOCATE, Method.REFRESH, Method.CHANNEL_BIND, Method.CREATE_PERMISSION])
    code = attacker.random.choice([300, 400, 401, 403, 437, 438, 441, 486, 500, 508])
    found = [a.ERROR_CODE(a.ErrorCode(code, "gone")), a.REALM("elsewhere"), a.NONCE("newer")]
    found.append(a.ALTERNATE_SERVER(Address("127.0.0.1", 9)))
    return Message(method, Class.ERROR, os.urandom(12), found).encode()


@kind("relay: ChannelData of unknown channels", by_relay=True)
def _channels(attacker: Attacker) -> bytes:
    return channel_data(attacker.random.randrange(0x4100, 0x5000), os.urandom(100))


@kind("relay: ChannelData longer than it is", by_relay=True, streams=False)
def _long_channel_data(attacker: Attacker) -> bytes:
    return struct.pack("!HH", 0x4000, attacker.random.choice([101, 1500, 65535])) + os.urandom(100)


@kind("relay: Data indications from strangers", by_relay=True)
def _strangers(attacker: Attacker) -> bytes:
    peer = Address(f"127.0.0.{attacker.random.randrange(2, 250)}", attacker.random.randrange(1, 65536))
    found = [a.XOR_PEER_ADDRESS(peer), a.DATA(os.urandom(100))]
    return Message(Method.DATA, Class.INDICATION, os.urandom(12), found).encode()


@kind("relay: odd indications", by_relay=True)
def _indications(attacker: Attacker) -> bytes:
    method = attacker.random.choice([Method.DATA, Method.SEND, Method.BINDING, Method.CONNECTION_ATTEMPT])
    found = attacker.random.choice([[], [a.DATA(b"x")], [a.XOR_PEER_ADDRESS(Address("::1", 1))]])
    return Message(method, Class.INDICATION, os.urandom(12), found).encode()


# --- from the peer ----------------------------------------------------------------------------------------------------


@kind("peer: an empty packet")
def _peer_empty(_: Attacker) -> bytes:
    return b""


@kind("peer: packets of no protocol")
def _peer_noise(attacker: Attacker) -> bytes:
    first = attacker.random.choice([*range(4, 20), *range(64, 128), *range(192, 256)])
    return bytes([first]) + os.urandom(attacker.random.randrange(0, 1400))


@kind("peer: malformed STUN")
def _peer_malformed(attacker: Attacker) -> bytes:
    make = attacker.random.choice([_truncated, _wrong_length, _28, _fingerprint, _method])
    packet = make(attacker)
    return bytes([packet[0] & 3]) + packet[1:]


@kind("peer: STUN with bad attributes")
def _peer_attributes(attacker: Attacker) -> bytes:
    return bad_attributes(attacker, attacker.random.choice([0x0001, 0x0101, 0x0111]))


@kind("peer: STUN that is no check")
def _peer_no_check(attacker: Attacker) -> bytes:
    method = attacker.random.choice([method for method in Method if method is not Method.BINDING])
    return Message(method, attacker.random.choice(list(Class)), os.urandom(12)).encode(fingerprint=True)


@kind("peer: checks with an unknown attribute")
def _peer_unknown(attacker: Attacker) -> bytes:
    return stun(attribute(0x7777, b"") + attribute(0x0006, attacker.username.encode()))


@kind("peer: checks of a wrong ufrag")
def _peer_ufrag(attacker: Attacker) -> bytes:
    return signed(a_check(attacker, "nobo:body"))


@kind("peer: checks of the right ufrag, wrongly signed")
def _peer_password(attacker: Attacker) -> bytes:
    return signed(a_check(attacker, attacker.username))


@kind("peer: checks of the right ufrag, unsigned")
def _peer_unsigned(attacker: Attacker) -> bytes:
    return signed(a_check(attacker, attacker.username), None)


@kind("peer: answers to checks never made")
def _peer_answers(attacker: Attacker) -> bytes:
    error = [a.ERROR_CODE(a.ErrorCode(attacker.random.choice([400, 401, 487, 500])))]
    kind, found = attacker.random.choice([(Class.SUCCESS, []), (Class.ERROR, error)])
    return signed(Message(Method.BINDING, kind, os.urandom(12), found))


@kind("peer: answers to real checks, wrongly signed")
def _peer_real_answers(attacker: Attacker) -> bytes:
    error = [a.ERROR_CODE(a.ErrorCode(attacker.random.choice([400, 401, 487, 500])))]
    kind, found = attacker.random.choice([(Class.SUCCESS, []), (Class.ERROR, error)])
    key = attacker.random.choice([None, b"not the password of anybody"])
    return signed(Message(Method.BINDING, kind, attacker.random.choice(attacker.checks), found), key)


@kind("peer: DTLS alerts")
def _peer_alerts(attacker: Attacker) -> bytes:
    close_notify = b"\x01\x00" if attacker.random.random() < 0.5 else b"\x02\x28"
    return b"\x15\xfe\xfd" + bytes(2) + os.urandom(6) + b"\x00\x02" + close_notify


@kind("peer: DTLS handshakes")
def _peer_handshakes(attacker: Attacker) -> bytes:
    return b"\x16\xfe\xff" + bytes(8) + b"\x00\x80" + attacker.random.choice([b"\x01", b"\x02"]) + os.urandom(127)


# --- media ------------------------------------------------------------------------------------------------------------


def rtp_header(attacker: Attacker, **changes: int) -> bytes:
    """A header that goes on where the peer's packets are."""
    first, second, number, timestamp, ssrc = struct.unpack_from("!BBHII", attacker.latest(is_rtp))
    found = {"first": first, "second": second, "number": number + attacker.random.randrange(1, 400), "ssrc": ssrc}
    found |= changes
    return struct.pack("!BBHII", found["first"], found["second"], found["number"] & 0xFFFF, timestamp, found["ssrc"])


@kind("media: RTP of another SSRC", media=True)
def _media_ssrc(attacker: Attacker) -> bytes:
    return rtp_header(attacker, ssrc=attacker.random.getrandbits(32)) + os.urandom(96)


@kind("media: RTP of the right SSRC, noise", media=True)
def _media_noise(attacker: Attacker) -> bytes:
    return rtp_header(attacker) + os.urandom(attacker.random.choice([0, 1, 15, 16, 17, 96, 1400]))


@kind("media: RTP of the right SSRC, another key", media=True)
def _media_key(attacker: Attacker) -> bytes:
    header = rtp_header(attacker)
    protected = OutgoingSrtp(bytes(44), int.from_bytes(header[8:12], "big")).protect_rtp(header + bytes(80))
    assert isinstance(protected, bytes)
    return protected


@kind("media: RTP altered in one bit", media=True)
def _media_altered(attacker: Attacker) -> bytes:
    packet = bytearray(attacker.seen[-1] if is_rtp(attacker.seen[-1]) else attacker.latest(is_rtp))
    at = attacker.random.randrange(12, len(packet))
    packet[at] ^= 1 << attacker.random.randrange(8)
    return bytes(packet)


@kind("media: RTP of another payload type", media=True)
def _media_payload_type(attacker: Attacker) -> bytes:
    return rtp_header(attacker, second=attacker.random.choice([0, 96, 110, 112, 127])) + os.urandom(96)


@kind("media: RTP with padding, extensions, sources, of another version", media=True)
def _media_header(attacker: Attacker) -> bytes:
    return rtp_header(attacker, first=attacker.random.choice([0x81, 0x8F, 0x90, 0xA0, 0xBF])) + os.urandom(96)


@kind("media: RTP over 1500 bytes", media=True)
def _media_long(attacker: Attacker) -> bytes:
    return rtp_header(attacker) + os.urandom(1600)


@kind("media: real RTP again", media=True)
def _media_replayed(attacker: Attacker) -> bytes:
    return attacker.latest(is_rtp)


@kind("media: RTCP BYE in clear", media=True)
def _media_bye(attacker: Attacker) -> bytes:
    return b"\x81\xcb\x00\x01" + attacker.latest(is_rtp)[8:12] + bytes(20)


@kind("media: RTCP BYE under another key", media=True)
def _media_bye_key(attacker: Attacker) -> bytes:
    ssrc = attacker.latest(is_rtp)[8:12]
    protected = OutgoingSrtp(bytes(44), int.from_bytes(ssrc, "big")).protect_rtcp(b"\x81\xcb\x00\x01" + ssrc)
    assert isinstance(protected, bytes)
    return protected


@kind("media: real RTCP again", media=True)
def _media_rtcp_replayed(attacker: Attacker) -> bytes:
    return attacker.latest(is_rtcp)
