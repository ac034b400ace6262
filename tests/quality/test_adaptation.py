"""What is given up, and when: simulated calls over bad links, in virtual time. `make bench` has the figures themselves.

Bounds here are looser than what is measured, and hold for each seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from relaycall.quality.estimator import Load
from relaycall.quality.ladder import LADDER, OFF, Limits
from relaycall.quality.sample import PeerReport
from relaycall.quality.voice import Reason
from tests.quality.links import Conditions
from tests.quality.simulated import Fated, SimulatedCall

MAX_WIRE = 2_800_000  # bit/s: the highest rung, and voice

Steps = tuple[tuple[float, dict[str, Any]], ...]


def run(until: float, conditions: Conditions, *, seed: int = 1, steps: Steps = (), **options: Any) -> SimulatedCall:
    call = SimulatedCall(conditions, seed=seed, steps=steps, **options)
    call.run(until)
    return call


def changes(call: SimulatedCall, since: float, until: float) -> int:
    return sum(since <= change.at < until for change in call.changes)


# --- the links that the figures are of -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("queue", [0.15, 0.3, 1.0])
def test_a_cut_spares_the_voice(queue: float, seed: int) -> None:
    call = run(
        60,
        Conditions(rate=1.3e6, queue=queue),
        seed=seed,
        limits=Limits(max_bitrate=1_150_000),
        steps=((20, {"rate": 2e5}), (40, {"rate": 1.3e6})),
    )
    assert call.video_rate(17, 20) > 1_000_000
    assert call.audio_loss(21, 40) < 0.01
    assert min(change.at for change in call.changes if change.at >= 20) < 22
    assert max(call.wait(23, 26)) < 0.15
    assert 0.65 <= call.use(25, 40, 2e5) <= 0.97
    assert call.video_rate(55, 60) > 800_000


@pytest.mark.parametrize(
    "rate", [150, pytest.param(200, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow), 600]
)
def test_a_steady_link_is_used_and_not_filled(rate: int) -> None:
    call = run(60, Conditions(rate=1000 * rate))
    assert 0.68 <= call.use(30, 60, 1000 * rate) <= 0.95
    assert call.audio_loss(0, 60) < 0.01
    waits = sorted(call.wait(10, 60))
    assert waits[int(0.95 * len(waits))] < 0.2
    assert changes(call, 20, 60) <= 12


@pytest.mark.slow
def test_it_does_not_oscillate() -> None:
    """Each attempt that failed doubles the time until the next: three changes each, two or three in two minutes."""
    call = run(150, Conditions(rate=4e5))
    assert changes(call, 30, 150) <= 9


@pytest.mark.slow
def test_a_rate_that_halves_and_recovers() -> None:
    steps = tuple((20.0 * k, {"rate": 5e5 if k % 2 else 1e6}) for k in range(1, 6))
    call = run(120, Conditions(rate=1e6), steps=steps)
    assert call.audio_loss(0, 120) < 0.01
    assert changes(call, 20, 120) <= 50
    for k in range(1, 6, 2):
        assert max(call.wait(20 * k + 3, 20 * k + 10)) < 0.15


@pytest.mark.parametrize("feedback_loss", [0.0, 1.0])
@pytest.mark.parametrize("kept", [False, True])
def test_a_blackout(kept: bool, feedback_loss: float) -> None:
    """No video while nothing is known to arrive; afterwards the same as before."""
    if kept:
        dark, light = {"rate": 0.0, "feedback_loss": feedback_loss}, {"rate": 1e6, "feedback_loss": 0.0}
    else:
        dark, light = {"loss": 1.0, "feedback_loss": feedback_loss}, {"loss": 0.0, "feedback_loss": 0.0}
    call = run(45, Conditions(rate=1e6, queue=2.0), steps=((30, dark), (35, light)))
    assert call.video_rate(31, 35) < 100_000
    assert call.video_rate(37.5, 45) > 0.7 * call.video_rate(25, 30)
    assert call.audio_loss(36, 45) < 0.01
    assert call.audio_changes == []


def test_a_long_queue_is_not_filled() -> None:
    call = run(60, Conditions(rate=5e5, queue=1.0))
    assert max(call.wait(0, 60)) < 0.4
    assert call.audio_loss(0, 60) == 0


@pytest.mark.parametrize("loss", [pytest.param(0.03, marks=pytest.mark.slow), 0.1])
def test_random_loss_leaves_the_video_alone(loss: float) -> None:
    call = run(40, Conditions(rate=3e6, loss=loss))
    assert call.video_rate(20, 40) > 500_000
    assert {change.bitrate for change in call.audio_changes} <= {32000}
    assert loss / 2 <= call.adaptation.expected_loss <= 0.2


def test_much_loss_turns_the_video_off_and_prepares_the_voice() -> None:
    call = run(60, Conditions(rate=3e6, loss=0.35))
    assert call.adaptation.encoding is None
    assert next(change.reason for change in call.changes if change.encoding is None) is Reason.LOSS
    assert call.adaptation.expected_loss == 0.3


def test_a_policer_is_found() -> None:
    call = run(60, Conditions(rate=5e5, policed=True))
    assert call.audio_loss(5, 60) < 0.02
    assert 0.6 <= call.use(20, 60, 5e5) <= 0.97


def test_a_long_way() -> None:
    call = run(60, Conditions(rate=1e6, delay=0.3, queue=1.0), steps=((30, {"rate": 2e5}),))
    assert call.video_rate(25, 30) > 500_000
    assert max(call.wait(35, 60)) < 0.35
    assert call.audio_loss(32, 60) < 0.02


@pytest.mark.slow
def test_other_traffic_comes_and_goes() -> None:
    call = run(90, Conditions(rate=1e6), steps=((30, {"other": 4e5}), (60, {"other": 0.0})))
    assert call.audio_loss(0, 90) < 0.01
    assert 0.6 <= (call.use(35, 60, 1e6) + 0.4) <= 1.0
    assert call.video_rate(80, 90) > 1.3 * call.video_rate(40, 60)


@pytest.mark.slow
def test_a_download_takes_the_video_and_not_the_voice() -> None:
    call = run(90, Conditions(rate=2e6), steps=((20, {"greedy": 1}), (50, {"greedy": 0})))
    assert call.audio_loss(0, 90) < 0.01
    assert call.video_rate(80, 90) > 500_000


def test_feedback_that_is_lost_and_late_does_not_end_the_video() -> None:
    call = run(60, Conditions(rate=8e5, feedback_loss=0.3, feedback_delay=0.2))
    assert call.video_rate(10, 60) > 100_000
    assert call.audio_loss(0, 60) < 0.01


def test_jitter() -> None:
    call = run(40, Conditions(rate=2e6, jitter=0.06))
    assert call.video_rate(20, 40) > 1_000_000


@pytest.mark.parametrize("rate", [pytest.param(42, marks=pytest.mark.slow), 50, 100])
def test_a_link_that_carries_no_video_carries_the_voice(rate: int) -> None:
    """Nothing is told of the other side's video: there is none, on such a link."""
    call = run(120, Conditions(rate=1000 * rate), tells=False)
    assert call.video_rate(10, 120) < 10_000
    assert call.audio_loss(20, 120) < 0.08
    assert len(call.audio_changes) <= 25
    assert changes(call, 0, 120) <= 14


