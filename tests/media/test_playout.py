"""What a call hears over networks of all kinds, with real speech, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import random
import weakref
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from aiortc.rtp import RtpPacket
from av import AudioFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.media.audio import FRAME_BYTES, SILENCE, AudioEncoding, ConstantRateOpus, ToneSource
from relaycall.media.files import FileSource
from relaycall.media.jitter import COPIES, MAX_TARGET
from relaycall.media.opus import has_copy
from relaycall.media.playout import MAX_BURST, MAX_DRAINED, Playout
from tests.media.listening import similarity
from tests.media.paths import Line, VirtualLoop

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
BACK = 3.0  # seconds after any disturbance until the delay is back
NEAR = 20.0  # milliseconds from its target


@cache
def blocks() -> tuple[bytes, ...]:
    source = FileSource(SPEECH)
    found = tuple(iter(source.read, None))
    source.close()
    return found


@cache
def speech() -> tuple[bytes, ...]:
    """Speech as packets, each another one."""
    encoder = ConstantRateOpus()
    packets = [bytes(encoder.encode(block, 0)) for block in blocks()]
    return tuple(dict.fromkeys(packets))


@cache
def protected() -> tuple[bytes, ...]:
    """The same in packets that hold copies of the ones before."""
    encoder = ConstantRateOpus()
    encoder.configure(AudioEncoding(expected_loss=0.1))
    return tuple(dict.fromkeys(bytes(encoder.encode(block, 0)) for block in blocks()))


@cache
def tone() -> tuple[bytes, ...]:
    """A tone as packets; what differs is beyond hearing."""
    encoder, source = ConstantRateOpus(), ToneSource(440, -6)
    noise = random.Random(2)
    packets = []
    for _ in range(400):
        samples = array("h", source.read() or b"")
        packets.append(bytes(encoder.encode(array("h", [s + noise.randint(-3, 3) for s in samples]).tobytes(), 0)))
    return tuple(packets)


def call(seconds: float, delay: Callable[[int], float | None] = lambda n: 0.05, **others: object) -> Line:
    return Line(speech(), seconds, delay, **others).run()  # type: ignore[arg-type]


def settled(line: Line, disturbed_until: float, on_the_way: float = 0.05) -> None:
    """Three seconds after a disturbance the delay is at its target, and the target is low again, until the end."""
    after = [entry for entry in line.stats if entry[0] >= disturbed_until + BACK]
    assert after
    for time, delay, target in after:
        assert abs(delay - target) * 1000 <= NEAR, f"{delay} for {target} at {time}"
        assert target < 0.05
    ends = line.stats[-1][0]
    heard = [age for number, age in line.heard if disturbed_until + BACK < number * 0.02 < ends]
    assert max(heard) < on_the_way + 0.05, "and what is heard is that old"


def without_gaps(line: Line) -> None:
    assert line.pts == [960 * number for number in range(len(line.pts))]
    times = [time for time, _ in line.frames[: line.clocked]]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.0201
    assert {len(pcm) for _, pcm in line.frames} == {FRAME_BYTES}


def test_in_order() -> None:
    line = call(10)
    without_gaps(line)
    assert line.numbers == list(range(500))
    assert (line.playout.frames, line.playout.played, line.playout.concealed, line.playout.late) == (500, 500, 0, 0)
    settled(line, 0)
    heard = array("h", b"".join(pcm for _, pcm in line.frames))
    assert similarity(array("h", b"".join(blocks()[:500])), heard) > 0.97


@pytest.mark.parametrize("phase", [0.0, 0.005, 0.01, 0.0199])
def test_one_lost_packet_is_one_made_up_frame_and_no_delay(phase: float) -> None:
    line = call(8, lambda n: None if n == 200 else 0.05, phase=phase)
    without_gaps(line)
    assert line.playout.concealed == 1
    assert line.numbers == [number for number in range(400) if number != 200]
    ages = dict(line.heard)
    assert max(abs(ages[number] - ages[199]) for number in range(201, 390)) < 0.0001
    at = next(index for index, (time, _) in enumerate(line.frames) if time > 200 * 0.02 + ages[199] - 0.001)
    levels = [max(array("h", pcm)) for _, pcm in line.frames[at - 1 : at + 2]]
    assert levels[1] > 0.2 * min(levels[0], levels[2]), "sound, not silence"


def test_a_third_is_lost() -> None:
    generator = random.Random(1)
    lost = {number for number in range(1000) if number and generator.random() < 0.3}
    line = call(20, lambda n: None if n in lost else 0.05)
    without_gaps(line)
    last = max(line.numbers)
    assert line.playout.concealed == len([number for number in lost if number < last])
    assert line.playout.played == 1000 - len(lost)
    settled(line, 1)
    heard = array("h", b"".join(pcm for _, pcm in line.frames[:500]))
    assert similarity(array("h", b"".join(blocks()[:500])), heard) > 0.55  # Opus itself, with all gaps concealed: 0.62
    assert similarity(array("h", b"".join(blocks()[499::-1])), heard) < 0.5, "other speech is not as similar"


def test_bursts_of_loss() -> None:
    generator = random.Random(4)
    lost: set[int] = set()
    for start in range(50, 1000, 50):
        lost |= set(range(start, start + generator.randint(2, 8)))
    line = call(20, lambda n: None if n in lost else 0.05)
    without_gaps(line)
    assert line.playout.concealed == len(lost)
    assert line.playout.late == 0
    settled(line, 1)


def test_jitter_that_comes_and_goes() -> None:
    generator = random.Random(1)
    line = call(24, lambda n: 0.05 + generator.random() * (0.06 if 300 <= n < 700 else 0.005))
    without_gaps(line)
    assert line.delay_at(5.9)[0] < 45
    for second in (9, 10, 11, 12, 13):
        delay, target = line.delay_at(second)
        assert 60 < target < 90
        assert abs(delay - target) <= NEAR
    assert line.playout.concealed < 20, "of 400"
    settled(line, 14)


def test_jitter_beyond_bearing() -> None:
    generator = random.Random(1)
    line = call(20, lambda n: 0.05 + generator.random() * 0.9)
    without_gaps(line)
    assert max(target for _, _, target in line.stats) == MAX_TARGET
    assert max(delay for _, delay, _ in line.stats) < MAX_TARGET + 0.3
    assert line.playout.played > 200, "something is heard"


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0])
def test_an_outage(seconds: float) -> None:
    count = int(seconds * 50)
    line = call(12, lambda n: None if 200 <= n < 200 + count else 0.05)
    without_gaps(line)
    assert line.playout.concealed == count
    assert line.numbers == [*range(200), *range(200 + count, 600)], "sound is back at once"
    settled(line, 4 + seconds)


@pytest.mark.parametrize("start", [40, 123, 250, 333])
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.5, 2.0])
def test_an_outage_whose_packets_come_in_a_burst(seconds: float, start: int) -> None:
    count = int(seconds * 50)
    over = start + count
    line = call(start / 50 + 8, lambda n: 0.05 + (0.02 * (over - n) if start <= n < over else 0))
    without_gaps(line)
    missed = sorted(set(range(over)) - set(line.numbers))
    assert missed == list(range(start, start + len(missed))), "the newest are heard, and nothing else is lost"
    assert len(missed) == line.playout.late
    assert count - len(missed) >= min(count, 11) - (count <= 11 and len(missed) > 1)
    settled(line, over / 50)


def test_the_last_packets_resent_over_another_path() -> None:
    """The path dies; 400 ms later its last 20 packets come over one that is 30 ms slower, and so does the rest."""
    line = call(12, lambda n: 0.05 if n < 200 else 0.08 + max(0, 220 - n) * 0.02)
    without_gaps(line)
    assert len([number for number in line.numbers if 200 <= number < 220]) >= 10
    assert line.numbers == sorted(line.numbers)
    settled(line, 4.4, 0.08)


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_a_senders_clock_that_drifts(drift: float) -> None:
    generator = random.Random(6)
    line = call(90, lambda n: 0.05 + generator.random() * 0.005, drift=drift)
    without_gaps(line)
    assert line.playout.played >= 4500 - 2
    assert line.playout.concealed <= 2
    assert max(abs(delay - target) for _, delay, target in line.stats[100:]) * 1000 <= NEAR


def test_reordering_within_the_delay_is_repaired() -> None:
    line = call(10, lambda n: 0.05 + (0.025 if n % 10 == 5 else 0))
    assert line.numbers[60:] == list(range(line.numbers[60], 500))
    assert line.playout.concealed <= 2


@pytest.mark.parametrize("change", [0.08, -0.08, 0.15, -0.15, 0.4, -0.4])
def test_a_path_with_another_delay(change: float) -> None:
    line = call(12, lambda n: 0.45 if n < 200 else 0.45 + change)
    without_gaps(line)
    after = [entry for entry in line.stats if entry[0] >= 4 + max(0, change) + BACK]
    assert max(abs(delay - target) for _, delay, target in after) * 1000 <= NEAR
    assert max(target for _, _, target in after) < 0.05


@pytest.mark.parametrize("jump", [300.0, -300.0, 3.0, -3.0, 0.5, -0.5])
def test_a_peers_timeline_that_starts_again(jump: float) -> None:
    line = call(12, timestamp=lambda n: 960 * n + (round(48000 * jump) if n >= 200 else 0))
    without_gaps(line)
    settled(line, 4)
    assert line.playout.concealed <= 30


# --- copies -----------------------------------------------------------------------------------------------------------


def with_copies(seconds: float, lost: set[int]) -> Line:
    return Line(protected(), seconds, lambda n: None if n in lost else 0.05).run()


def copied(number: int) -> bool:
    """Whether the packet after this one holds a copy of it."""
    return has_copy(protected()[(number + 1) % len(protected())])


def test_what_is_lost_is_restored_where_there_is_a_copy() -> None:
    generator = random.Random(1)
    lost = {number for number in range(1, 1900) if generator.random() < 0.1}
    line = with_copies(40, lost)
    without_gaps(line)
    playout = line.playout
    assert playout.recovered + playout.concealed == len(lost)
    possible = [number for number in lost if number + 1 not in lost and copied(number)]
    assert len(possible) - 2 <= playout.recovered <= len(possible), "but for the first, which was not waited for"
    assert playout.recovered > 0.6 * len(lost)
    assert playout.played == 2000 - len(lost)
    assert playout.late == 0


def test_without_copies_nothing_is_restored_and_nothing_is_waited_for() -> None:
    line = call(20, lambda n: None if n % 10 == 5 else 0.05)
    assert (line.playout.recovered, line.playout.concealed) == (0, 100)
    assert max(target for _, _, target in line.stats) == pytest.approx(0.02)


def test_copies_alone_are_not_waited_for() -> None:
    line = with_copies(20, set())
    assert max(target for _, _, target in line.stats) == pytest.approx(0.02)
    assert max(delay for _, delay, _ in line.stats) < 0.04


def test_after_one_loss_the_delay_grows_for_20_s_and_does_not_swing() -> None:
    number = next(number for number in range(100, 200) if copied(number))
    line = with_copies(40, {number})
    lost_at = number * 0.02 + 0.05
    targets = [(time, round(target, 3)) for time, _, target in line.stats]
    changes = [later for (_, one), later in itertools.pairwise(targets) if later[1] != one]
    assert [target for _, target in changes] == [0.045, 0.02]
    assert changes[0][0] == pytest.approx(lost_at, abs=0.08)
    assert changes[1][0] == pytest.approx(lost_at + COPIES, abs=0.1)
    assert all(0.039 < delay < 0.061 for time, delay, _ in line.stats if lost_at + BACK < time < lost_at + COPIES)
    settled(line, lost_at + COPIES)


@pytest.mark.slow
def test_one_in_a_hundred_lost_keeps_the_delay_where_it_is() -> None:
    generator = random.Random(2)
    lost = {number for number in range(50, 6000) if generator.random() < 0.01}
    line = with_copies(120, lost)
    begun = next(time for time, _, target in line.stats if target > 0.03)
    after = [(delay, target) for time, delay, target in line.stats if time > begun + BACK]
    assert {round(target, 3) for _, target in after} == {0.045}
    assert all(0.039 < delay < 0.061 for delay, _ in after)
    assert line.playout.recovered > 0.65 * len(lost)


def test_restored_sound_is_like_the_original() -> None:
    """Each fifth packet is lost: restored, it is as loud as what was said, and made up, it is not."""
    lost = set(range(300, 1000, 5))
    line, plain = with_copies(20, lost), call(20, lambda n: None if n in lost else 0.05)
    original = array("h", b"".join((blocks() * 2)[300:1000]))
    # What is between the same packets' turns, by when they were heard.
    restored, made_up = (
        array("h", b"".join(pcm for time, pcm in each.frames if 6.1 < time < 20)) for each in (line, plain)
    )
    assert similarity(original, restored) > similarity(original, made_up) + 0.05
    assert line.playout.recovered > 80


# --- what stands in for sound -----------------------------------------------------------------------------------------


def test_made_up_sound_fades_within_100_ms_and_comes_back_without_a_click() -> None:
    line = Line(tone(), 6, lambda n: None if 200 <= n < 220 else 0.05).run()
    samples = array("h", b"".join(pcm for _, pcm in line.frames))
    levels = [max(array("h", pcm)) for _, pcm in line.frames]
    assert line.playout.concealed == 20
    start = next(n for n in range(100, len(levels)) if levels[n + 5] == 0)
    assert min(levels[start - 3 : start]) > 15000
    assert all(later <= earlier * 1.05 for earlier, later in itertools.pairwise(levels[start : start + 6]))
    assert levels[start] > 12000
    assert levels[start + 5 : start + 19] == [0] * 14
    assert levels[start + 21] > 15000
    around = samples[960 * (start - 2) : 960 * (start + 24)]
    assert max(abs(later - earlier) for earlier, later in itertools.pairwise(around)) < 2000  # the tone's own: 940


def test_stretching_makes_no_clicks() -> None:
    line = Line(tone(), 7, lambda n: 0.05 + (0.02 * (210 - n) if 200 <= n < 210 else 0)).run()
    assert line.playout.removed_ms > 100
    late = array("h", b"".join(pcm for time, pcm in line.frames if 4.5 < time < 7))
    assert max(abs(later - earlier) for earlier, later in itertools.pairwise(late)) < 1300


def test_a_low_voice_is_shortened_too() -> None:
    """Its periods are longer than half a frame: more than one frame is looked at."""
    noise = random.Random(7)
    encoder = ConstantRateOpus()
    phases = [2 * math.pi * 75 * n / 48000 for n in range(48000)]
    vowel = [5000 * sum(math.sin(k * phase + k) / k for k in range(1, 8)) for phase in phases]
    sound = array("h", [round(sample) + noise.randint(-3, 3) for sample in vowel * 6])
    payloads = [bytes(encoder.encode(sound[start : start + 960].tobytes(), 0)) for start in range(0, len(sound), 960)]
    line = Line(payloads, 6, lambda n: 0.05 + (0.02 * (104 - n) if 100 <= n < 104 else 0)).run()
    assert line.playout.removed_ms > 40
    settled(line, 2.1)


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "at_once"), [(0.07, 4), (0.09, 5), (0.5, 1), (2.0, 1)])
def test_our_own_stall(seconds: float, at_once: int) -> None:
    line = Line(speech(), 12)
    line.stalls = [(4.0, seconds)]
    line.run()
    assert line.pts == [960 * number for number in range(len(line.pts))]
    times = [round(time, 6) for time, _ in line.frames[: line.clocked]]
    assert at_once - 1 <= times.count(4.0 + seconds) <= min(at_once, MAX_BURST)
    phases = {round((time - 0.007) % 0.02, 6) % 0.02 for time in times if time != 4.0 + seconds}
    assert phases == {0.0}, "the schedule stays as it was"
    assert max(target for _, _, target in line.stats) < 0.05, "it is not jitter"
    settled(line, 4 + seconds)


def test_frames_are_delivered_on_the_senders_beat() -> None:
    line = call(2, phase=0.013)
    assert {round((time - 0.013) % 0.02, 6) % 0.02 for time, _ in line.frames[: line.clocked]} == {0.0}


def in_virtual_time(test: Callable[[VirtualLoop], object]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await test(loop)  # type: ignore[misc]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def packet(number: int, payload: bytes | None = None) -> RtpPacket:
    return RtpPacket(111, 0, number & 0xFFFF, 960 * number, 1, speech()[number] if payload is None else payload)


def test_frames_are_16_bit_mono() -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []
        playout = Playout(frames.append)
        assert playout.add(packet(0)) == (False, None)
        assert frames == []
        await asyncio.sleep(0.1)
        assert len(frames) in (4, 5)
        frame = frames[0]
        assert (frame.format.name, frame.layout.name, frame.sample_rate, frame.samples) == ("s16", "mono", 48000, 960)
        playout.close()

    in_virtual_time(run)


def test_close_delivers_what_is_held_back_and_stops_the_clock() -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []
        playout = Playout(frames.append)
        for number in (0, 1, 2, 4):
            playout.add(packet(number))
        playout.close()
        assert (len(frames), playout.played, playout.concealed) == (5, 4, 1)
        playout.close()
        playout.add(packet(5))
        await asyncio.sleep(1)
        assert [frame.pts for frame in frames] == [0, 960, 1920, 2880, 3840]
        assert loop._scheduled == []  # type: ignore[attr-defined]

    in_virtual_time(run)


def test_close_delivers_half_a_second_at_most() -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []
        playout = Playout(frames.append)
        for number in range(0, 200, 3):
            playout.add(packet(number))
        playout.close()
        assert len(frames) == MAX_DRAINED

    in_virtual_time(run)


def test_closed_before_anything_came() -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []
        playout = Playout(frames.append)
        playout.close()
        playout.add(packet(0))
        assert loop._scheduled == []  # type: ignore[attr-defined]
        assert frames == []

    in_virtual_time(run)


def test_close_from_within_a_delivery_ends_the_clock() -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []

        def deliver(frame: AudioFrame) -> None:
            frames.append(frame)
            playout.close()

        playout = Playout(deliver)
        playout.add(packet(0))
        loop.now += 0.09  # so that several frames are due at once
        await asyncio.sleep(1)
        assert loop._scheduled == []  # type: ignore[attr-defined]
        assert len(frames) == 1

    in_virtual_time(run)


def test_one_that_is_dropped_is_collected() -> None:
    playout = Playout(lambda frame: None)
    gone = weakref.ref(playout._decoder)
    del playout
    gc.collect()
    assert gone() is None


# --- whatever comes ---------------------------------------------------------------------------------------------------


def test_what_is_not_opus_is_counted_and_covered() -> None:
    bad = b"\xff"
    line = Line([*speech()[:50], bad, *speech()[51:100]], 2).run()
    assert (line.playout.undecodable, line.playout.concealed, line.playout.played) == (1, 1, 99)
    without_gaps(line)


def test_nothing_but_garbage_becomes_silence() -> None:
    line = Line([b"\xff" + bytes([0, n]) for n in range(100)], 2).run()
    assert line.playout.played == 0
    assert line.playout.undecodable == 100
    assert {pcm for _, pcm in line.frames[6:]} == {SILENCE}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 60), st.integers(0, 2**32 // 960)),  # packet number
            st.one_of(st.none(), st.binary(max_size=200)),  # payload; None: speech
            st.floats(0, 0.3),  # seconds until the next
            st.booleans(),  # the loop stalls meanwhile
        ),
        max_size=40,
    )
)
def test_any_packets_at_any_time_make_an_even_timeline(
    packets: list[tuple[int, bytes | None, float, bool]],
) -> None:
    async def run(loop: VirtualLoop) -> None:
        frames: list[AudioFrame] = []
        complaints: list[object] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        playout = Playout(frames.append)
        for number, payload, pause, stalls in packets:
            playout.add(packet(number, speech()[number % 500] if payload is None else payload))
            if stalls:
                loop.now += pause
            else:
                await asyncio.sleep(pause)
        playout.close()
        assert complaints == []
        assert [frame.pts for frame in frames] == [960 * number for number in range(len(frames))]
        assert playout.frames == len(frames) <= sum(pause for _, _, pause, _ in packets) * 50 + 2 + MAX_DRAINED
        assert len(playout._pcm) < 5 * FRAME_BYTES

    in_virtual_time(run)
