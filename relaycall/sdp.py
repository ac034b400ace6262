"""Session descriptions (SDP, RFC 8866) that show no address but a relay's.

aiortc splits lines wherever `str.splitlines` does (U+2028, NEL, VT, FF and a lone CR among them), so a filter that
knows only CRLF lets candidates through. Here a description is printable ASCII in lines that end in CRLF or LF, and
small; whatever looks like an address and is not a relay candidate's is refused, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from relaycall.errors import ConfigError, RecordRefused, SdpRefused
from relaycall.ice.candidate import MAX_CANDIDATES, accept_address
from relaycall.stun.address import Address

# A browser's description of sound, picture and data has about 10 KiB in 250 lines.
MAX_SIZE = 32 * 1024  # characters
MAX_LINES = 1000
MAX_SECTIONS = 16
MAX_FORMATS = 64  # of a section; aiortc multiplies them by the lines of feedback
MAX_CANDIDATE_LINES = 64

_TEXT = re.compile(r"(?:[abcmostv]=[ -~]*\r?\n)*(?:[abcmostv]=[ -~]*)?")
_CANDIDATE = re.compile(
    r"a=candidate:(?P<foundation>[!-~]{1,64}) (?P<component>[0-9]{1,3}) (?P<transport>[A-Za-z]{1,8}) "
    r"(?P<priority>[0-9]{1,10}) (?P<host>[0-9A-Za-z.:-]{1,64}) (?P<port>[0-9]{1,5}) typ (?P<type>[a-z]{1,8})"
    r"(?P<more>(?: [!-~]+ [!-~]+)*)"
)
_ORIGIN = re.compile(r"o=([!-~]+) [0-9]{1,20} [0-9]{1,20} IN IP[46] ([!-~]+)")
_CONNECTION = re.compile(r"c=IN IP[46] ([!-~]+)")
_RTCP = re.compile(r"a=rtcp:[0-9]{1,5}(?: IN IP[46] ([!-~]+))?")
_FINGERPRINT = re.compile(r"a=fingerprint:[A-Za-z0-9-]{1,16} (?:[0-9A-Fa-f]{2}:){15,63}[0-9A-Fa-f]{2}")
_CREDENTIALS = {"ice-ufrag": re.compile(r"[!-~]{4,256}"), "ice-pwd": re.compile(r"[!-~]{22,256}")}
_DOTTED = re.compile(r"[0-9.]+")
_COLONS = re.compile(r"[0-9A-Fa-f:.]+")
_LOCAL_NAME = re.compile(r"\.local\b", re.IGNORECASE)

_ROLES = {"actpass", "active", "passive"}
_SHA256 = "a=fingerprint:sha-256 "
_NOWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what stands where no address is told
_NEUTRAL_ORIGINS = _NOWHERE | {"127.0.0.1", "::1"}  # Chromium's
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"


def check_relay_only(sdp: str, relays_addresses: Collection[str] | None = None, laboratory: bool = False) -> None:
    """Refuse a session description that shows any address but a relay's.

    It has to be checked before anything parses it. The time it takes grows with its length, which is limited.

    Args:
        sdp: the description.
        relays_addresses: IP literals; candidates have to be among them. By default every candidate of type relay
            with a public address is taken for one.
        laboratory: allow loopback and private addresses. For tests on one machine.

    Raises:
        SdpRefused: a candidate of another type, an address elsewhere, text that parsers read differently, or too much
            of something. It quotes nothing.
        ConfigError: `relays_addresses` holds something else than IP literals.
    """
    allowed = None if relays_addresses is None else {_relay_address(text) for text in relays_addresses}
    lines = strict_lines(sdp)
    candidates = [line for line in lines if line.lower().startswith("a=candidate")]
    if len(candidates) > MAX_CANDIDATE_LINES:
        raise SdpRefused(f"it has more than {MAX_CANDIDATE_LINES} candidates")
    known = set(_NOWHERE)
    for line in candidates:
        known.add(check_candidate(line[2:], allowed, laboratory))
    for line in lines:
        if not line.startswith("a=candidate"):
            _check_line(line, known)


def check_candidate(text: str, allowed: Collection[str] | None = None, laboratory: bool = False) -> str:
    """Check one candidate, `candidate:...` as browsers hand it over.

    Args:
        text, laboratory: as above.
        allowed: addresses it may have, in canonical form; None for any.

    Returns:
        Its address as it stands there.

    Raises:
        SdpRefused: it is not a relay's, or tells another address too.
    """
    found = _CANDIDATE.fullmatch(f"a={text}")
    if not found or int(found["component"]) not in (1, 2):
        raise SdpRefused("a candidate is malformed")
    if found["type"] != "relay" or found["transport"].lower() != "udp":
        raise SdpRefused("a candidate is not a relay's")
    try:
        address = accept_address(found["host"], int(found["port"]), laboratory=laboratory)
    except RecordRefused as error:
        raise SdpRefused(error.args[0]) from None
    if allowed is not None and address.host not in allowed:
        raise SdpRefused("a candidate is not one of the known relays")
    words = found["more"].split()
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name.lower() == "raddr" and value not in _NOWHERE:
            raise SdpRefused("a candidate tells the address behind the relay")
    _check_text(found["foundation"] + found["more"], _NOWHERE)
    return found["host"]


def outgoing(sdp: str, session: int, version: int) -> str:
    """Our own description as it is to be sent.

    The o= line is aiortc's clock otherwise. Header extensions tell how loud sound is, and an end of candidates would
    keep later relays out. Of the certificate's fingerprints the one that all know stays (RFC 8122, section 5).

    Args:
        sdp: as aiortc makes it.
        session, version: for the o= line (RFC 8866, section 5.2).
    """
    origin = f"o=- {session} {version} IN IP4 0.0.0.0"
    lines = [origin if line.startswith("o=") else line for line in _without_extras(sdp.splitlines())]
    return _text([line for line in lines if not line.startswith("a=fingerprint:") or line.startswith(_SHA256)])


class Incoming(NamedTuple):
    """The peer's description, and the section of its bundle that its candidates belong to: mid and place."""

    sdp: str
    mid: str
    place: int


