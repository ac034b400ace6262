"""Opus by libopus itself (RFC 6716): mono, 48 kHz, 20 ms.

FFmpeg's wrapper can neither conceal a lost packet nor encode as quickly. The library is the copy that PyAV brings
along; without one, the system's.

In-band FEC (RFC 6716, section 2.1.7): a packet can hold a copy of the 20 ms before it, at a lower rate and within the
same size. Opus makes copies of voices only, where it hears one, from 24 kb/s on.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from relaycall.errors import MediaError

SAMPLE_RATE = 48000  # hertz
FRAME_SAMPLES = 960  # 20 ms
FRAME_BYTES = 2 * FRAME_SAMPLES  # signed 16-bit, mono
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE
MAX_PAYLOAD = 1500  # bytes; what is longer is not decoded

# opus_defines.h
_OK = 0
_SET_BITRATE, _SET_VBR, _SET_COMPLEXITY = 4002, 4006, 4010
_SET_INBAND_FEC, _SET_PACKET_LOSS_PERC, _SET_SIGNAL = 4012, 4014, 4024
_AUTO, _VOICE = -1000, 3001
_APPLICATIONS = {"voip": 2048, "audio": 2049}


class _EncoderState(ctypes.Structure):
    """OpusEncoder, which only libopus looks into."""


class _DecoderState(ctypes.Structure):
    """OpusDecoder, likewise."""


_Samples = ctypes.c_int16 * FRAME_SAMPLES

# The first byte of a packet (RFC 6716, section 3.1): from 16 * 8 on it is CELT alone, which knows no copies.
_MUSIC = 0x80
_VOICE_20_MS = frozenset({1, 5, 9, 13, 15})


class Encoder:
    """Makes packets that all have the same size, until it is told another.

    Args:
        application: "voip" or "audio".
        complexity: 0 to 10.
        payload_bytes: the size of every packet; 80 is 32 kb/s.

    Raises:
        MediaError: there is no libopus, or it refuses the settings.
    """

    def __init__(self, application: str, complexity: int, payload_bytes: int) -> None:
        library = _library()
        error = ctypes.c_int()
        state = library.opus_encoder_create(SAMPLE_RATE, 1, _APPLICATIONS[application], error)
        if error.value != _OK:
            raise MediaError("libopus made no encoder.", "Check that there is memory left.")
        self.close = weakref.finalize(self, library.opus_encoder_destroy, state)  # also when it is collected
        self._state = state
        self._encode = library.opus_encode
        self._set({_SET_VBR: 0, _SET_COMPLEXITY: complexity})
        self.configure(payload_bytes)

    def configure(self, payload_bytes: int, *, loss_percent: int = 0, voice: bool = False) -> None:
        """Make other packets from the next one on. The sound goes on without a click, which a new encoder would make.

        Args:
            payload_bytes: the size of every packet; 80 is 32 kb/s.
            loss_percent: how much is expected to be lost, 0 to 100. Above 0 packets hold copies, where there is room.
            voice: whatever the sound is, code it as a voice.

        Raises:
            MediaError: libopus refuses the settings, or the encoder is closed.
        """
        self._set(
            {
                _SET_BITRATE: payload_bytes * 400,
                _SET_INBAND_FEC: int(loss_percent > 0),
                _SET_PACKET_LOSS_PERC: loss_percent,
                _SET_SIGNAL: _VOICE if voice else _AUTO,
            }
        )
        self._payload = ctypes.create_string_buffer(payload_bytes)

    def _set(self, settings: dict[int, int]) -> None:
        control = _library().opus_encoder_ctl
        for request, value in settings.items():
            if not self.close.alive or control(self._state, request, ctypes.c_int32(value)) != _OK:
                raise MediaError("libopus refused a setting of the encoder.", "Update libopus.")

    def encode(self, pcm: bytes) -> bytes:
        """One packet.

        Args:
            pcm: 960 signed 16-bit samples in native byte order.

        Raises:
            MediaError: another number of bytes, or the encoder is closed.
        """
        if len(pcm) != FRAME_BYTES or not self.close.alive:
            raise MediaError(f"Opus encodes {FRAME_BYTES} bytes at a time, until it is closed.", "Give as many.")
        payload = self._payload
        size = self._encode(self._state, pcm, FRAME_SAMPLES, payload, len(payload))
        if size != len(payload):
            raise MediaError("libopus made a packet of another size.", "Update libopus.")
        return payload.raw


class Decoder:
    """Decodes packets of 20 ms, and makes up for lost ones. MediaError if there is no libopus."""

    def __init__(self) -> None:
        library = _library()
        error = ctypes.c_int()
        state = library.opus_decoder_create(SAMPLE_RATE, 1, error)
        if error.value != _OK:
            raise MediaError("libopus made no decoder.", "Check that there is memory left.")
        self.close = weakref.finalize(self, library.opus_decoder_destroy, state)  # also when it is collected
        self._state = state
        self._decode = library.opus_decode
        self._pcm = _Samples()
        self._can_restore = True

    def decode(self, payload: bytes) -> bytes | None:
        """960 samples, 16-bit. None if the payload, of any length, is not a packet of 20 ms."""
        if not 0 < len(payload) <= MAX_PAYLOAD:  # without any, libopus conceals
            return None
        self._can_restore = payload[0] < _MUSIC  # after one that is not a voice, libopus does not look at copies
        return self._run(payload)

    def restore(self, following: bytes) -> bytes | None:
        """960 samples of a packet that is missing, from the one after it. None if that holds no copy of it."""
        if not self._can_restore or not has_copy(following):
            return None
        return self._run(following, 1)

    def conceal(self) -> bytes:
        """960 samples in place of a packet that is missing, from what was decoded before."""
        return self._run(None) or bytes(FRAME_BYTES)

    def _run(self, payload: bytes | None, copy: int = 0) -> bytes | None:
        if not self.close.alive:
            return None
        # Room for 20 ms: libopus refuses a longer packet before it writes anything.
        samples = self._decode(self._state, payload, len(payload or b""), self._pcm, FRAME_SAMPLES, copy)
        return bytes(self._pcm) if samples == FRAME_SAMPLES else None


def has_copy(payload: bytes) -> bool:
    """Whether a packet of 20 ms holds a copy of the 20 ms before it (RFC 6716, sections 3.1, 3.2.5 and 4.2.4).

    The flag is the second bit of the frame, and with stereo the fourth, too: voice activity comes before each.
    """
    if not 1 < len(payload) <= MAX_PAYLOAD or payload[0] >> 3 not in _VOICE_20_MS:
        return False
    frame, end = 1, len(payload)
    frames = payload[0] & 3
    if frames == 3:  # any number of frames, and padding
        count, frame = payload[1], 2
        if count & 0x3F != 1:
            return False
        while count & 0x40:  # more of the padding's length follows
            if frame >= end:
                return False
            length = payload[frame]
            frame += 1
            end -= min(length, 254)
            if length < 255:
                break
    elif frames:
        return False
    return frame < end and payload[frame] & (0x50 if payload[0] & 4 else 0x40) != 0


@functools.cache
def _library() -> Any:
    for name in _places():
        try:
            library = ctypes.CDLL(name)
            _declare(library)
        except (OSError, AttributeError):  # not there, for another machine, or not libopus
            continue
        return library
    raise MediaError("libopus was not found.", "Install PyAV from a wheel, which brings it, or the package libopus0.")


def _places() -> Iterator[str]:
    """Where libopus may be: with PyAV on Linux and Windows, on macOS, with the system."""
    package = Path(av.__file__).parent
    for folder in (package.parent / "av.libs", package / ".dylibs"):
        yield from sorted(str(path) for path in folder.glob("*opus*") if "opusfile" not in path.name)
    yield "libopus.so.0"
    if name := ctypes.util.find_library("opus"):
        yield name


def _declare(library: Any) -> None:
    encoder, decoder = ctypes.POINTER(_EncoderState), ctypes.POINTER(_DecoderState)
    integer, error = ctypes.c_int32, ctypes.POINTER(ctypes.c_int)
    samples = ctypes.POINTER(_Samples)
    signatures = {
        "opus_encoder_create": (encoder, [integer, ctypes.c_int, ctypes.c_int, error]),
        "opus_encoder_ctl": (ctypes.c_int, [encoder, ctypes.c_int]),  # variadic: the value comes as a c_int32
        "opus_encode": (integer, [encoder, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, integer]),
        "opus_encoder_destroy": (None, [encoder]),
        "opus_decoder_create": (decoder, [integer, ctypes.c_int, error]),
        "opus_decode": (ctypes.c_int, [decoder, ctypes.c_char_p, integer, samples, ctypes.c_int, ctypes.c_int]),
        "opus_decoder_destroy": (None, [decoder]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
