"""Session descriptions for tests, of the kind that browsers and aiortc make, and their lines by sort."""

from __future__ import annotations

SESSION = bytes(range(16))
HEX = ":".join(["AB"] * 32)
OTHER_HEX = ":".join(["AC"] * 32)
_HEAD = ["v=0", "o=- 77 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1 2", "a=msid-semantic: WMS *"]
_ADDRESSES = [
    "c=IN IP4 198.51.100.7",
    "a=rtcp:50000 IN IP4 198.51.100.7",
    "a=candidate:1 1 udp 16777215 198.51.100.7 50000 typ relay raddr 0.0.0.0 rport 0",
]
AUDIO = ["a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1", "a=rtpmap:0 PCMU/8000"]
VIDEO = ["a=rtpmap:97 VP8/90000", "a=rtcp-fb:97 nack pli", "a=rtpmap:98 rtx/90000", "a=fmtp:98 apt=97"]
DATA = ["a=sctp-port:5000", "a=max-message-size:262144"]


def _section(start: str, mid: int, setup: str, hexadecimal: str, media: list[str]) -> list[str]:
    return [
        start,
        *_ADDRESSES,
        "a=end-of-candidates",
        "a=ice-ufrag:Jw9k",
        "a=ice-pwd:jTx1tvm5/8Lwc71MjzFmOvbB",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {hexadecimal}",
        f"a=setup:{setup}",
        f"a=mid:{mid}",
        *(["a=sendrecv", "a=rtcp-mux"] if mid < 2 else []),
        *media,
    ]


def lines_of(setup: str, hexadecimal: str) -> list[str]:
    """A description of sound, picture and data."""
    return [
        *_HEAD,
        *_section("m=audio 50000 UDP/TLS/RTP/SAVPF 111 0", 0, setup, hexadecimal, AUDIO),
        *_section("m=video 9 UDP/TLS/RTP/SAVPF 97 98", 1, setup, hexadecimal, VIDEO),
        *_section("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", 2, setup, hexadecimal, DATA),
    ]


def text(lines: list[str], end: str = "\r\n") -> str:
    return "".join(line + end for line in lines)


OFFER_LINES = lines_of("actpass", HEX)
ANSWER_LINES = lines_of("active", OTHER_HEX)
OFFER, ANSWER = text(OFFER_LINES), text(ANSWER_LINES)


def is_address(line: str) -> bool:
    """Whether a line says where, which no record covers."""
    return line.startswith(("c=", "a=rtcp:", "a=candidate:", "a=end-of-candidates"))
