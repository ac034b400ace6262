"""Compound RTCP packets, taken apart (RFC 3550, section 6.1)."""

from __future__ import annotations

from collections.abc import Iterator

from relaycall.errors import MalformedMessage

RTCP_KINDS = range(192, 224)  # second byte of RTCP (RFC 5761, section 4); audio payload types never look like it
SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, GOODBYE = 200, 201, 202, 203


def split_compound(compound: bytes) -> Iterator[tuple[int, bytes]]:
    """Each packet of a compound RTCP packet with its type. Raises MalformedMessage."""
    position = 0
    while position < len(compound):
        if len(compound) < position + 4 or compound[position] >> 6 != 2:
            raise MalformedMessage("An RTCP packet has no valid header.")
        end = position + 4 + 4 * int.from_bytes(compound[position + 2 : position + 4], "big")
        if end > len(compound):
            raise MalformedMessage("An RTCP packet is cut short.")
        yield compound[position + 1], compound[position:end]
        position = end
