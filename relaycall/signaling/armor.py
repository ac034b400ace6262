"""Bytes as text that people carry: through chats, e-mail and files, or as a QR code.

    RELAYCALL-CARD:1:AADWQZLMNRXQ...:RELAYCALL

How it works. Between the two marks stands base32 (RFC 4648) of length 2 | payload | checksum 4. It takes 1.6 characters
a byte, base64 1.33: but all of it is in the alphabet for which QR codes have a mode of their own, so the code is the
smaller one; case does not matter; and no chat takes an underscore for italics. So there is one text for all ways.

Whatever people and programs put around the text or into it is passed over: wrapped lines, "> ", spaces, asterisks,
hyphens at the end of a line, typographic dashes, other text before and after. What is lost or changed is told by kind:
a mark that is missing shows which end was cut off, the length shows that the middle was, and the checksum shows the
rest: CRC-32 finds each change within 32 bits, which are six neighbouring characters, and others but for one in 2**32.
It protects against accidents alone; who sent the bytes, and that nobody forged them, is for the payload to prove.
"""

from __future__ import annotations

import base64
import itertools
import re
import struct
import zlib
from typing import Literal

from relaycall.errors import (
    TextAltered,
    TextOfOtherKind,
    TextOfOtherVersion,
    TextRefused,
    TextTruncated,
)

Kind = Literal["card", "envelope"]

VERSION = 1
MAX_PAYLOAD = 4608  # bytes; an envelope and its header are the longest
MAX_TEXT = 65536  # characters that are looked at: a text within an e-mail with all that it quotes
MAX_TEXTS = 64  # of ours that are looked at

_NAMES = {"card": "a contact card", "envelope": "an envelope of a call"}
_END = ":RELAYCALL"
_START = re.compile(r"RELAYCALL-([A-Z]{1,16}):([0-9]{1,4}):")
_BROKEN_START = re.compile(r"RELAYCALL-[A-Z]{0,16}(:[0-9]{0,4})?\Z")
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d"
_WIDE_COLON = "\uff1a"
_PASSED_OVER = bytes(set(range(128)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-"))
_LENGTH_CHARACTERS = 4  # that hold the length


def armor(kind: Kind, payload: bytes) -> str:
    """The text for these bytes: one line, without spaces, of capitals, digits, hyphens and colons.

    Args:
        kind: what the bytes are.
        payload: at most 4608 bytes.

    Raises:
        ValueError: more bytes.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("the payload is too long for a text")
    sized = struct.pack("!H", len(payload)) + payload
    body = _encoded(sized + _checksum(kind, sized))
    return f"RELAYCALL-{kind.upper()}:{VERSION}:{body}{_END}"


def dearmor(kind: Kind, text: str) -> bytes:
    """The bytes in what somebody pasted, which must hold one text of this kind; the same one twice does no harm.

    Raises:
        TextTruncated: an end is missing, or the middle.
        TextAltered: something in it was changed or added.
        TextOfOtherKind: it is for another purpose.
        TextOfOtherVersion: this version does not know it.
        TextRefused: it is no text of ours, or several different ones, or has more than 65536 characters.
    """
    found = dearmor_all(kind, text)
    payloads = list(dict.fromkeys(one for one in found if isinstance(one, bytes)))
    if len(payloads) > 1:
        raise TextRefused("it holds several texts of relaycall, where one is expected")
    if payloads:
        return payloads[0]
    for one in found:
        if isinstance(one, TextRefused):
            raise one
    raise TextRefused


def dearmor_all(kind: Kind, text: str) -> list[bytes | TextRefused]:
    """What is in each text of ours that somebody pasted, in their order: the bytes, or why they were refused.

    Raises:
        TextRefused: more than 65536 characters, or more than 64 texts of ours.
    """
    if len(text) > MAX_TEXT:
        raise TextRefused(f"it has more than {MAX_TEXT} characters")
    for dash in _DASHES:
        text = text.replace(dash, "-")
    plain = text.replace(_WIDE_COLON, ":").encode("ascii", "ignore").upper().translate(None, _PASSED_OVER).decode()
    starts = list(itertools.islice(_START.finditer(plain), MAX_TEXTS + 1))
    if len(starts) > MAX_TEXTS:
        raise TextRefused(f"it holds more than {MAX_TEXTS} texts of relaycall")
    if not starts:
        if _END in plain:
            return [TextTruncated("beginning")]
        return [TextTruncated("end")] if _BROKEN_START.search(plain) else []
    ends = [*(start.start() for start in starts[1:]), len(plain)]
    return [_read(kind, start, plain[start.end() : end]) for start, end in zip(starts, ends, strict=True)]


def _read(kind: Kind, start: re.Match[str], rest: str) -> bytes | TextRefused:
    """What follows one starting mark, up to the next one."""
    found = start[1].lower()
    if int(start[2]) != VERSION:
        return TextOfOtherVersion()
    if found != kind:
        return TextOfOtherKind(_NAMES.get(found, "something else"), _NAMES[kind])
    body, end, _ = rest.partition(_END)
    if not end:
        return TextTruncated("end")
    body = body.replace("-", "")
    length = int.from_bytes(_decoded(body[:_LENGTH_CHARACTERS] + "AAAA")[:2], "big")
    missing = -(-(2 + length + 4) * 8 // 5) - len(body)
    if missing > 0:
        return TextTruncated("middle")
    data = b"" if missing or length > MAX_PAYLOAD else _decoded(body)
    sized, checksum = data[:-4], data[-4:]
    if not data or _encoded(data) != body or checksum != _checksum(kind, sized):
        return TextAltered()
    return sized[2:]


def _checksum(kind: Kind, sized: bytes) -> bytes:
    return zlib.crc32(kind.encode() + b"\0" + sized).to_bytes(4, "big")


def _encoded(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def _decoded(body: str) -> bytes:
    """Nothing, if it is not base32."""
    try:
        return base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        return b""
