"""A path that becomes longer is no queue of ours: video loses a rung or two for seconds, the voice nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaycall.quality.estimator import Load
from relaycall.quality.hearing import REMEMBERED, Hearing
from relaycall.quality.ladder import LADDER, Limits
from relaycall.quality.sample import PeerReport
from tests.quality.links import Conditions
from tests.quality.simulated import Fated, SimulatedCall
from tests.quality.test_estimator import SIZE, Path

LONGER = 0.3  # seconds each way, after 0.02


def rung(call: SimulatedCall) -> int:
    return call.adaptation.rung


@pytest.mark.parametrize("jitter", [0.0, 0.02])
@pytest.mark.parametrize("limit", [600_000, None])
def test_video_loses_a_few_rungs_and_is_back_in_seconds(limit: int | None, jitter: float) -> None:
    call = SimulatedCall(
        Conditions(delay=0.02, jitter=jitter),
        1,
        Limits(max_bitrate=limit),
        steps=((30.0, {"delay": LONGER}),),
    )
    call.run(30)
    before = rung(call)
    for tenth in range(300, 400):
        call.run(tenth / 10)
        assert rung(call) >= before - 3
    assert rung(call) == before
    call.run(100)
    assert rung(call) == before
    assert call.audio_changes == []


def test_a_link_that_is_known_and_becomes_longer_and_shorter() -> None:
    """It has been full before, and is afterwards."""
    steps = ((30.0, {"delay": LONGER}), (60.0, {"delay": 0.02}))
    call = SimulatedCall(Conditions(rate=6e5, delay=0.02), 2, steps=steps)
    call.run(30)
    before = rung(call)
    for second in range(31, 91):
        call.run(second)
        assert rung(call) >= before - 4
    assert call.video_rate(80, 90) >= LADDER[before - 1].bitrate
    assert call.audio_changes == []
    assert call.audio_loss(0, 90) == 0


def test_a_voice_alone_is_not_lowered() -> None:
    call = SimulatedCall(Conditions(delay=0.02), 1, source=None, steps=((20.0, {"delay": LONGER}),))
    call.run(80)
    assert call.audio_changes == []


def test_a_queue_that_stays_the_same_after_a_rest_is_not_ours_and_one_that_began_anew_is() -> None:
    path = Path()
    path.send(5, 300_000)
    path.base += 0.28
    path.send(4, 300_000)
    assert path.estimator.measured == 1
    assert path.estimator.capacity is None
    assert path.estimator.load is Load.CLEAR
    again = Path()
    again.send(5, 300_000)
    for _ in range(2):
        again.send(0.6, 1_200_000, link=400_000)
        again.pause(2)
    assert again.estimator.measured == 2
    assert again.estimator.capacity == pytest.approx(400_000, rel=0.1)


def test_what_stands_is_not_counted_in_the_peers_reports_until_the_peer_has_forgotten() -> None:
    hearing = Hearing()
    hearing.stands(100.0, 0.28)
    assert hearing.take(101.0, PeerReport(received=50, queue_ms=300))
    assert hearing.queue == pytest.approx(0.02)
    assert hearing.take(102.0, PeerReport(received=100, queue_ms=10))
    assert hearing.take(103.0, PeerReport(received=150, queue_ms=300))
    assert hearing.queue == pytest.approx(0.3), "the path was short again, and this is a queue"
    hearing.stands(104.0, 0.28)
    assert hearing.take(104.0 + REMEMBERED, PeerReport(received=200, queue_ms=300))
    assert hearing.queue == pytest.approx(0.3)
    hearing.stands(150.0, 0.28)
    hearing.stands(151.0, 0.0)
    assert hearing.take(152.0, PeerReport(received=250, queue_ms=300))
    assert hearing.queue == pytest.approx(0.3), "it is another path"


def test_a_queue_that_passes_does_not_look_like_a_wider_link() -> None:
    """The encoder sends too much for a while. A packet takes 45 ms here, with nothing before it."""
    path = Path()
    path.send(3, 150_000)
    path.send(0.6, 800_000, link=200_000)
    path.pause(2)
    path.send(4, 100_000, standing=0.045, jitter=0.1)
    path.send(3, 100_000, standing=0.045)
    assert path.estimator.relieved == 0
    assert path.estimator.measured == 1
    assert path.estimator.capacity is not None
    path.send(3, 100_000)
    assert path.estimator.relieved == 1


def waited(path: Path, *waits: float, every: float) -> list[Fated]:
    """Packets that were sent one after the other, and how long each waited."""
    fates = []
    for wait in waits:
        path.now += every
        path.number += 1
        fates.append(Fated(path.number, SIZE, path.now, path.now + path.base + wait + path.offset))
    return fates


def lost(path: Path, count: int, *, untold: bool, every: float) -> list[Fated]:
    return [replace(fate, arrived_at=None, untold=untold) for fate in waited(path, *[0.0] * count, every=every)]


def test_a_link_that_was_hardly_full_yet_is_not_measured_by_what_was_before() -> None:
    """The first word after a cut: two packets waited, the rest was lost. They say what the link carries."""
    path = Path()
    path.send(3, 800_000)
    path.now += 0.05
    path.tell()
    first = waited(path, 0.04, 0.08, every=0.01)
    path.now += 1.1
    path.estimator.fates(path.now, first + lost(path, 40, untold=False, every=0.001))
    assert path.estimator.load is Load.QUEUED
    assert path.estimator.capacity is not None
    assert path.estimator.capacity <= 300_000


@pytest.mark.parametrize("untold", [True, False])
def test_what_came_and_was_not_told_does_not_make_a_link_narrower(untold: bool) -> None:
    """A packet takes 46 ms. Between the first that waited and the last ones some came of which nobody said so."""
    path = Path()
    path.send(3, 800_000)
    path.pause(0.2)
    fates = waited(path, 0.04, 0.08, every=0.01)
    fates += lost(path, 20, untold=untold, every=0.01)
    fates += waited(path, 0.25, 0.286, 0.322, 0.358, 0.394, every=0.01)
    path.now += 0.5
    path.estimator.fates(path.now, fates)
    assert path.estimator.load is Load.QUEUED
    assert path.estimator.capacity == pytest.approx(210_000, rel=0.1)


def test_a_step_while_video_pauses_is_no_reason_to_leave_it_off() -> None:
    call = SimulatedCall(Conditions(delay=0.02), 3, steps=((30.0, {"delay": 0.12}), (31.0, {"delay": LONGER})))
    call.run(50)
    assert call.adaptation.encoding is not None
    assert call.audio_changes == []


def test_nothing_heard_is_known_in_less_than_a_second() -> None:
    """While both sides' queues are full, neither hears what the other says: video waits for the voice."""
    path = Path()
    path.send(3, 300_000)
    for _ in range(6):
        path.now += 0.1
        path.estimator.sent(path.now, SIZE)
        path.estimator.handle_timeout(path.now)
    assert path.estimator.load is Load.SILENT