def incoming(sdp: str) -> Incoming:
    """The peer's description, checked before, as aiortc under MAX_BUNDLE understands it.

    aiortc takes the candidates of the last section, where browsers put them into the first: each section gets those
    of the first one of the bundle, of the four relays that the peer prefers. And where the peer's order of sections is
    not the order in which tracks and channels were added here, bundling them makes aiortc stop the transport that they
    share already: the group is left out.

    Raises:
        SdpRefused: it has no ICE credentials, no fingerprint, no DTLS role, sections that are not bundled, or neither
            candidates nor the promise to send some later (RFC 8840).
    """
    lines = list(_without_extras(strict_lines(sdp)))
    session, *sections = split_sections(lines)
    if not any(line.startswith("a=fingerprint:") for line in lines):
        raise SdpRefused("it has no certificate fingerprint")
    bundle = next((line.split()[1:] for line in session if line.startswith("a=group:BUNDLE")), [])
    mids = [_value(section, "mid") for section in sections]
    if not sections or (len(sections) > 1 and not set(mids) <= set(bundle)):
        raise SdpRefused("its media sections are not bundled")
    if any((_value(section, "setup") or _value(session, "setup")) not in _ROLES for section in sections):
        raise SdpRefused("it has no DTLS role")
    index = mids.index(bundle[0]) if bundle and bundle[0] in mids else 0
    first = sections[index]
    source = first if _candidates(first) else next(filter(_candidates, sections), first)
    credentials = [f"a={name}:{_value(source, name) or _value(session, name)}" for name in _CREDENTIALS]
    if "a=ice-ufrag:" in credentials or "a=ice-pwd:" in credentials:
        raise SdpRefused("it has no ICE credentials")
    candidates = _preferred(_candidates(source))
    trickling = "a=end-of-candidates" not in sdp and any(
        "trickle" in line.split(":", 1)[1].split() for line in lines if line.startswith("a=ice-options:")
    )
    if not candidates and not trickling:
        raise SdpRefused("it has no candidates")
    kept = [line for line in session if not _is_ice(line) and not line.startswith("a=group:BUNDLE")]
    for section in sections:
        kept += [line for line in section if not _is_ice(line)] + credentials + candidates
    return Incoming(_text(kept), mids[index], index)


# --- checking ---------------------------------------------------------------------------------------------------------