# --- lies ------------------------------------------------------------------------------------------------------------


def told(change: Callable[[Fated], float | None]) -> Callable[[list[Fated]], list[Fated]]:
    return lambda fates: [Fated(fate.number, fate.size, fate.sent_at, change(fate)) for fate in fates]


@pytest.mark.parametrize(
    "lie",
    [
        told(lambda fate: None),
        told(lambda fate: fate.sent_at),
        told(lambda fate: 7.0),
        told(lambda fate: -fate.sent_at),
        told(lambda fate: 1.5 * fate.sent_at),
        told(lambda fate: math.nan),
        told(lambda fate: math.inf),
        told(lambda fate: 1e300),
        lambda fates: [],
        lambda fates: fates * 3,
        lambda fates: [Fated(fate.number + 10**12, fate.size, fate.sent_at, fate.arrived_at) for fate in fates],
    ],
    ids=["lost", "at once", "the same", "backwards", "slower", "nan", "inf", "huge", "silent", "thrice", "number"],
)
def test_lies_do_not_harm_the_voice(lie: Callable[[list[Fated]], list[Fated]]) -> None:
    call = run(40, Conditions(rate=1e6), lie=lie, limits=Limits(max_bitrate=2_000_000))
    assert call.audio_loss(0, 40) < 0.05
    assert max(call.delivered.values()) * 8 < 1.1e6
    assert changes(call, 0, 40) < 40
    assert {change.bitrate for change in call.audio_changes} <= {32000}


