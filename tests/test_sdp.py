"""Session descriptions: what is refused, and what aiortc then finds in those that are not."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from relaycall import sdp
from relaycall.errors import ConfigError, RecordRefused, SdpRefused
from relaycall.sdp import check_candidate, check_relay_only, incoming, outgoing

RELAY, RELAY6, OTHER = "8.8.4.4", "2001:4860:4860::8844", "9.9.9.9"
CANDIDATE = f"a=candidate:1 1 udp 16777215 {RELAY} 50000 typ relay raddr 0.0.0.0 rport 0 generation 0 network-id 1"
CANDIDATE6 = f"a=candidate:2 1 UDP 16777214 {RELAY6} 50001 typ relay raddr :: rport 9"
FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["AB"] * 32)
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
SESSION = [
    "v=0",
    "o=- 4004212033 2 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    "a=msid-semantic: WMS *",
    FINGERPRINT,
    "a=ice-options:trickle",
]
AUDIO = [
    "m=audio 50000 UDP/TLS/RTP/SAVPF 96 9 0 8",
    f"c=IN IP4 {RELAY}",
    f"a=rtcp:50000 IN IP4 {RELAY}",
    CANDIDATE,
    CANDIDATE6,
    "a=end-of-candidates",
    "a=ice-ufrag:Jw9k",
    "a=ice-pwd:jTx1tvm5/8Lwc71MjzFmOvbB",
    "a=setup:active",
    "a=mid:0",
    f"a=extmap:1 {MID}",
    "a=extmap:2 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "a=sendrecv",
    "a=rtcp-mux",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 minptime=10;useinbandfec=1",
    "a=ssrc:1740796556 cname:06d06dee-4ff2-4a0b-9f6e-1f2f8d3c1c55",
    "a=msid:a46f19be-4ff2-4a0b-9f6e-1f2f8d3c1c55 18bb35eb-4ff2-4a0b-9f6e-1f2f8d3c1c55",
]
VIDEO = [
    "m=video 9 UDP/TLS/RTP/SAVPF 97",
    "c=IN IP4 0.0.0.0",
    "a=rtcp:9 IN IP4 0.0.0.0",
    "a=ice-ufrag:Jw9k",
    "a=ice-pwd:jTx1tvm5/8Lwc71MjzFmOvbB",
    "a=setup:active",
    "a=mid:1",
    f"a=extmap:1 {MID}",
    f"a=extmap:3/sendrecv {sdp.ABS_SEND_TIME}",
    "a=sendrecv",
    "a=rtcp-mux",
    "b=AS:2000",
    "a=rtpmap:97 VP8/90000",
]
LINES = SESSION + AUDIO + VIDEO


def text(lines: list[str], end: str = "\r\n") -> str:
    return "".join(line + end for line in lines)


GOOD = text(LINES)


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


# --- checking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        text(LINES, "\n"),
        GOOD.rstrip("\r\n"),
        changed("127.0.0.1", "0.0.0.0"),
        changed("o=-", "o=mozilla...THIS_IS_SDPARTA-99.0"),
        changed(f"c=IN IP4 {RELAY}", f"c=IN IP6 {RELAY6}"),
        changed(" raddr 0.0.0.0 rport 0", ""),
        changed(f"a=rtcp:50000 IN IP4 {RELAY}", "a=rtcp:50000"),
    ],
)
def test_a_good_one_is_let_through(good: str) -> None:
    check_relay_only(good)
    check_relay_only(good, [RELAY, RELAY6.upper()])


SMUGGLED = f"a=candidate:3 1 udp 1 {OTHER} 50000 typ host"
REFUSED = {
    "nothing": "",
    "no version": text(LINES[1:]),
    "host": changed("typ relay", "typ host"),
    "reflexive": changed("typ relay", "typ srflx"),
    "tcp": changed("1 udp", "1 tcp"),
    "component 3": changed("1 1 udp", "1 3 udp"),
    "mDNS": changed(f"{RELAY} 50000 typ", "0a1b2c3d-0000-4000-8000-000000000000.local 50000 typ"),
    "a name": changed(f"{RELAY} 50000 typ", "relay.example.org 50000 typ"),
    "private": changed(f"{RELAY} 50000 typ", "10.1.2.3 50000 typ"),
    "loopback": changed(f"{RELAY} 50000 typ", "127.0.0.1 50000 typ"),
    "low port": changed("50000 typ", "53 typ"),
    "no port": changed("50000 typ", "65536 typ"),
    "raddr": changed("raddr 0.0.0.0", f"raddr {OTHER}"),
    "a second raddr": changed("rport 0", f"rport 0 raddr {OTHER}"),
    "RADDR": changed("raddr 0.0.0.0", f"RADDR {OTHER}"),
    "raddr of another name": changed("generation 0", f"via {OTHER}"),
    "raddr name": changed("raddr 0.0.0.0", "raddr laptop.example.org"),
    "RADDR name": changed("raddr 0.0.0.0", "RADDR laptop.example.org"),
    "relay's own raddr": changed("raddr 0.0.0.0", f"raddr {RELAY}"),
    "two spaces": changed("typ relay", "typ  relay"),
    "typ elsewhere": changed("typ relay", "typ2 relay"),
    "capital": changed("a=candidate:1", "a=Candidate:1"),
    "capital, one more": GOOD + "a=Candidate:9 1 udp 1 laptop.example.org 50000 typ host\r\n",
    "no colon": changed("a=candidate:1", "a=candidate 1"),
    "c= line": changed(f"c=IN IP4 {RELAY}", f"c=IN IP4 {OTHER}"),
    "c= name": changed(f"c=IN IP4 {RELAY}", "c=IN IP4 host.example.org"),
    "c= with ttl": changed(f"c=IN IP4 {RELAY}", f"c=IN IP4 {RELAY}/127"),
    "c= loopback": changed(f"c=IN IP4 {RELAY}", "c=IN IP4 127.0.0.1"),
    "c= number": changed(f"c=IN IP4 {RELAY}", "c=IN IP4 134744072"),
    "rtcp": changed(f"a=rtcp:50000 IN IP4 {RELAY}", f"a=rtcp:50000 IN IP4 {OTHER}"),
    "rtcp name": changed(f"a=rtcp:50000 IN IP4 {RELAY}", "a=rtcp:50000 IN IP4 host.example.org"),
    "RTCP": changed(f"a=rtcp:50000 IN IP4 {RELAY}", f"a=RTCP:50000 IN IP4 {OTHER}"),
    "RTCP name": changed(f"a=rtcp:50000 IN IP4 {RELAY}", "a=RTCP:50000 IN IP4 host.example.org"),
    "o=": changed("IN IP4 127.0.0.1", f"IN IP4 {OTHER}"),
    "o= relay": changed("IN IP4 127.0.0.1", f"IN IP4 {RELAY}"),
    "o= name": changed("IN IP4 127.0.0.1", "IN IP4 laptop.example.org"),
    "o= user": changed("o=-", f"o=me@{OTHER}"),
    "s=": changed("s=-", f"s=call from {OTHER}"),
    "u=": changed("s=-", f"s=-\r\nu=http://{OTHER}/"),
    "i=": changed("s=-", "s=-\r\ni=hello"),
    "cname": changed("cname:06d06dee", f"cname:me@{OTHER}-06d06dee"),
    "IPv6 in a cname": changed("cname:06d06dee", "cname:2001:4860:4860::8888"),
    "long IPv6 in a cname": changed("cname:06d06dee", "cname:2001:4860:4860:0:0:0:0:8888 "),
    "trailing dot": changed("a=sendrecv", f"a=x:{OTHER}."),
    "glued": changed("a=sendrecv", f"a=x:v{OTHER}v"),
    "unknown attribute": changed("a=sendrecv", f"a=source-filter: incl IN IP4 * {OTHER}"),
    "bandwidth": changed("b=AS:2000", f"b=X-{OTHER}:2000"),
    "fingerprint": changed(FINGERPRINT, "a=fingerprint:sha-256 2001:4860:4860:0:0:0:0:8888"),
    "short fingerprint": changed(FINGERPRINT, "a=fingerprint:sha-256 AB:CD"),
    "no such machine": changed("a=sendrecv", "a=x:MyLaptop.LOCAL"),
    "short ufrag": changed("Jw9k", "Jw9"),
    "long ufrag": changed("Jw9k", "J" * 257),
    "short pwd": changed("jTx1tvm5/8Lwc71MjzFmOvbB", "short"),
    "a blank line": changed("s=-\r\n", "s=-\r\n\r\n"),
    "a space before": changed("a=sendrecv", " a=sendrecv"),
    "not a line": changed("a=sendrecv", "hello"),
    "a tab": changed("typ relay", "typ\trelay"),
    "NUL": changed("a=sendrecv", "a=send\0recv"),
    "not ASCII": changed("s=-", "s=é"),
    "size": GOOD + "a=x:" + "x" * sdp.MAX_SIZE,
    "lines": GOOD + "a=x\r\n" * sdp.MAX_LINES,
    "sections": GOOD + text(VIDEO[:2]) * sdp.MAX_SECTIONS,
    "candidates": GOOD + text([CANDIDATE]) * sdp.MAX_CANDIDATE_LINES,
    "formats": GOOD + "a=rtpmap:97 VP8/90000\r\n" * sdp.MAX_FORMATS,
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED.keys())
def test_refused(bad: str) -> None:
    with pytest.raises(SdpRefused) as caught:
        check_relay_only(bad)
    assert not re.search(r"[0-9]+\.[0-9]+\.|::|example|Laptop", str(caught.value))


SPLITS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\n\r", "\r\r\n"]


@pytest.mark.parametrize("split", SPLITS, ids=ascii)
def test_what_only_some_take_for_the_end_of_a_line(split: str) -> None:
    bad = changed("s=-\r\n", f"s=-{split}{SMUGGLED}\r\n")
    assert SMUGGLED in bad.splitlines()  # as aiortc would see it
    with pytest.raises(SdpRefused):
        check_relay_only(bad)


@pytest.mark.parametrize("bad", [None, 5, GOOD.encode(), [GOOD]], ids=["None", "number", "bytes", "list"])
def test_what_is_no_text(bad: object) -> None:
    with pytest.raises(SdpRefused):
        check_relay_only(bad)  # type: ignore[arg-type]


def test_only_known_relays() -> None:
    check_relay_only(GOOD, {RELAY, "2001:4860:4860:0::8844"})
    with pytest.raises(SdpRefused, match="known relays"):
        check_relay_only(GOOD, {RELAY})
    with pytest.raises(SdpRefused, match="known relays"):
        check_relay_only(GOOD, [])
    with pytest.raises(ConfigError) as caught:
        check_relay_only(GOOD, ["relay.example.org"])
    assert "example" not in str(caught.value)


def test_laboratory() -> None:
    private = GOOD.replace(RELAY, "127.0.0.1")
    with pytest.raises(RecordRefused):
        check_relay_only(private)
    check_relay_only(private, laboratory=True)
    check_relay_only(private, ["127.0.0.1", RELAY6], laboratory=True)


def test_one_candidate() -> None:
    assert check_candidate(CANDIDATE[2:]) == RELAY
    for bad in (SMUGGLED[2:], "", f"{CANDIDATE[2:]}\r\n{SMUGGLED}"):
        with pytest.raises(SdpRefused):
            check_candidate(bad)


@pytest.mark.parametrize("part", ["1", "1.", ".", "1:", ":", "a", "a1", ".local", " a", "AA:", "raddr 0.0.0.0 "])
@pytest.mark.parametrize("before", ["a=", "a=candidate:", "a=fingerprint:x ", "c=IN IP4 ", "o=", CANDIDATE + " "])
def test_time_is_bounded(part: str, before: str) -> None:
    """No line makes it look twice at what it saw: a slow pattern took 0.9 seconds here."""
    bad = "v=0\r\n" + before + part * ((sdp.MAX_SIZE - 200) // len(part))
    start = time.process_time()
    with contextlib.suppress(SdpRefused):
        check_relay_only(bad)
    assert time.process_time() - start < 0.1


def test_what_is_let_through_is_parsed_quickly() -> None:
    """aiortc multiplies formats by lines of feedback."""
    formats = ["a=rtpmap:97 VP8/90000"] * (sdp.MAX_FORMATS - 1)
    feedback = ["a=rtcp-fb:* nack"] * (sdp.MAX_LINES - len(LINES) - len(formats))
    bad = text(LINES + formats + feedback)
    check_relay_only(bad)
    start = time.process_time()
    SessionDescription.parse(bad)
    assert time.process_time() - start < 0.5


@given(st.text())
def test_any_text(anything: str) -> None:
    for given_text in (anything, GOOD + anything, GOOD[: len(anything)] + anything):
        with contextlib.suppress(SdpRefused):
            check_relay_only(given_text)
            incoming(given_text)


_WORDS = [
    "a=candidate:",
    "c=IN IP4 ",
    "1 1 udp 1 ",
    OTHER,
    RELAY,
    " 50000 typ ",
    "relay",
    "host",
    " raddr ",
    "a=rtcp:9 ",
]
_WORDS += ["m=audio 9 UDP/TLS/RTP/SAVPF 0", "IN IP6 ", "a=x:", " ", "::1", CANDIDATE, SMUGGLED, "\r\n", "\n", *SPLITS]


@given(st.lists(st.sampled_from(_WORDS), max_size=12), st.integers(0, len(LINES)))
def test_aiortc_finds_nothing_else_in_what_is_let_through(words: list[str], place: int) -> None:
    mixed = text(LINES[:place]) + "".join(words) + "\r\n" + text(LINES[place:])
    try:
        check_relay_only(mixed)
        parsed = SessionDescription.parse(mixed)
    except Exception:  # refused, or nonsense that aiortc's parser fails on
        return
    for media in parsed.media:
        assert all(found.type == "relay" and found.ip in (RELAY, RELAY6) for found in media.ice_candidates)
        assert all(found.relatedAddress in (None, "0.0.0.0", "::") for found in media.ice_candidates)
        assert {media.host, media.rtcp_host} <= {None, "0.0.0.0", "::", RELAY, RELAY6}
    assert OTHER not in mixed


# --- rewriting --------------------------------------------------------------------------------------------------------


def test_outgoing() -> None:
    ours = outgoing(changed("a=extmap:1", f"a=extmap:3 {sdp.ABS_SEND_TIME}\r\na=extmap:1"), 77, 3)
    removed = set(GOOD.split("\r\n")) - set(ours.split("\r\n"))
    assert removed == {LINES[1], AUDIO[10], AUDIO[11], "a=end-of-candidates"}  # AUDIO[10] is in VIDEO too
    assert ours.split("\r\n")[1] == "o=- 77 3 IN IP4 0.0.0.0"
    assert ours.count("a=extmap") == ours.count(sdp.ABS_SEND_TIME) == 1
    check_relay_only(ours)


def test_incoming_gives_every_section_the_candidates_of_the_first() -> None:
    theirs = SessionDescription.parse(incoming(GOOD).sdp)
    check_relay_only(incoming(GOOD).sdp)
    for media in theirs.media:
        assert [found.ip for found in media.ice_candidates] == [RELAY, RELAY6]
        assert not media.ice_candidates_complete
        assert (media.ice.usernameFragment, media.ice.password) == ("Jw9k", "jTx1tvm5/8Lwc71MjzFmOvbB")
    assert [[found.id for found in media.rtp.headerExtensions] for media in theirs.media] == [[], [3]]


def test_incoming_uses_the_first_of_the_bundle() -> None:
    other = [f"a=candidate:9 1 udp 5 {OTHER} 40000 typ relay", "a=ice-ufrag:else", "a=ice-pwd:" + "e" * 22]
    video = [line for line in VIDEO if not line.startswith("a=ice-")] + other
    for bundle, address, ufrag in [("0 1", RELAY, "Jw9k"), ("1 0", OTHER, "else")]:
        session = [line.replace("BUNDLE 0 1", f"BUNDLE {bundle}") for line in SESSION]
        found = incoming(text(session + AUDIO + video))
        assert (found.mid, found.place) == (bundle[0], int(bundle[0]))
        theirs = SessionDescription.parse(found.sdp)
        assert [media.ice_candidates[0].ip for media in theirs.media] == [address] * 2
        assert [media.ice.usernameFragment for media in theirs.media] == [ufrag] * 2


def test_incoming_takes_the_four_relays_that_the_peer_prefers() -> None:
    many = [f"a=candidate:1 1 udp {n} 8.8.4.{n} 50000 typ relay" for n in range(1, 9)]
    many += [many[0], "a=candidate:1 2 udp 99 8.8.4.99 50000 typ relay"]
    audio = [line for line in AUDIO if "candidate" not in line and RELAY not in line] + many
    theirs = SessionDescription.parse(incoming(text(SESSION + audio + VIDEO)).sdp)
    for media in theirs.media:
        assert [found.ip for found in media.ice_candidates] == [f"8.8.4.{n}" for n in (8, 7, 6, 5)]


WITHOUT = [line for line in LINES if "candidate" not in line and RELAY not in line]
UNUSABLE = {
    "no fingerprint": (changed(FINGERPRINT, "a=x"), "fingerprint"),
    "not bundled": (changed("BUNDLE 0 1", "BUNDLE 0"), "bundled"),
    "no bundle": (changed("a=group:BUNDLE 0 1", "a=x"), "bundled"),
    "no sections": (text(SESSION), "bundled"),
    "no role": (GOOD.replace("a=setup", "a=x"), "role"),
    "hold": (changed("a=setup:active", "a=setup:holdconn"), "role"),
    "no ufrag": (GOOD.replace("a=ice-ufrag", "a=x"), "credentials"),
    "no pwd": (GOOD.replace("a=ice-pwd", "a=x"), "credentials"),
    "no candidates": (text(WITHOUT).replace("a=ice-options:trickle", "a=ice-options:ice2"), "no candidates"),
    "and none to come": (text([*WITHOUT, "a=end-of-candidates"]), "no candidates"),
}


@pytest.mark.parametrize(("bad", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_incoming_refuses(bad: str, why: str) -> None:
    check_relay_only(bad)
    with pytest.raises(SdpRefused, match=why):
        incoming(bad)


def test_candidates_may_follow() -> None:
    assert "candidate" not in incoming(text(WITHOUT)).sdp
