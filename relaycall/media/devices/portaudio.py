"""PortAudio behind a fence: it is loaded at first use, one thread makes all calls, and none is waited for without end.

PortAudio may not be called by two threads at once, and a call may block for ever: a stream of a sound server that is
frozen cannot be closed. Then those who wait are told so in time, and the thread is left behind at the end of the
program. What PortAudio raises becomes an error of ours.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from relaycall.errors import (
    DeviceFailed,
    DeviceForbidden,
    DeviceMissing,
    ExtraMissing,
    PortAudioMissing,
    RelaycallError,
)
from relaycall.worker import Worker

ANSWER_SECONDS = 3.0
EXIT_SECONDS = 1.0  # that closing what is open may take when the program ends
SOUND_FILES = Path("/dev/snd")

# PortAudio's error codes (portaudio.h, PaErrorCode) that mean more than "it failed".
_HOST_ERROR = -9999
_REFUSED_FORMAT = (-9998, -9997, -9994)  # channels, rate, sample format
_NO_SUCH_DEVICE = -9996
_UNAVAILABLE = -9985

T = TypeVar("T")


class Calls(Worker):
    """Makes the calls, one after another in one thread."""

    def __init__(self) -> None:
        super().__init__("relaycall-portaudio")

    def answer(self, call: Callable[[], T], timeout: float) -> T:
        """Have it made, and wait.

        Args:
            timeout: seconds, waiting for earlier calls included.

        Raises:
            DeviceFailed: it took longer. If it had not begun, it is not made any more.
            Exception: whatever the call raises.
        """
        future = self.submit(call)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
        raise DeviceFailed(
            f"The sound system has not answered within {timeout:.0f} s.", "Restart it, or connect the device anew."
        )


CALLS = Calls()


def load() -> Any:
    """The module `sounddevice`, with PortAudio initialised. Slow at first: only in the thread of `CALLS`.

    Raises:
        ExtraMissing: sounddevice is not installed.
        PortAudioMissing: the library is not there, or does not start.
    """
    failure: RelaycallError
    try:
        import sounddevice
    except ImportError:
        failure = ExtraMissing(
            "Microphone and speaker take the extra audio.", "Install it: pip install 'relaycall[audio]'."
        )
    except Exception:  # OSError: no library; PortAudioError: it does not start
        failure = PortAudioMissing()
    else:
        atexit.unregister(_at_exit)
        atexit.register(_at_exit, sounddevice)  # after sounddevice's own, so it is called before that
        return sounddevice
    raise failure


def refresh(sounddevice: Any) -> None:
    """Have PortAudio look for devices anew, which ends all streams: only where none is open, of whoever it may be."""
    streams = (one for one in gc.get_objects() if issubclass(type(one), sounddevice._StreamBase))
    # One that could not be opened says that it is not closed. It has got no rate, either.
    if not any(hasattr(stream, "_samplerate") and not stream.closed for stream in streams):
        sounddevice._terminate()
        sounddevice._initialize()


def refuses_format(error: Exception) -> bool:
    """Whether a stream could be opened at another rate, or with other channels."""
    return _code(error) in _REFUSED_FORMAT


def device_error(error: Exception, what: str) -> RelaycallError:
    """What a failure of PortAudio means.

    Args:
        what: the device, as the beginning of a sentence: "The microphone".
    """
    code = _code(error)
    if code == _HOST_ERROR and abs(_host_code(error)) in (errno.EACCES, errno.EPERM):
        return DeviceForbidden()
    if code == _NO_SUCH_DEVICE:
        return DeviceMissing(f"{what} is not there any more.", "Connect it; relaycall devices lists what there is.")
    if code == _UNAVAILABLE:
        return DeviceFailed(f"{what} cannot be opened: it is in use, or gone.", "End the program that uses it.")
    return DeviceFailed(f"{what} cannot be opened.")


def missing(what: str) -> RelaycallError:
    """Why there is no such device: on Linux, those of the machine may be there and not be ours to use."""
    files = list(SOUND_FILES.glob("pcm*"))
    if files and not any(os.access(file, os.R_OK | os.W_OK) for file in files):
        return DeviceForbidden(
            "This user may not use the sound devices of this machine.",
            "Add the user to the group audio, and log in again.",
        )
    return DeviceMissing(f"There is no {what}.", "Connect one; relaycall devices lists what there is.")


def _code(error: Exception) -> int:
    """PortAudio's code; 0 for an error of another kind."""
    code = error.args[1] if len(error.args) > 1 else 0
    return code if isinstance(code, int) else 0


def _host_code(error: Exception) -> int:
    """That of ALSA, Core Audio or the like, which it hands on."""
    host = error.args[2] if len(error.args) > 2 else None
    code = host[1] if isinstance(host, tuple) and len(host) > 1 else 0
    return code if isinstance(code, int) else 0


def _at_exit(sounddevice: Any) -> None:
    """Let what is being closed be closed. If PortAudio hangs, it is not asked to end: the program would hang, too."""
    if not CALLS.rest(EXIT_SECONDS):
        atexit.unregister(sounddevice._exit_handler)
        ctypes.CDLL(sounddevice._libname)  # which never unloads it: threads still run in there
