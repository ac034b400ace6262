"""The description record: what a session description (SDP) has to say, signed. For peers that use DTLS. Without I/O.

A browser, or an app of its own over aiortc, believes the certificate fingerprint in the SDP it is given, and whoever
changes that on the way sits in the middle. So each side makes a record of its own SDP, which travels in an envelope
that is sealed to the other and signed; the other compares the SDP with it before anything else reads it.

    offer     record of the offer    session, 16 random bytes
    answer    record of the answer   the same session, and the hash of the offer's record

What decides who is talked to and how has an entry of its own, so that a refusal can name the part that differs: the
fingerprint, the DTLS role, the ICE credentials, and the media plan. All other lines are hashed, in their order. Left
out are the candidates and what repeats them: they come later too, are checked by themselves, and can lead to nobody
whose certificate is another.

The rules are stricter than SDP's. One fingerprint, role and set of credentials holds for the whole description, since
all of it is bundled; where two parsers might take different lines for the one that counts, it is refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relaycall.call.messages import Kind
from relaycall.errors import MessageRefused, SdpRefused
from relaycall.identity.keys import PublicIdentity
from relaycall.identity.sealer import Opened
from relaycall.sdp import MAX_FORMATS, MAX_SECTIONS, split_sections, strict_lines

MAX_RECORD = 1280  # bytes; an envelope that brings a prekey along has room for 1327 at least
SESSION_SIZE = 16  # bytes
HASH_SIZE = 32  # bytes

_OFFER = b"relaycall offered description 1\0"
_LINES = b"relaycall description lines 1\0"

_SECTION = re.compile(r"m=(audio|video|application) ([0-9]{1,5}) ([A-Z/]+) ([!-~]+(?: [!-~]+)*)")
_RTPMAP = re.compile(r"a=rtpmap:(0|[1-9][0-9]{0,2}) ([!-.0-~]+)/([0-9]{1,6})(?:/([0-9]))?")
_SHA256 = re.compile(r"sha-256 ((?:[0-9a-f]{2}:){31}[0-9a-f]{2})")
_MEDIA_PROFILES = {"UDP/TLS/RTP/SAVPF"}
_DATA_PROFILES = {"UDP/DTLS/SCTP", "DTLS/SCTP"}
_DIRECTIONS = {"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"}
_SENDS, _RECEIVES = {"", "sendrecv", "sendonly"}, {"", "sendrecv", "recvonly"}
_ANSWERS = {"actpass": {"active", "passive"}, "active": {"passive"}, "passive": {"active"}}
_SHARED = ("a=fingerprint:", "a=setup:", "a=ice-ufrag:", "a=ice-pwd:")
_ADDRESSES = ("a=candidate:", "c=", "a=rtcp:")

Visible = Annotated[str, Meta(pattern=r"^[!-~]+\Z")]
Hash = Annotated[bytes, Meta(min_length=HASH_SIZE, max_length=HASH_SIZE)]


class Format(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A payload type: its codec, clock rate in Hz, and channels, 1 where none are told."""

    payload_type: Annotated[int, Meta(ge=0, le=127)]
    codec: Annotated[Visible, Meta(max_length=32)]
    clock_rate: Annotated[int, Meta(ge=1, le=999_999)]
    channels: Annotated[int, Meta(ge=1, le=9)]