def strict_lines(sdp: object) -> list[str]:
    """The lines of a description, on which all parsers agree.

    Raises:
        SdpRefused: it is no text, made of anything but SDP's lines in printable ASCII, or too large.
    """
    if not isinstance(sdp, str):  # signaling may bring anything
        raise SdpRefused("it is no text")
    if len(sdp) > MAX_SIZE:
        raise SdpRefused(f"it is longer than {MAX_SIZE} characters")
    if not _TEXT.fullmatch(sdp) or not sdp.startswith("v=0"):
        raise SdpRefused("it is not made of SDP's lines in printable ASCII")
    lines = sdp.splitlines()
    if len(lines) > MAX_LINES:
        raise SdpRefused(f"it has more than {MAX_LINES} lines")
    _, *sections = split_sections(lines)
    if len(sections) > MAX_SECTIONS:
        raise SdpRefused(f"it has more than {MAX_SECTIONS} media sections")
    if any(sum(line.startswith("a=rtpmap") for line in section) > MAX_FORMATS for section in sections):
        raise SdpRefused(f"a media section has more than {MAX_FORMATS} formats")
    return lines


def _relay_address(text: str) -> str:
    try:
        return Address.parse(text, 0).host
    except ValueError:
        raise ConfigError("A relay's address is not an IP address.") from None


def _check_line(line: str, known: Collection[str]) -> None:
    """Every line but a candidate."""
    if line.startswith("o="):
        found = _ORIGIN.fullmatch(line)
        if not found or found[2] not in _NEUTRAL_ORIGINS:
            raise SdpRefused("its o= line is malformed or tells an address")
        _check_text(found[1], known)
    elif line.startswith("c="):
        found = _CONNECTION.fullmatch(line)
        if not found or found[1] not in known:
            raise SdpRefused("a c= line is malformed or tells another address than a relay's")
    elif line.lower().startswith("a=rtcp:"):
        found = _RTCP.fullmatch(line)
        if not found or (found[1] is not None and found[1] not in known):
            raise SdpRefused("an rtcp attribute is malformed or tells another address than a relay's")
    elif line.lower().startswith("a=fingerprint:"):
        if not _FINGERPRINT.fullmatch(line):  # hexadecimal with colons, as an IPv6 address is
            raise SdpRefused("a certificate fingerprint is malformed")
    else:
        name, _, value = line[2:].partition(":")
        if line.startswith("a=") and name in _CREDENTIALS and not _CREDENTIALS[name].fullmatch(value):
            raise SdpRefused("its ICE credentials are malformed")
        _check_text(line, known)


def _check_text(text: str, known: Collection[str]) -> None:
    """Look for addresses where none belongs: names, labels, attributes that nobody knows."""
    if _LOCAL_NAME.search(text):
        raise SdpRefused("it names a machine (.local)")
    words = [word for word in _DOTTED.findall(text) if _looks_like_ipv4(word)]
    words += [word for word in _COLONS.findall(text) if _looks_like_ipv6(word)]
    if any(word not in known for word in words):
        raise SdpRefused("it tells an address where none belongs")


def _looks_like_ipv4(word: str) -> bool:
    return sum(1 for part in word.split(".") if part) >= 4


def _looks_like_ipv6(word: str) -> bool:
    return ("::" in word and word.strip(":.") != "") or word.count(":") >= 7


# --- rewriting --------------------------------------------------------------------------------------------------------


def _without_extras(lines: list[str]) -> Iterator[str]:
    """Without header extensions, except that video keeps the one its bandwidth estimate needs."""
    kind = ""
    for line in lines:
        if line.startswith("m="):
            kind = line[2:].split(" ", 1)[0]
        if line.startswith("a=end-of-candidates"):
            continue
        if line.startswith("a=extmap") and not (kind == "video" and line.split(" ")[1:2] == [ABS_SEND_TIME]):
            continue
        yield line


def split_sections(lines: list[str]) -> list[list[str]]:
    """The session's lines, then each media section's."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            found.append([])
        found[-1].append(line)
    return found


def _value(lines: list[str], name: str) -> str:
    return next((line.partition(":")[2] for line in lines if line.startswith(f"a={name}:")), "")


def _candidates(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("a=candidate:")]


def _preferred(candidates: list[str]) -> list[str]:
    """Those of the relays that the peer prefers, as many as a connection takes."""
    found = {(line.split()[4], line.split()[5]): line for line in candidates if line.split()[1] == "1"}
    return sorted(found.values(), key=lambda line: -int(line.split()[3]))[:MAX_CANDIDATES]


def _is_ice(line: str) -> bool:
    return line.startswith(("a=candidate:", "a=ice-ufrag:", "a=ice-pwd:"))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)
