"""The description record: one for each description, and whatever else comes with it is refused."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from relaycall.call.description import (
    DescriptionRecord,
    Format,
    Section,
    check_description,
    decode_description,
    describe_answer,
    describe_offer,
    encode_description,
    offer_hash,
)
from relaycall.errors import SdpRefused
from relaycall.sdp import MAX_LINES, MAX_SIZE
from tests.call.descriptions import (
    ANSWER,
    ANSWER_LINES,
    HEX,
    OFFER,
    OFFER_LINES,
    OTHER_HEX,
    SESSION,
    is_address,
    text,
)

RECORD = describe_offer(OFFER, SESSION)
ANSWERED = describe_answer(ANSWER, RECORD)


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in OFFER
    return OFFER.replace(old, new, count)


def refusal(sdp: str, record: DescriptionRecord = RECORD) -> str:
    with pytest.raises(SdpRefused) as caught:
        check_description(record, sdp, "offer")
    return caught.value.sentence


# --- what is described ------------------------------------------------------------------------------------------------


def test_what_a_record_holds() -> None:
    assert (RECORD.type, RECORD.session, RECORD.offer) == ("offer", SESSION, b"")
    assert (RECORD.fingerprint, RECORD.setup) == (b"\xab" * 32, "actpass")
    assert (RECORD.ufrag, RECORD.pwd) == ("Jw9k", "jTx1tvm5/8Lwc71MjzFmOvbB")
    assert RECORD.sections == (
        Section("audio", "0", "sendrecv", (Format(111, "opus", 48000, 2), Format(0, "PCMU", 8000, 1)), True),
        Section("video", "1", "sendrecv", (Format(97, "VP8", 90000, 1), Format(98, "rtx", 90000, 1)), True),
        Section("application", "2", "", (), False),
    )
    assert (ANSWERED.type, ANSWERED.session, ANSWERED.offer) == ("answer", SESSION, offer_hash(RECORD))
    assert repr(RECORD) == "<DescriptionRecord of an offer with 3 sections>"


def test_it_comes_back_as_it_was() -> None:
    for record in (RECORD, ANSWERED):
        assert decode_description(encode_description(record)) == record
    check_description(RECORD, OFFER, "offer")
    check_description(ANSWERED, ANSWER, "answer", RECORD)


def moved(line: str, to: int) -> str:
    """The first line of this text, put somewhere else in its section."""
    rest = list(OFFER_LINES)
    rest.remove(line)
    return text([*rest[:to], line, *rest[to:]])


CANDIDATE = next(line for line in OFFER_LINES if line.startswith("a=candidate"))
SHARED = [line for line in OFFER_LINES[:20] if line.startswith(("a=finger", "a=setup", "a=ice-ufrag", "a=ice-pwd"))]
AS_GOOD = {
    "LF": text(OFFER_LINES, "\n"),
    "no last line end": OFFER.rstrip("\r\n"),
    "another candidate": changed(CANDIDATE, CANDIDATE.replace("50000", "50001")),
    "a candidate more": changed(CANDIDATE, f"{CANDIDATE}\r\n{CANDIDATE.replace('50000', '50001')}"),
    "no candidates": text([line for line in OFFER_LINES if not is_address(line)]),
    "another c=": changed("c=IN IP4 198.51.100.7", "c=IN IP4 0.0.0.0"),
    "another port": changed("m=audio 50000", "m=audio 9"),
    "small hexadecimal digits": changed(HEX, HEX.lower(), 3),
    "sha-256 in capitals": changed("sha-256", "SHA-256", 3),
    "a typed line elsewhere in its section": moved("a=mid:0", 8),
    "what is shared told once, above all": text(
        [*OFFER_LINES[:4], *SHARED, *(line for line in OFFER_LINES[4:] if line not in SHARED)]
    ),
}


@pytest.mark.parametrize("sdp", AS_GOOD.values(), ids=AS_GOOD)
def test_what_may_differ(sdp: str) -> None:
    assert sdp != OFFER
    check_description(RECORD, sdp, "offer")


# --- what differs -----------------------------------------------------------------------------------------------------

VIDEO_LINE = "m=video 9 UDP/TLS/RTP/SAVPF 97 98"
TWICE = f"a=fingerprint:sha-256 {HEX}"
DIFFERENT = {
    "fingerprint": (changed(HEX, OTHER_HEX, 3), "certificate fingerprint is not the signed"),
    "one fingerprint": (changed(HEX, OTHER_HEX), "certificate fingerprint is missing, or not the same"),
    "second fingerprint": (changed(TWICE, f"{TWICE}\r\na=fingerprint:sha-256 {OTHER_HEX}"), "not the same"),
    "second hash": (changed(TWICE, f"{TWICE}\r\na=fingerprint:sha-1 {HEX[:59]}"), "not the same"),
    "fingerprint above all": (changed("t=0 0", f"t=0 0\r\na=fingerprint:sha-256 {OTHER_HEX}"), "not the same"),
    "no fingerprint in one": (changed(f"{TWICE}\r\n", ""), "fingerprint is missing"),
    "no fingerprint": (changed(f"{TWICE}\r\n", "", 3), "fingerprint is missing"),
    "sha-1": (changed(f"sha-256 {HEX}", f"sha-1 {HEX[:59]}", 3), "not SHA-256"),
    "short sha-256": (changed(HEX, HEX[:59], 3), "not SHA-256"),
    "role": (changed("setup:actpass", "setup:active", 3), "DTLS role is not the signed"),
    "one role": (changed("setup:actpass", "setup:active"), "DTLS role is missing, or not the same"),
    "second role": (changed("a=setup:actpass", "a=setup:actpass\r\na=setup:active"), "DTLS role"),
    "role above all": (changed("t=0 0", "t=0 0\r\na=setup:passive"), "DTLS role"),
    "odd role": (changed("setup:actpass", "setup:holdconn", 3), "a record cannot"),
    "ufrag": (changed("Jw9k", "Jw9l", 3), "ICE user name is not the signed"),
    "one ufrag": (changed("Jw9k", "Jw9l"), "ICE user name is missing, or not the same"),
    "pwd": (changed("jTx1", "jTx2", 3), "ICE password is not the signed"),
    "one pwd": (changed("jTx1", "jTx2"), "ICE password is missing, or not the same"),
    "a section less": (text(OFFER_LINES[: OFFER_LINES.index(VIDEO_LINE)]), "number of"),
    "a section more": (
        text(
            [*OFFER_LINES, *(line.replace("mid:0", "mid:3") for line in OFFER_LINES[6 : OFFER_LINES.index(VIDEO_LINE)])]
        ),
        "number of media sections",
    ),
    "no section": (text(OFFER_LINES[:6]), "missing"),
    "kind": (changed("m=video", "m=audio"), "kind of media section 2"),
    "mid": (changed("a=mid:1", "a=mid:7"), "mid of media section 2"),
    "same mid": (changed("a=mid:1", "a=mid:0"), "same mid"),
    "second mid": (changed("a=mid:1", "a=mid:1\r\na=mid:7"), "exactly one mid"),
    "no mid": (changed("a=mid:1\r\n", ""), "exactly one mid"),
    "narrower": (changed("a=sendrecv", "a=recvonly"), "direction of media section 1"),
    "second direction": (changed("a=sendrecv", "a=sendrecv\r\na=inactive"), "direction"),
    "no direction": (changed("a=sendrecv\r\n", ""), "direction"),
    "rtcp-mux": (changed("a=rtcp-mux\r\n", ""), "rtcp-mux of media section 1"),
    "codec": (changed("opus/48000/2", "opux/48000/2"), "list of codecs of media section 1"),
    "clock rate": (changed("PCMU/8000", "PCMU/16000"), "list of codecs"),
    "channels": (changed("opus/48000/2", "opus/48000"), "list of codecs"),
    "a codec less": (changed("SAVPF 97 98", "SAVPF 97").replace("a=rtpmap:98 rtx/90000\r\n", ""), "list of codecs"),
    "a codec more": (
        changed("SAVPF 97 98", "SAVPF 97 98 99").replace("rtx/90000", "rtx/90000\r\na=rtpmap:99 VP9/90000"),
        "list of codecs of media section 2",
    ),
    "a codec that is not announced": (changed("rtx/90000", "rtx/90000\r\na=rtpmap:99 VP9/90000"), "one by one"),
    "one that is not explained": (changed("SAVPF 97 98", "SAVPF 97 98 99"), "one by one"),
    "one explained twice": (changed("rtx/90000", "rtx/90000\r\na=rtpmap:98 VP9/90000"), "one by one"),
    "one announced twice": (
        changed("SAVPF 97 98", "SAVPF 97 98 98").replace("rtx/90000", "rtx/90000\r\na=rtpmap:98 rtx/90000"),
        "twice",
    ),
    "explained in another way": (changed("a=rtpmap:98 rtx", "a=rtpmap:098 rtx"), "one by one"),
    "no DTLS": (changed("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "not one over DTLS"),
    "no DTLS for data": (changed("UDP/DTLS/SCTP", "UDP/TLS/RTP/SAVPF"), "not one over DTLS"),
    "refused section": (changed("m=video 9", "m=video 0"), "other lines"),
    "m= line": (changed("m=video 9", "m=text 9"), "malformed"),
    "codec parameter": (changed("useinbandfec=1", "usedtx=1"), "other lines"),
    "a direction of data channels": (changed("a=mid:2", "a=mid:2\r\na=sendrecv"), "direction of media section 3"),
    "a codec for data channels": (changed("a=mid:2", "a=mid:2\r\na=rtpmap:97 VP8/90000"), "one by one"),
    "nearly a candidate": (changed("a=mid:2", "a=mid:2\r\na=candidate-x"), "other lines"),
    "nearly an end of candidates": (changed("a=mid:2", "a=mid:2\r\na=end-of-candidates:1"), "other lines"),
    "how loud it is": (
        changed("a=rtcp-mux", "a=rtcp-mux\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
        "other lines",
    ),
    "bundle": (changed("BUNDLE 0 1 2", "BUNDLE 2 1 0"), "other lines"),
    "version": (changed("o=- 77 2", "o=- 77 3"), "other lines"),
    "data channels": (changed("sctp-port:5000", "sctp-port:5001"), "other lines"),
    "order": (changed("\r\n".join(OFFER_LINES[2:4]), "\r\n".join(OFFER_LINES[3:1:-1])), "other lines"),
    "a space at the end": (changed("a=sctp-port:5000", "a=sctp-port:5000 "), "other lines"),
    "a line in another section": (
        changed("a=fmtp:98 apt=97\r\n", "") + "a=fmtp:98 apt=97\r\n",
        "other lines",
    ),
    "a line end that only some know": (changed("s=-\r\n", "s=-\u2028a=x\r\n"), "printable ASCII"),
}


@pytest.mark.parametrize(("sdp", "part"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_named(sdp: str, part: str) -> None:
    shown = refusal(sdp)
    assert part in shown
    for value in (HEX, "Jw9", "jTx", "opu", "VP", "7", "AC:"):
        assert value not in shown


def test_swapped_sections() -> None:
    starts = [index for index, line in enumerate(OFFER_LINES) if line.startswith("m=")]
    head, audio, video = (OFFER_LINES[a:b] for a, b in zip([0, *starts], starts, strict=False))
    assert "media section 1" in refusal(text([*head, *video, *audio, *OFFER_LINES[starts[2] :]]))


@pytest.mark.parametrize("index", [index for index, line in enumerate(OFFER_LINES) if not is_address(line)])
def test_no_line_can_be_left_out_or_replaced(index: int) -> None:
    for instead in ([], ["a=x"], [OFFER_LINES[index] + "x"]):
        refusal(text([*OFFER_LINES[:index], *instead, *OFFER_LINES[index + 1 :]]))


def understood(sdp: str) -> list[str]:
    """What aiortc makes of a description, but for addresses."""
    parsed = SessionDescription.parse(sdp)
    found = [str(parsed.group), str(parsed.msid_semantic), str(parsed.origin), str(parsed.name), str(parsed.version)]
    for media in parsed.media:
        assert media.dtls
        prints = {(entry.algorithm.lower(), entry.value.lower()) for entry in media.dtls.fingerprints}
        media.dtls.fingerprints = []
        media.ice_candidates, media.ice_candidates_complete, media.host = [], False, None
        media.port, media.rtcp_port, media.rtcp_host = min(media.port, 1), None, None
        found += [f"{prints} {media.rtcp_mux} {media.ice.iceLite}", str(media)]
    return found


_MORE = [
    *("a=mid:0", "a=sendonly", "a=sendrecv:x", "a=rtcp-mux:", "a=setup", "a=ice-lite", "a=ice-ufrag:else", "b=AS:1"),
    *("a=rtpmap:97 VP9/90000", "a=rtpmap:5 DVI4/8000", "a=fmtp:97 x=1", "a=extmap:1 urn:x", "a=rtcp-fb:* nack"),
    *("a=candidate-x", "a=end-of-candidates:", "a=ssrc:1 cname:x", "a=Fingerprint:x", "m=audio 9 X 0"),
    f"a=fingerprint:SHA-256 {OTHER_HEX}",
]
edits = st.tuples(
    st.integers(0, len(OFFER_LINES) - 1),
    st.integers(0, 2),
    st.one_of(
        st.sampled_from([*OFFER_LINES, *ANSWER_LINES, *_MORE]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(lambda more: "a=" + more),
    ),
)


@given(st.lists(edits, min_size=1, max_size=2))
@settings(max_examples=300)
def test_what_passes_means_the_same_to_aiortc(made: list[tuple[int, int, str]]) -> None:
    lines = list(OFFER_LINES)
    for place, taken, line in made:
        lines[place : place + taken] = [line]
    try:
        check_description(RECORD, text(lines), "offer")
    except SdpRefused:
        return
    if not any(is_address(line) for _, _, line in made):  # there nonsense may stand, which check_relay_only refuses
        assert understood(text(lines)) == understood(OFFER)


@given(st.integers(0, len(OFFER) - 1), st.characters(min_codepoint=32, max_codepoint=126))
@settings(max_examples=500)
def test_no_character_of_any_importance_can_be_another(place: int, character: str) -> None:
    sdp = OFFER[:place] + character + OFFER[place + 1 :]
    line = OFFER[: place + 1].splitlines()[-1]
    after = sdp[: place + 1].splitlines()[-1]
    same = sdp.upper() == OFFER.upper() and line.startswith("a=fingerprint:")
    port = line.startswith("m=audio 5") and re.fullmatch("m=audio [0-9]{0,5}", after)
    whole = line + OFFER[place + 1 :].partition("\r\n")[0]
    if sdp == OFFER or is_address(whole) or same or port:
        return
    refusal(sdp)


@given(st.text())
def test_any_text_is_described_or_refused(anything: str) -> None:
    for sdp in (anything, OFFER + anything, OFFER[: len(anything)] + anything):
        with contextlib.suppress(SdpRefused):
            describe_offer(sdp, SESSION)


@pytest.mark.parametrize(
    "line", ["a=x", "a=rtpmap:1 x/1", "a=mid:" + "0" * 200, "a=fingerprint:x", "a=rtpmap:" + "1" * 99]
)
def test_time_is_bounded(line: str) -> None:
    count = min(MAX_LINES - len(OFFER_LINES), (MAX_SIZE - len(OFFER)) // (len(line) + 2))
    bad = OFFER + f"{line}\r\n" * count
    start = time.process_time()
    with contextlib.suppress(SdpRefused):
        check_description(RECORD, bad, "offer")
    assert time.process_time() - start < 0.1


# --- answers ----------------------------------------------------------------------------------------------------------


def answering(change: Callable[[str], str], offer: str = OFFER) -> DescriptionRecord:
    return describe_answer(change(ANSWER), describe_offer(offer, SESSION))


def test_an_answer_may_be_narrower() -> None:
    answering(lambda sdp: sdp.replace("a=sendrecv", "a=inactive"))
    answering(lambda sdp: sdp.replace("sendrecv", "recvonly"), OFFER.replace("a=sendrecv", "a=sendonly"))
    answering(lambda sdp: sdp, OFFER.replace("a=mid:2", "a=mid:2\r\na=sendrecv"))  # as Firefox offers data channels
    answering(lambda sdp: sdp.replace("97 98", "97").replace("a=rtpmap:98 rtx/90000\r\n", "").replace("VP8", "vp8"))


BEYOND: dict[str, tuple[Callable[[str], str], str, str]] = {
    "actpass": (lambda sdp: sdp.replace("active", "actpass"), OFFER, "DTLS role is no answer"),
    "both active": (lambda sdp: sdp, OFFER.replace("actpass", "active"), "DTLS role is no answer"),
    "own certificate": (lambda sdp: sdp.replace(OTHER_HEX, HEX), OFFER, "is that of the offer"),
    "other mid": (lambda sdp: sdp.replace("mid:2", "mid:3"), OFFER, "not those of the offer"),
    "a section less": (lambda sdp: sdp[: sdp.index("m=application")], OFFER, "not those of the offer"),
    "sends unasked": (lambda sdp: sdp, OFFER.replace("sendrecv", "sendonly"), "beyond"),
    "receives unasked": (lambda sdp: sdp, OFFER.replace("sendrecv", "recvonly"), "beyond"),
    "codec": (lambda sdp: sdp.replace("VP8", "VP9"), OFFER, "not offered"),
    "clock rate": (lambda sdp: sdp.replace("PCMU/8000", "PCMU/16000"), OFFER, "not offered"),
}


@pytest.mark.parametrize(("change", "offer", "why"), BEYOND.values(), ids=BEYOND)
def test_an_answer_that_goes_beyond_the_offer(change: Callable[[str], str], offer: str, why: str) -> None:
    with pytest.raises(SdpRefused, match=why):
        answering(change, offer)


def test_an_answer_is_to_one_offer() -> None:
    again = describe_offer(OFFER, bytes(16))
    other = describe_offer(OFFER.replace("useinbandfec=1", "useinbandfec=0"), SESSION)
    for offer in (None, again, other):
        with pytest.raises(SdpRefused, match="not of an answer to this offer"):
            check_description(ANSWERED, ANSWER, "answer", offer)


def test_the_type_is_the_signed_one() -> None:
    for record, sdp, sdp_type in [
        (RECORD, OFFER, "answer"),
        (ANSWERED, ANSWER, "offer"),
        (ANSWERED, ANSWER, "pranswer"),
    ]:
        with pytest.raises(SdpRefused, match="type"):
            check_description(record, sdp, sdp_type, RECORD)
    with pytest.raises(SdpRefused, match="other lines"):  # an offer that names an offer
        check_description(structs.replace(RECORD, offer=bytes(32)), OFFER, "offer")