def test_who_says_that_all_is_well_while_the_voice_is_lost_gets_no_video() -> None:
    """Every packet arrived at once, says the peer, and that much of the voice did not."""
    latest = -1

    def lie(fates: list[Fated]) -> list[Fated]:
        nonlocal latest
        first, latest = latest + 1, max([latest, *(fate.number for fate in fates)])
        at = min((fate.sent_at for fate in fates), default=0.0)
        return [Fated(number, 1100, at, at) for number in range(first, latest + 1)]

    call = run(60, Conditions(rate=3e5), lie=lie)
    assert call.audio_loss(20, 60) < 0.2
    assert any(change.encoding is None and change.reason is Reason.RATE for change in call.changes)


@pytest.mark.parametrize(
    "report",
    [
        PeerReport(received=0, lost=10**12, queue_ms=1e12),
        PeerReport(received=-5, lost=-7, queue_ms=-1),
        PeerReport(received=5, lost=5, queue_ms=math.nan),
    ],
)
def test_false_reports(report: PeerReport) -> None:
    call = run(40, Conditions(rate=1e6), report_lie=lambda true: report)
    assert call.video_rate(20, 40) > 400_000
    assert {change.bitrate for change in call.audio_changes} <= {32000}


def test_who_says_that_the_voice_is_late_gets_no_video() -> None:
    call = run(60, Conditions(rate=1e6), report_lie=lambda true: PeerReport(true.received, true.lost, queue_ms=50_000))
    assert call.adaptation.encoding is None
    assert call.adaptation.audio_bitrate >= 16000


# --- off and on ------------------------------------------------------------------------------------------------------


def test_no_video_is_asked_for_while_a_queue_passes() -> None:
    call = run(31, Conditions(rate=1.3e6, queue=1.0), steps=((30, {"rate": 2e5}),))
    assert call.adaptation.estimator.load is Load.QUEUED
    assert call.adaptation.encoding is None
    assert call.adaptation.rung != OFF


def test_video_that_is_off_is_tried_again_with_growing_patience() -> None:
    call = run(150, Conditions(rate=1e5))
    starts = [b.at for a, b in itertools.pairwise(call.changes) if a.encoding is None]
    pauses = [b - a for a, b in itertools.pairwise(starts)]
    assert len(pauses) >= 3
    assert all(later > 1.4 * earlier for earlier, later in itertools.pairwise(pauses))


def test_content_that_needs_little_is_not_raised_without_end() -> None:
    """A still picture says nothing of what the path carries."""
    call = run(60, Conditions(rate=5e5), sent_share=0.1)
    assert call.video_rate(40, 60) <= 1_000_000


def test_the_highest_rate_is_never_exceeded() -> None:
    call = run(60, Conditions())
    assert call.adaptation.encoding == LADDER[-1]
    assert max(call.delivered.values()) * 8 < 1.05 * MAX_WIRE