class Section(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A media section. That of data channels has no formats, and may tell no direction: it goes both ways then."""

    kind: Literal["audio", "video", "application"]
    mid: Annotated[Visible, Meta(max_length=64)]
    direction: Literal["", "sendrecv", "sendonly", "recvonly", "inactive"]
    formats: Annotated[tuple[Format, ...], Meta(max_length=MAX_FORMATS)]
    rtcp_mux: bool


class DescriptionRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one side's description has to say.

    Attributes:
        session: 16 random bytes that the offering side made.
        offer: the hash of the offer's record, 32 bytes, in that of an answer; else nothing.
        fingerprint: SHA-256 of the certificate, 32 bytes.
        setup: the DTLS role (RFC 8842).
        ufrag, pwd: ICE credentials (RFC 8839, section 5.4).
        sections: the media plan, in order.
        others: hash of the other lines, 32 bytes.
    """

    version: Literal[1]
    type: Literal["offer", "answer"]
    session: Annotated[bytes, Meta(min_length=SESSION_SIZE, max_length=SESSION_SIZE)]
    offer: Annotated[bytes, Meta(max_length=HASH_SIZE)]
    fingerprint: Hash
    setup: Literal["actpass", "active", "passive"]
    ufrag: Annotated[Visible, Meta(min_length=4, max_length=256)]
    pwd: Annotated[Visible, Meta(min_length=22, max_length=256)]
    sections: Annotated[tuple[Section, ...], Meta(min_length=1, max_length=MAX_SECTIONS)]
    others: Hash

    def __repr__(self) -> str:
        return f"<DescriptionRecord of an {self.type} with {len(self.sections)} sections>"


_decoder = msgspec.msgpack.Decoder(DescriptionRecord)


def describe_offer(sdp: str, session: bytes) -> DescriptionRecord:
    """The record of an offer.

    Args:
        sdp: the description.
        session: 16 fresh random bytes.

    Raises:
        SdpRefused: it breaks a rule, or holds more than a record can.
    """
    return _describe(sdp, "offer", session, b"")


def describe_answer(sdp: str, offer: DescriptionRecord) -> DescriptionRecord:
    """The record of the answer to an offer with this record.

    Raises:
        SdpRefused: as above; or it goes beyond the offer, with sections, codecs, directions or a DTLS role.
    """
    answer = _describe(sdp, "answer", offer.session, offer_hash(offer))
    _check_answers(answer, offer)
    return answer


def check_description(
    record: DescriptionRecord, sdp: str, sdp_type: str, offer: DescriptionRecord | None = None
) -> None:
    """Refuse a description that is not the one its peer has signed.

    Addresses are not looked at: `check_relay_only` does.

    Args:
        record: the signed one.
        sdp, sdp_type: the description, and what it is said to be: "offer" or "answer".
        offer: the record of the offer, of ours or that we were given, which an answer has to answer.

    Raises:
        SdpRefused: it differs, or breaks a rule. It names the part, and no value.
    """
    if sdp_type != record.type:
        raise SdpRefused("its signed record is not of this type of description")
    if record.type == "offer":
        expected = describe_offer(sdp, record.session)
    elif offer is None or (record.session, record.offer) != (offer.session, offer_hash(offer)):
        raise SdpRefused("its signed record is not of an answer to this offer")
    else:
        expected = describe_answer(sdp, offer)
    _compare(expected, record)


def offer_hash(record: DescriptionRecord) -> bytes:
    """What an answer names an offer by, 32 bytes."""
    return hashlib.sha256(_OFFER + encode_description(record)).digest()


def encode_description(record: DescriptionRecord) -> bytes:
    """The record as bytes, at most 1280; the same record gives the same bytes."""
    return msgspec.msgpack.encode(record)


def decode_description(data: bytes) -> DescriptionRecord:
    """Read the other side's record.

    Raises:
        SdpRefused: it is none.
    """
    record = _decode(data, "its signed record is not one of version 1")
    if encode_description(record) != data:
        raise SdpRefused("its signed record is not encoded as the rules say")
    return record


def read_description(opened: Opened, sender: PublicIdentity) -> DescriptionRecord:
    """The record in an envelope that was opened.

    Args:
        sender: whom we talk to.

    Raises:
        MessageRefused: the envelope is somebody else's, or holds something else.
        SdpRefused: it is no record.
    """
    if opened.sender != sender:
        raise MessageRefused("it is not from the other side of this call")
    if opened.kind != Kind.DESCRIPTION:
        raise MessageRefused("it holds no description record")
    return decode_description(opened.body)


# --- from text to record ----------------------------------------------------------------------------------------------


def _describe(sdp: str, sdp_type: str, session: bytes, offer: bytes) -> DescriptionRecord:
    head, *sections = split_sections(strict_lines(sdp))
    fingerprint = _SHA256.fullmatch(_shared("fingerprint", head, sections, "certificate fingerprint").lower())
    if not fingerprint:
        raise SdpRefused("its certificate fingerprint is not SHA-256")
    entries = [
        *(1, sdp_type, session, offer),
        bytes.fromhex(fingerprint[1].replace(":", "")),
        _shared("setup", head, sections, "DTLS role"),
        _shared("ice-ufrag", head, sections, "ICE user name"),
        _shared("ice-pwd", head, sections, "ICE password"),
        [_section(lines) for lines in sections],
        _hash_others(head, sections),
    ]
    record = _decode(msgspec.msgpack.encode(entries), "it holds something that a record cannot")
    if len({section.mid for section in record.sections}) != len(sections):
        raise SdpRefused("two of its media sections have the same mid")
    return record


def _shared(name: str, head: list[str], sections: list[list[str]], what: str) -> str:
    """The one value that an attribute has wherever it stands, which is in each section or above all."""
    above, *below = [_values(lines, name) for lines in (head, *sections)]
    found = {value for values in (above, *below) for value in values}
    if len(found) != 1 or not (above or all(below)):
        raise SdpRefused(f"its {what} is missing, or not the same everywhere")
    return found.pop()


def _section(lines: list[str]) -> list[object]:
    kind, _, profile, formats = _media_line(lines)
    if profile not in (_DATA_PROFILES if kind == "application" else _MEDIA_PROFILES):
        raise SdpRefused("a media section is not one over DTLS")
    mids = _values(lines, "mid")
    directions = [line.removeprefix("a=") for line in lines if line in _DIRECTIONS]
    if len(mids) != 1 or len(directions) > 1 or (not directions and kind != "application"):
        raise SdpRefused("a media section does not have exactly one mid and direction")
    found = _formats(lines, "" if kind == "application" else formats)
    return [kind, mids[0], *(directions or [""]), found, "a=rtcp-mux" in lines]


def _media_line(lines: list[str]) -> tuple[str, str, str, str]:
    """Kind, port, profile and formats."""
    found = _SECTION.fullmatch(lines[0])
    if not found:
        raise SdpRefused("a media section begins with a line that is malformed")
    return found[1], found[2], found[3], found[4]


def _formats(lines: list[str], announced: str) -> list[Format]:
    """The payload types: in the order of the m= line, and each explained once, in the same order."""
    found = [_RTPMAP.fullmatch(line) for line in lines if line.startswith("a=rtpmap")]
    explained = [match for match in found if match]
    if None in found or [match[1] for match in explained] != announced.split():
        raise SdpRefused("the payload types of a media section are not explained one by one")
    formats = [Format(int(match[1]), match[2], int(match[3]), int(match[4] or 1)) for match in explained]
    if len({entry.payload_type for entry in formats}) != len(formats):
        raise SdpRefused("a media section names a payload type twice")
    return formats


def _hash_others(head: list[str], sections: list[list[str]]) -> bytes:
    """Each line and a line feed, and one more after each section."""
    digest = hashlib.sha256(_LINES)
    for index, lines in enumerate((head, *sections)):
        kept = [_media_kept(line) for line in lines if not _is_told(line, within_section=index > 0)]
        digest.update("".join(f"{line}\n" for line in [*kept, ""]).encode("ascii"))
    return digest.digest()


def _media_kept(line: str) -> str:
    """A line as it is hashed: of the port of a section it tells whether it is 0, which refuses the section."""
    if not line.startswith("m="):
        return line
    kind, port, profile, formats = _media_line([line])
    return f"m={kind} {9 if int(port) else 0} {profile} {formats}"


def _is_told(line: str, *, within_section: bool) -> bool:
    """Whether a line is told by an entry of the record, or is about addresses."""
    if line.startswith((*_SHARED, *_ADDRESSES)) or line == "a=end-of-candidates":
        return True
    return within_section and (line in {*_DIRECTIONS, "a=rtcp-mux"} or line.startswith(("a=mid:", "a=rtpmap:")))


def _values(lines: list[str], name: str) -> list[str]:
    return [line.partition(":")[2] for line in lines if line.startswith(f"a={name}:")]


# --- comparing --------------------------------------------------------------------------------------------------------


def _check_answers(answer: DescriptionRecord, offer: DescriptionRecord) -> None:
    if answer.setup not in _ANSWERS[offer.setup]:
        raise SdpRefused("its DTLS role is no answer to the offer's")
    if answer.fingerprint == offer.fingerprint:
        raise SdpRefused("its certificate fingerprint is that of the offer")
    asked = [(section.kind, section.mid) for section in offer.sections]
    if [(section.kind, section.mid) for section in answer.sections] != asked:
        raise SdpRefused("its media sections are not those of the offer")
    for given, wanted in zip(answer.sections, offer.sections, strict=True):
        sends, receives = given.direction in _SENDS, given.direction in _RECEIVES
        if (sends and wanted.direction not in _RECEIVES) or (receives and wanted.direction not in _SENDS):
            raise SdpRefused("the direction of a media section goes beyond the offer")
        if not _codecs(given) <= _codecs(wanted):
            raise SdpRefused("a media section has a codec that was not offered")


def _codecs(section: Section) -> set[tuple[str, int, int]]:
    return {(entry.codec.lower(), entry.clock_rate, entry.channels) for entry in section.formats}


def _compare(found: DescriptionRecord, signed: DescriptionRecord) -> None:
    parts: dict[str, tuple[object, object]] = {
        "certificate fingerprint": (found.fingerprint, signed.fingerprint),
        "DTLS role": (found.setup, signed.setup),
        "ICE user name": (found.ufrag, signed.ufrag),
        "ICE password": (found.pwd, signed.pwd),
        "number of media sections": (len(found.sections), len(signed.sections)),
    }
    for place, (section, wanted) in enumerate(zip(found.sections, signed.sections, strict=False), 1):
        parts |= {
            f"kind of media section {place}": (section.kind, wanted.kind),
            f"mid of media section {place}": (section.mid, wanted.mid),
            f"direction of media section {place}": (section.direction, wanted.direction),
            f"list of codecs of media section {place}": (section.formats, wanted.formats),
            f"rtcp-mux of media section {place}": (section.rtcp_mux, wanted.rtcp_mux),
        }
    for name, (here, there) in parts.items():
        if here != there:
            raise SdpRefused(f"its {name} is not the signed one")
    if found != signed:
        raise SdpRefused("one of its other lines is not the signed one")


def _decode(data: bytes, otherwise: str) -> DescriptionRecord:
    if len(data) > MAX_RECORD:
        raise SdpRefused(f"its record is longer than {MAX_RECORD} bytes")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise SdpRefused(otherwise) from None
