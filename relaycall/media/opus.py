"""Opus by libopus itself (RFC 6716): mono, 48 kHz, 20 ms.

FFmpeg's wrapper can neither conceal a lost packet nor encode as quickly. The library is the copy that PyAV brings
along; without one, the system's.
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
_APPLICATIONS = {"voip": 2048, "audio": 2049}


class _EncoderState(ctypes.Structure):
    """OpusEncoder, which only libopus looks into."""


class _DecoderState(ctypes.Structure):
    """OpusDecoder, likewise."""


_Samples = ctypes.c_int16 * FRAME_SAMPLES


class Encoder:
    """Makes packets that all have the same size.

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
        self._payload = ctypes.create_string_buffer(payload_bytes)
        settings = {_SET_BITRATE: payload_bytes * 400, _SET_VBR: 0, _SET_COMPLEXITY: complexity}
        for request, value in settings.items():
            if library.opus_encoder_ctl(state, request, ctypes.c_int32(value)) != _OK:
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

    def decode(self, payload: bytes) -> bytes | None:
        """960 samples, 16-bit. None if the payload, of any length, is not a packet of 20 ms."""
        if not 0 < len(payload) <= MAX_PAYLOAD:  # without any, libopus conceals
            return None
        return self._run(payload)

    def conceal(self) -> bytes:
        """960 samples in place of a packet that is missing, from what was decoded before."""
        return self._run(None) or bytes(FRAME_BYTES)

    def _run(self, payload: bytes | None) -> bytes | None:
        if not self.close.alive:
            return None
        # Room for 20 ms: libopus refuses a longer packet before it writes anything.
        samples = self._decode(self._state, payload, len(payload or b""), self._pcm, FRAME_SAMPLES, 0)
        return bytes(self._pcm) if samples == FRAME_SAMPLES else None


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
