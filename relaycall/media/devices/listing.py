"""The microphones and speakers of this machine, and which of them is meant. Takes the extra `audio`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relaycall.errors import ConfigError, DeviceFailed, DeviceMissing, RelaycallError
from relaycall.media.devices.portaudio import ANSWER_SECONDS, CALLS, load, missing, refresh

SHOWN = 10  # names in an error


@dataclass(frozen=True, slots=True)
class AudioDevice:
    """A sound device, as PortAudio sees it.

    Attributes:
        name: what the system calls it, without characters that cannot be printed.
        index: its number, until devices come or go.
        inputs, outputs: how many channels it records and plays at most; 0 if it does not.
        default_input, default_output: whether it is what is used where none is named.
        sample_rate: hertz, that it prefers.
        host: the sound system that it belongs to: ALSA, Core Audio, Windows WASAPI, ...
    """

    name: str
    index: int
    inputs: int
    outputs: int
    default_input: bool
    default_output: bool
    sample_rate: float
    host: str


def list_devices() -> list[AudioDevice]:
    """The sound devices of this machine, as they are now, or as they were when the first of those in use was opened.

    Returns within 3 s; the first time it takes some tenths of a second.

    Raises:
        ExtraMissing: the extra `audio` is not installed.
        PortAudioMissing: PortAudio is not there, or does not start.
        DeviceFailed: the sound system does not answer, or fails.
    """
    return CALLS.answer(_listed_anew, ANSWER_SECONDS)


def _listed_anew() -> list[AudioDevice]:
    failure: RelaycallError
    try:
        sounddevice = load()
        refresh(sounddevice)
        return found_by(sounddevice)
    except RelaycallError:
        raise
    except Exception:
        failure = DeviceFailed("The sound devices cannot be listed.")
    raise failure


def found_by(sounddevice: Any) -> list[AudioDevice]:
    """What PortAudio knows of. Only in the thread of `CALLS`; raises what PortAudio raises."""
    hosts = [host["name"] for host in sounddevice.query_hostapis()]
    default_input, default_output = sounddevice.default.device
    found = []
    for index, entry in enumerate(sounddevice.query_devices()):
        found.append(
            AudioDevice(
                name="".join(c if c.isprintable() else "?" for c in entry["name"]),
                index=index,
                inputs=entry["max_input_channels"],
                outputs=entry["max_output_channels"],
                default_input=index == default_input,
                default_output=index == default_output,
                sample_rate=entry["default_samplerate"],
                host=hosts[entry["hostapi"]],
            )
        )
    return found


def choose(devices: Sequence[AudioDevice], wanted: str | int | None, *, records: bool) -> AudioDevice:
    """The device that is meant.

    A whole name goes before a part of one, and the host of the default device before others, which on some systems
    list the same devices once more.

    Args:
        wanted: a name or a part of it, in whatever case; an index; or None for the default.
        records: whether a microphone is meant, or a speaker.

    Raises:
        DeviceMissing: there is none.
        DeviceForbidden: there are some, and this user may not use them.
        ConfigError: several have that in their name.
    """
    what = "microphone" if records else "speaker"
    usable = [one for one in devices if (one.inputs if records else one.outputs)]
    default = next((one for one in usable if (one.default_input if records else one.default_output)), None)
    if not usable:
        raise missing(what)
    if wanted is None:
        if default is None:
            raise DeviceMissing(f"No {what} is the default one.", "Name one; relaycall devices lists what there is.")
        return default
    if isinstance(wanted, int):
        matching = [one for one in usable if one.index == wanted]
    else:
        part = wanted.casefold()
        matching = [one for one in usable if part in one.name.casefold()]
        matching = [one for one in matching if part == one.name.casefold()] or matching
        matching = [one for one in matching if default is not None and one.host == default.host] or matching
    if not matching:
        raise DeviceMissing(f"There is no {what} {wanted}.", "relaycall devices lists what there is.")
    if len(matching) > 1:
        names = ", ".join(f"{one.index} ({one.name}, {one.host})" for one in matching[:SHOWN])
        raise ConfigError(f"Several devices are called {wanted}: {names}.", "Give more of its name, or its number.")
    return matching[0]
