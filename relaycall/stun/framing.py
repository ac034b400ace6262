"""ChannelData (RFC 8656 section 12.4) and the framing of TURN on a stream (section 12.5)."""

from __future__ import annotations

from relaycall.errors import MalformedMessage

CHANNEL_MIN = 0x4000
CHANNEL_MAX = 0x4FFF
_COOKIE = b"\x21\x12\xa4\x42"


def channel_data(channel: int, payload: bytes, *, padded: bool = False) -> bytes:
    """One ChannelData message; `padded` to four bytes for a stream. Raises ValueError over 65535 bytes."""
    size = len(payload)
    if size > 65535:
        raise ValueError("the payload is too long")
    head = (channel << 16 | size).to_bytes(4, "big")
    return head + payload + bytes(-size % 4) if padded else head + payload


def parse_channel_data(data: bytes) -> tuple[int, bytes]:
    """The channel and the payload of a ChannelData message; padding is allowed. Raises MalformedMessage."""
    if len(data) < 4 or not 0x40 <= data[0] <= 0x4F:
        raise MalformedMessage("These bytes are not ChannelData.")
    size = data[2] << 8 | data[3]
    if len(data) < 4 + size:
        raise MalformedMessage("ChannelData is cut short.")
    return data[0] << 8 | data[1], data[4 : 4 + size]


class StreamFramer:
    """Cuts a byte stream into STUN messages and ChannelData. It buffers at most one message.

    Bytes that can start neither leave no way to find the next boundary: `feed` raises MalformedMessage, and the
    connection has to be given up.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the messages they complete, padding removed."""
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        at = 0
        while len(buffer) - at >= 4:
            kind = buffer[at] >> 6
            size = buffer[at + 2] << 8 | buffer[at + 3]
            if kind == 0:
                total = used = 20 + size
                if size % 4 or not _COOKIE.startswith(buffer[at + 4 : at + 8]):
                    raise MalformedMessage("The stream is not TURN.")
            elif 0x40 <= buffer[at] <= 0x4F:
                used = 4 + size
                total = used + (-size % 4)
            else:
                raise MalformedMessage("The stream is not TURN.")
            if len(buffer) - at < total:
                break
            messages.append(bytes(buffer[at : at + used]))
            at += total
        del buffer[:at]
        return messages
