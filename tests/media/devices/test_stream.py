"""Microphone and speaker: what goes through, what waits, and what happens when the device goes."""

from __future__ import annotations

import gc
import math
import threading
import time
from array import array

import pytest

from relaycall.errors import DeviceFailed
from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, SILENCE, ToneSource, pcm_frame
from relaycall.media.devices.level import Level, level_of
from relaycall.media.devices.microphone import Microphone
from relaycall.media.devices.speaker import Speaker
from relaycall.media.devices.stream import RETRY_SECONDS, SILENT_SECONDS
from relaycall.media.several_sinks import SeveralSinks
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test
from tests.media.devices.sound_system import SoundSystem

BLOCK = FRAME_BYTES // 2  # 10 ms


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SoundSystem:
    return SoundSystem(monkeypatch)


def numbered(count: int) -> list[bytes]:
    """Blocks of 10 ms, each of one value."""
    return [array("h", [number + 1] * (BLOCK // 2)).tobytes() for number in range(count)]


def values(pcm: bytes) -> list[int]:
    """What it holds, each value once."""
    return list(dict.fromkeys(array("h", pcm)))


def frequency(pcm: bytes, rate: int = 48000) -> float:
    samples = array("h", pcm)
    rises = [n for n in range(1, len(samples)) if samples[n - 1] < 0 <= samples[n]]
    return (len(rises) - 1) / (rises[-1] - rises[0]) * rate


# --- microphone -------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_read_in_order(system: SoundSystem) -> None:
    microphone = Microphone()
    assert microphone.name == "Built-in"
    assert microphone.read() is SILENCE
    for block in numbered(8)[:4]:
        system.stream.give(block)
    assert values(microphone.read()) == [1, 2]
    assert values(microphone.read()) == [3, 4]
    assert microphone.read() is SILENCE
    microphone.close()


def test_half_a_frame_waits_for_the_rest(system: SoundSystem) -> None:
    microphone = Microphone()
    microphone.read()
    first, second = numbered(2)
    system.stream.give(first)
    assert microphone.read() is SILENCE
    system.stream.give(second)
    assert values(microphone.read()) == [1, 2]
    microphone.close()


def test_the_newest_wins(system: SoundSystem) -> None:
    microphone = Microphone()
    for block in numbered(50):
        system.stream.give(block)
    assert values(microphone.read()) == [49, 50]  # what was before the call is of no interest
    for block in numbered(50):
        system.stream.give(block)
    assert values(microphone.read())[0] == 41  # 100 ms, no more
    microphone.close()


@pytest.mark.parametrize("parts_per_million", [1000, -1000])
def test_a_microphone_whose_clock_is_another_gets_no_delay(system: SoundSystem, parts_per_million: int) -> None:
    """Ten minutes at twenty times what sound cards differ by."""
    clock = Clock()
    microphone = Microphone(clock=clock)
    microphone.read()
    tone, given, silent, waiting = ToneSource(300), 0.0, 0, 0
    blocks = [one[at : at + BLOCK] for one in (tone.read() for _ in range(50)) for at in (0, BLOCK)]
    for step in range(30_000):
        clock.now = step * 0.02
        given += 2 * (1 + parts_per_million / 1e6)
        for _ in range(int(given)):
            system.stream.give(blocks[0])
            blocks.append(blocks.pop(0))
            given -= 1
        silent += microphone.read() is SILENCE
        if step > 200:
            waiting = max(waiting, microphone._ring.fill + len(microphone._rest))
    assert waiting <= 45 * 96  # ms
    assert microphone._ring.dropped == 0
    assert silent <= (50 if parts_per_million < 0 else 5)  # 600 ms are missing, in frames of 20 ms
    microphone.close()


@pytest.mark.parametrize("chosen", [(44100, 1), (44100, 2), (48000, 2)])
def test_a_microphone_of_another_format(system: SoundSystem, chosen: tuple[int, int]) -> None:
    system.formats = [chosen]
    system.devices[0] = ("Built-in", 2, 2, 44100.0, 0)
    microphone = Microphone()
    rate, channels = chosen
    size = rate // 100
    assert (system.stream.rate, system.stream.channels, system.stream.options["blocksize"]) == (rate, channels, size)
    wave = [round(8000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(rate)]
    heard = b""
    microphone.read()
    for step in range(50):
        for at in (2 * step * size, (2 * step + 1) * size):
            part = wave[at : at + size]
            system.stream.give(array("h", [sample for sample in part for _ in range(channels)]).tobytes())
        pcm = microphone.read()
        heard += pcm if pcm is not SILENCE else b""
    assert len(heard) > 40 * FRAME_BYTES
    assert frequency(heard) == pytest.approx(440, rel=0.01)
    assert level_of(heard).peak_db == pytest.approx(20 * math.log10(8000 / 32768), abs=1)
    microphone.close()


def test_a_device_that_takes_no_format_at_all(system: SoundSystem) -> None:
    system.formats = [(8000, 7)]
    with pytest.raises(DeviceFailed):
        Microphone()
    with pytest.raises(DeviceFailed):
        Speaker()


def test_the_level_is_told_and_a_listener_that_fails_once(
    system: SoundSystem, caplog: pytest.LogCaptureFixture
) -> None:
    levels: list[Level] = []
    microphone = Microphone(on_level=levels.append)
    microphone.read()
    system.stream.give(array("h", [16384, -16384] * 480).tobytes())
    microphone.read()
    assert levels[0] == (-96, -96)
    assert levels[1] == pytest.approx((-6.02, -6.02), abs=0.01)
    microphone.close()

    def fails(level: Level) -> None:
        levels.clear()
        raise ValueError("canary")

    microphone, speaker = Microphone(on_level=fails), Speaker(on_level=fails)
    for _ in range(2):
        assert microphone.read() is not None
        speaker.write(pcm_frame(SILENCE, 0))
    assert [record.getMessage() for record in caplog.records] == [
        "on_level raised ValueError and is not called again"
    ] * 2
    microphone.close()
    speaker.close()


# --- speaker ----------------------------------------------------------------------------------------------------------


def frames(count: int) -> list[object]:
    tone = ToneSource(300)
    return [pcm_frame(tone.read(), number * FRAME_SAMPLES) for number in range(count)]


def test_what_is_written_is_played_once_there_is_enough(system: SoundSystem) -> None:
    speaker = Speaker()
    first, second, third = frames(3)
    assert not any(system.stream.take(480))
    speaker.write(first)
    assert not any(system.stream.take(480))  # 20 ms could be too little
    speaker.write(second)
    played = b"".join(system.stream.take(480) for _ in range(4))
    assert played == bytes(first.planes[0]) + bytes(second.planes[0])
    assert speaker.underruns == 0
    assert not any(system.stream.take(480))
    assert speaker.underruns == 1
    speaker.write(third)
    assert not any(system.stream.take(480))  # again not before there is enough
    speaker.close()


def test_no_more_than_120_ms_wait(system: SoundSystem) -> None:
    speaker = Speaker()
    for frame in frames(50):
        speaker.write(frame)
    assert speaker.waiting_ms == 120
    speaker.close()


@pytest.mark.parametrize("parts_per_million", [1000, -1000, 0])
def test_a_speaker_whose_clock_is_another_gets_no_delay_and_no_gaps(
    system: SoundSystem, parts_per_million: int
) -> None:
    clock = Clock()
    speaker = Speaker(clock=clock)
    some, taken, waiting = frames(50), 0.0, 0.0
    for frame in some[:6]:  # as after the event loop stalled
        speaker.write(frame)
    for step in range(15_000):
        clock.now = step * 0.02
        speaker.write(some[step % 50])
        taken += 2 * (1 + parts_per_million / 1e6)
        for _ in range(int(taken)):
            system.stream.take(480)
            taken -= 1
        if step > 500:
            waiting = max(waiting, speaker.waiting_ms)
    assert waiting <= 60
    assert speaker.underruns <= 1
    speaker.close()


@pytest.mark.parametrize("chosen", [(44100, 1), (44100, 2), (48000, 2)])
def test_a_speaker_of_another_format(system: SoundSystem, chosen: tuple[int, int]) -> None:
    system.formats = [chosen]
    system.devices[0] = ("Built-in", 2, 2, 44100.0, 0)
    speaker = Speaker()
    rate, channels = chosen
    played = b""
    tone = ToneSource(440)
    for step in range(100):
        speaker.write(pcm_frame(tone.read(), step * FRAME_SAMPLES))
        if step > 4:
            played += system.stream.take(rate // 50)
    samples = array("h", played)
    sides = [samples[side::channels] for side in range(channels)]
    assert all(side == sides[0] for side in sides)
    assert frequency(sides[0][rate // 2 :].tobytes(), rate) == pytest.approx(440, rel=0.01)
    assert speaker.underruns == 0
    speaker.close()


def test_several_sinks_get_the_same_and_one_that_fails_gets_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Sink:
        def __init__(self, fails: bool) -> None:
            self.frames, self.fails, self.closed = 0, fails, False

        def write(self, frame: object) -> None:
            self.frames += 1
            if self.fails:
                raise ValueError("canary")

        def close(self) -> None:
            self.closed = True
            if self.fails:
                raise ValueError("canary")

    bad, good = Sink(True), Sink(False)
    both = SeveralSinks(bad, good)
    for _ in range(3):
        both.write(pcm_frame(SILENCE, 0))
    both.close()
    assert (bad.frames, good.frames, bad.closed, good.closed) == (1, 3, True, True)
    assert "canary" not in caplog.text


# --- when the device goes ---------------------------------------------------------------------------------------------


def users(clock: Clock) -> list[object]:
    return [Microphone(clock=clock), Speaker(clock=clock)]


def use(device: object) -> object:
    return device.read() if isinstance(device, Microphone) else device.write(pcm_frame(SILENCE, 0))


@pytest.mark.parametrize("kind", [Microphone, Speaker])
def test_a_device_that_is_unplugged_is_opened_again(system: SoundSystem, kind: type) -> None:
    clock = Clock()
    device = kind("headset", clock=clock)
    first = system.stream
    use(device)
    assert device.error is None
    first.end()
    use(device)
    assert isinstance(device.error, DeviceFailed)
    assert "stopped working" in device.error.sentence
    system.settle()
    assert first.closed
    gone, system.devices = system.devices, system.devices[:1]
    for round_ in range(1, 6):  # it is not there: tried every two seconds
        clock.now = round_ * RETRY_SECONDS - 0.01
        use(device)
        system.settle()
        assert system.initialized == round_
        clock.now += 0.01
        use(device)
        system.settle()
        use(device)
        assert system.initialized == 1 + round_  # PortAudio was told to look
        assert device.error.code == "device_missing"
    system.devices = gone
    clock.now += RETRY_SECONDS
    use(device)
    system.settle()
    use(device)
    assert device.error is None
    assert len(system.streams) == 2
    if kind is Microphone:
        system.stream.give(b"".join(numbered(2)))
        assert values(device.read()) == [1, 2]
    device.close()
    system.settle()
    assert system.stream.closed


@pytest.mark.parametrize("kind", [Microphone, Speaker])
def test_a_device_that_says_nothing_is_lost(system: SoundSystem, kind: type) -> None:
    clock = Clock()
    device = kind(clock=clock)
    clock.now = 4.9  # it may take long to begin
    use(device)
    assert device.error is None
    system.stream.go_on()
    clock.now += SILENT_SECONDS - 0.1
    use(device)
    assert device.error is None
    clock.now += 0.2
    use(device)
    assert device.error is not None
    device.close()


def test_a_device_that_never_begins_is_lost(system: SoundSystem) -> None:
    clock = Clock()
    microphone = Microphone(clock=clock)
    clock.now = 5.1
    assert microphone.read() is SILENCE
    assert microphone.error is not None
    microphone.close()


def test_the_other_stream_goes_on_when_one_is_lost(system: SoundSystem) -> None:
    clock = Clock()
    microphone, speaker = users(clock)
    first, second = system.streams
    first.end()
    for clock.now in (0.0, 2.0):
        microphone.read()
        second.go_on()
        speaker.write(pcm_frame(SILENCE, 0))
        system.settle()
    microphone.read()
    assert microphone.error is None
    assert system.initialized == 1  # that would have ended the speaker's
    assert not second.closed
    microphone.close()
    speaker.close()


@pytest.mark.parametrize("kind", [Microphone, Speaker])
def test_a_device_that_hangs_holds_up_nobody(system: SoundSystem, kind: type) -> None:
    clock = Clock()
    device = kind(clock=clock)
    stream = system.stream
    system.may_go_on.clear()  # it cannot even be closed
    begun = time.monotonic()
    for step in range(500):
        clock.now = step * 0.02
        use(device)
    assert device.error is not None
    device.close()
    device.close()
    assert time.monotonic() - begun < 3
    assert sum(thread.name == "relaycall-portaudio" for thread in threading.enumerate()) == 1
    system.may_go_on.set()
    system.settle()
    assert all(one.closed for one in system.streams)
    assert stream.closed


def test_a_closed_device_stays_closed(system: SoundSystem) -> None:
    clock = Clock()
    for device in users(clock):
        device.close()
        for clock.now in (0.0, 10.0, 20.0):
            use(device)
        system.settle()
    assert len(system.streams) == 2
    assert all(stream.closed for stream in system.streams)


def test_a_fault_in_the_thread_of_a_device_ends_its_stream_and_is_told(system: SoundSystem) -> None:
    clock = Clock()
    microphone = Microphone(clock=clock)
    with pytest.raises(RuntimeError):  # to PortAudio, which ends the stream
        system.stream.options["callback"](None, 0, None, None)
    assert microphone.read() is SILENCE
    assert microphone.error is not None
    microphone.close()
    gc.collect()
