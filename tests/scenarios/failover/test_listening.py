"""The ears of these tests tell what was sent from what was made up."""

from __future__ import annotations

import pytest
from av import AudioFrame

from relaycall.media.audio import COMPLEXITY, FRAME_SAMPLES, PAYLOAD_BYTES, SILENCE, pcm_frame
from relaycall.media.opus import Decoder, Encoder
from tests.scenarios.failover.listening import Arrivals, Heard, RisingTone, heard, not_heard_ms


def decoded(count: int) -> list[AudioFrame]:
    """The tone after its way through Opus."""
    source, encoder, decoder = RisingTone(), Encoder("audio", COMPLEXITY, PAYLOAD_BYTES), Decoder()
    pcm = (decoder.decode(encoder.encode(source.read() or b"")) for _ in range(count))
    return [pcm_frame(block or SILENCE, number * FRAME_SAMPLES) for number, block in enumerate(pcm)]


def played(frames: list[AudioFrame]) -> list[Heard]:
    return [heard(frame, number * 0.02) for number, frame in enumerate(frames)]


def test_all_of_it_is_heard() -> None:
    assert not_heard_ms(played(decoded(200)), 1.0) == 0


@pytest.mark.parametrize("how", ["silent", "left out", "repeated", "repeated and fading"])
@pytest.mark.parametrize("length", [1, 5, 20])
def test_what_is_missing_is_measured(how: str, length: int) -> None:
    frames = decoded(200)
    for number in range(100, 100 + length):
        if how == "silent":
            frames[number] = pcm_frame(SILENCE, frames[number].pts or 0)
        elif "repeated" in how:
            samples = memoryview(bytes(frames[99].planes[0])[: 2 * FRAME_SAMPLES]).cast("h")
            faded = [round(sample * 0.8 ** (number - 99)) for sample in samples] if "fading" in how else list(samples)
            pcm = b"".join(sample.to_bytes(2, "little", signed=True) for sample in faded)
            frames[number] = pcm_frame(pcm, frames[number].pts or 0)
    kept = [
        frame for number, frame in enumerate(played(frames)) if how != "left out" or not 100 <= number < 100 + length
    ]
    assert not_heard_ms(kept, 2.0) == 20 * length
    assert not_heard_ms(kept, 0.0) == 20 * length
    assert not_heard_ms(kept, 3.0) == 0, "it was before"


@pytest.mark.parametrize("start", [100, 117, 133, 150])
@pytest.mark.parametrize("length", [1, 3, 5, 8])
def test_what_libopus_makes_up_is_not_heard(start: int, length: int) -> None:
    """Its concealment fades, and comes to rest in its own time: a frame more or less."""
    source, encoder, decoder = RisingTone(), Encoder("audio", COMPLEXITY, PAYLOAD_BYTES), Decoder()
    frames = []
    for number in range(200):
        coded = encoder.encode(source.read() or b"")
        pcm = decoder.conceal() if start <= number < start + length else decoder.decode(coded)
        frames.append(pcm_frame(pcm or SILENCE, number * FRAME_SAMPLES))
    assert abs(not_heard_ms(played(frames), 1.0) - 20 * length) <= 20


def arrivals(numbers: list[int], times: list[float]) -> Arrivals:
    found = Arrivals()
    for number, at in zip(numbers, times, strict=True):
        found.add(number, at)
    return found


def test_no_gap_is_one_interval() -> None:
    found = arrivals(list(range(100)), [0.02 * n for n in range(100)])
    result = found.gap(1.0, 1.98)
    assert (round(result["gap_ms"]), result["lost"], round(result["open_ms"])) == (20, 0, 0)


def test_a_gap_and_what_was_lost_in_it() -> None:
    times = [0.02 * n for n in range(100)]
    numbers = [*range(50), *range(53, 100)]
    found = arrivals(numbers, [times[n] for n in numbers])
    result = found.gap(1.0, times[-1])
    assert (round(result["gap_ms"]), result["lost"], result["arrived"]) == (80, 3, 52)
    assert found.gap(1.5, times[-1])["lost"] == 0, "it was before"


def test_packets_that_come_late_are_not_lost() -> None:
    found = arrivals([0, 1, 2, 5, 3, 4, 6], [0, 0.02, 0.04, 0.14, 0.141, 0.142, 0.16])
    assert found.gap(0.0, 0.16)["lost"] == 0
    assert round(found.gap(0.0, 0.16)["gap_ms"]) == 100


def test_the_sequence_numbers_begin_again() -> None:
    found = arrivals([65534, 65535, 1, 2], [0.0, 0.02, 0.06, 0.08])
    assert found.gap(0.03, 0.08)["lost"] == 1


def test_silence_to_the_end_is_an_open_gap() -> None:
    result = arrivals([0, 1], [0.0, 0.02]).gap(0.03, 5.02)
    assert (round(result["gap_ms"]), round(result["open_ms"]), result["lost"]) == (5000, 5000, 0)
