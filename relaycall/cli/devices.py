"""`relaycall devices`: which microphones and speakers there are, and whether they work."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict

import click

from relaycall.cli.quiet import quiet_libraries
from relaycall.cli.screen import Screen, StatusLine, screen_for
from relaycall.errors import DeviceFailed, RelaycallError
from relaycall.media.audio import FRAME_SAMPLES, FRAME_SECONDS, SilenceSource, ToneSource, pcm_frame
from relaycall.media.devices.level import FLOOR_DB, Level
from relaycall.media.devices.listing import AudioDevice, list_devices
from relaycall.media.devices.microphone import Microphone
from relaycall.media.devices.portaudio import missing
from relaycall.media.devices.speaker import Speaker

SECONDS = 5.0  # of the test
TONE = (1.0, 3.5)  # seconds of it in which the tone is played: some sound servers take two to begin
BAR_DB = 3  # for each character


@click.command("devices")
@click.option("--test", is_flag=True, help="Play a tone on the default speaker, and listen to the default microphone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def devices_command(test: bool, as_json: bool) -> int:
    """List the microphones and speakers of this machine.

    A number or a part of a name goes into --audio mic:NAME and --play NAME of `relaycall call`. Takes the extra audio.
    """
    screen = screen_for(as_json)
    with quiet_libraries():
        try:
            found = list_devices()
            if not found:
                raise missing("sound device")
        except RelaycallError as error:
            screen.failed(error)
            return error.exit_code
        for one in found:
            click.echo(json.dumps(asdict(one)) if as_json else _line(one))
        return _test(screen) if test else 0


def _line(one: AudioDevice) -> str:
    kinds = [
        f"{kind}{' (default)' if default else ''}"
        for kind, channels, default in (
            ("microphone", one.inputs, one.default_input),
            ("speaker", one.outputs, one.default_output),
        )
        if channels
    ]
    return f"{one.index:3}  {one.name}, {one.host}: {' and '.join(kinds) or 'neither microphone nor speaker'}"


def _test(screen: Screen) -> int:
    """Use both for some seconds. What cannot be used is told, and the other one is tested all the same."""
    levels: list[Level] = []
    failures: list[RelaycallError] = []
    with contextlib.ExitStack() as stack:
        microphone = speaker = None
        try:
            microphone = stack.enter_context(contextlib.closing(Microphone(on_level=levels.append)))
        except RelaycallError as error:
            failures.append(error)
        try:
            speaker = stack.enter_context(contextlib.closing(Speaker()))
        except RelaycallError as error:
            failures.append(error)
        _run(microphone, speaker, levels, stack.enter_context(StatusLine()))
        broken = [device.error for device in (microphone, speaker) if device is not None]
        failures += [error for error in broken if error is not None]
    if levels:
        peak = max(level.peak_db for level in levels)
        screen.say("microphone_test", f"Microphone: {peak:.0f} dB at its loudest.", peak_db=round(peak, 1))
        if peak <= FLOOR_DB and not failures:
            failures.append(DeviceFailed("The microphone gives silence only.", "Unmute it, and allow its use."))
    if speaker is not None and speaker.error is None:
        screen.say("speaker_test", "Speaker: a tone was played.")
    for failure in failures:
        screen.failed(failure)
    return failures[0].exit_code if failures else 0


def _run(microphone: Microphone | None, speaker: Speaker | None, levels: list[Level], line: StatusLine) -> None:
    tone, silence = ToneSource(), SilenceSource()
    start = time.monotonic()
    for number in range(round(SECONDS / FRAME_SECONDS)):
        at = number * FRAME_SECONDS
        time.sleep(max(0.0, start + at - time.monotonic()))
        if speaker is not None:
            pcm = (tone if TONE[0] <= at < TONE[1] else silence).read()
            assert pcm is not None, "neither ends"
            speaker.write(pcm_frame(pcm, number * FRAME_SAMPLES))
        if microphone is not None:
            microphone.read()
            line.show(f"microphone {'#' * round((levels[-1].peak_db - FLOOR_DB) / BAR_DB)}")
