"""What is allowed whatever the path carries: limits, the encoder, the source. All that is sent arrives here."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.media.video.format import Encoding
from relaycall.quality.adaptation import INTERVAL, Adaptation, AudioAdapted, Video, VideoAdapted
from relaycall.quality.estimator import Load
from relaycall.quality.ladder import LADDER, OFF, START, Limits, pixel_rate
from relaycall.quality.sample import PeerReport
from relaycall.quality.voice import Reason
from tests.quality.simulated import Fated

NUMBERS = itertools.count()


def on(limits: Limits | None = None, size: tuple[int, int] = (1280, 720)) -> Adaptation:
    adaptation = Adaptation(limits or Limits())
    adaptation.set_source(100.0, size)
    return adaptation


def flow(adaptation: Adaptation, now: float, seconds: float) -> float:
    """Packets that all arrive, as fast as it says."""
    end = now + seconds
    while now < end:
        now += INTERVAL
        encoding = adaptation.encoding
        fates = []
        for _ in range(round(encoding.bitrate * INTERVAL / 8800) + 1 if encoding else 0):
            adaptation.sent(now - INTERVAL, 1100)
            fates.append(Fated(next(NUMBERS), 1100, now - INTERVAL, now))
        adaptation.fates(now, fates)
        if now >= adaptation.next_timeout():
            adaptation.handle_timeout(now)
    return now


def test_without_a_source_there_is_no_video() -> None:
    adaptation = Adaptation()
    assert (adaptation.encoding, adaptation.audio_bitrate, adaptation.expected_loss) == (None, 32000, 0.0)
    assert adaptation.next_timeout() == float("inf")
    adaptation.set_source(1.0, (640, 360))
    assert adaptation.encoding is not None
    adaptation.set_source(2.0, None)
    assert adaptation.encoding is None
    assert adaptation.next_timeout() == float("inf")


def test_it_starts_in_the_middle_and_goes_up_a_rung_at_a_time() -> None:
    adaptation = on()
    assert adaptation.encoding == Encoding(170_000, 12, 270)
    flow(adaptation, 100.0, 30)
    decisions = adaptation.take_decisions()
    assert adaptation.encoding == LADDER[-1]
    rates = [
        decision.encoding.bitrate for decision in decisions if isinstance(decision, VideoAdapted) and decision.encoding
    ]
    assert rates == [rung.bitrate for rung in LADDER[-len(rates) :]]


def test_low_data() -> None:
    adaptation = on(Limits(low_data=True))
    now = flow(adaptation, 100.0, 20)
    encoding = adaptation.encoding
    assert encoding is not None
    assert (encoding.bitrate, encoding.height) == (86_000, 180)
    adaptation.set_limits(now, Limits())
    flow(adaptation, now, 20)
    assert adaptation.encoding is not None
    assert adaptation.encoding.bitrate > 500_000


def test_what_else_is_sent_takes_its_room() -> None:
    """Messages about the other side's video count within a limit. Learnt slowly, and 50k at most."""
    adaptation = on(Limits(max_bitrate=370_000))
    now = flow(adaptation, 100.0, 20)
    assert adaptation.encoding == LADDER[7]
    for _ in range(20):
        adaptation.sent_besides(40_000)
    now = flow(adaptation, now, 1)
    assert adaptation.encoding == LADDER[6]
    for rate in (1e12, -1e12, 1e12):
        adaptation.sent_besides(rate)
    flow(adaptation, now, 1)
    assert adaptation.encoding is not None
    assert 56_000 <= adaptation.estimator.other_rate <= 106_000
    for _ in range(50):
        adaptation.sent_besides(0.0)
    assert adaptation.estimator.other_rate == pytest.approx(56_000, abs=1)


@pytest.mark.parametrize(("capacity", "goes_on"), [(125_000, True), (115_000, False)])
def test_the_last_rung_needs_no_room_to_spare(capacity: int, goes_on: bool) -> None:
    """60 kbit/s and the voice take 120: nine tenths of the path are less, but video off is a lot less."""
    adaptation = on()
    now = flow(adaptation, 100.0, 2)
    adaptation.estimator.capacity, adaptation.estimator.load = capacity, Load.TRIED
    adaptation.estimator.measured += 1
    adaptation.estimator._until = adaptation.estimator._trusted_until = now + 10
    flow(adaptation, now, 0.2)
    assert adaptation.video is (Video.ON if goes_on else Video.WAITING)
    assert adaptation.rung == (0 if goes_on else OFF)


def test_the_first_picture_is_no_trial() -> None:
    """It is a keyframe, and makes a queue of its own."""
    adaptation = on()
    assert adaptation.estimator._trial.limit(100.0) == float("inf")
    now = flow(adaptation, 100.0, 3)
    assert adaptation.rung > START
    assert adaptation.estimator._trial.limit(now) < 0.1


def test_it_looks_when_a_packet_is_overdue() -> None:
    adaptation = on()
    now = flow(adaptation, 100.0, 5)
    adaptation.sent(now + 0.001, 1100)
    looks = 0
    while not adaptation.held and looks < 10:
        now = adaptation.next_timeout()
        adaptation.handle_timeout(now)
        looks += 1
    assert adaptation.held
    assert now == adaptation.estimator.overdue_at, "neither earlier nor a tenth of a second later"
    assert adaptation.encoding is not None, "nothing is changed yet"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_bitrate=100_000), Reason.LIMIT),
        (Limits(relay_cap=100_000), Reason.LIMIT),
        (Limits(receive_limit=100_000), Reason.PEER),
    ],
)
def test_who_leaves_no_room_for_video_is_told(limits: Limits, reason: Reason) -> None:
    adaptation = on()
    adaptation.take_decisions()
    adaptation.set_limits(102.0, limits)
    assert adaptation.encoding is None
    assert adaptation.take_decisions() == [VideoAdapted(None, reason)]
    adaptation.set_limits(105.0, Limits())
    assert adaptation.encoding is not None
    assert on(limits).take_decisions() == [VideoAdapted(None, reason)]


def test_limits_lower_the_voice_last() -> None:
    adaptation = on(Limits(receive_limit=50_000))
    assert adaptation.audio_bitrate == 24000
    assert AudioAdapted(24000, 0.0, Reason.PEER) in adaptation.take_decisions()
    assert on(Limits(receive_limit=8_000)).audio_bitrate == 16000
    assert on(Limits(receive_limit=56_000)).audio_bitrate == 32000


def test_a_peer_that_changes_its_mind_all_the_time_gets_no_flood_of_keyframes() -> None:
    adaptation = on()
    taken = 0
    for k in range(200):
        adaptation.set_limits(100 + k * 0.05, Limits(receive_limit=50_000 if k % 2 else None))
        taken += sum(isinstance(decision, VideoAdapted) for decision in adaptation.take_decisions())
    assert taken <= 2 * 10 + 4


def test_an_encoder_that_cannot_keep_up() -> None:
    adaptation = on()
    now = flow(adaptation, 100.0, 30)
    adaptation.take_decisions()
    adaptation.encoder_overrun(now, 0.8)
    assert adaptation.encoding == LADDER[-1]
    adaptation.encoder_overrun(now, 1.3)
    first = adaptation.encoding
    assert first is not None
    assert first.frame_rate * first.height**2 < 30 * 720**2
    assert adaptation.take_decisions() == [VideoAdapted(first, Reason.ENCODER)]
    adaptation.encoder_overrun(now + 1, 1.3)  # it has just begun
    assert adaptation.encoding == first
    adaptation.encoder_overrun(now + 3, 1.3)
    assert adaptation.encoding is not None
    assert adaptation.encoding.bitrate < first.bitrate
    adaptation.encoder_overrun(now + 3, 0.3)
    now = flow(adaptation, now + 3, 50)
    assert adaptation.encoding.bitrate < first.bitrate, "the second rest is longer"
    flow(adaptation, now, 40)
    assert adaptation.encoding == LADDER[-1]


def test_an_encoder_that_has_hardly_time_is_not_given_more() -> None:
    adaptation = on()
    now = flow(adaptation, 100.0, 3)
    adaptation.encoder_overrun(now, 0.85)
    rung = adaptation.rung
    now = flow(adaptation, now, 10)
    assert pixel_rate(adaptation.rung, 720) <= pixel_rate(rung, 720) / 0.85 * 0.9
    assert adaptation.rung < len(LADDER) - 1
    adaptation.encoder_overrun(now, 0.2)
    flow(adaptation, now, 30)
    assert adaptation.rung == len(LADDER) - 1


def test_an_encoder_that_cannot_do_the_least() -> None:
    adaptation = on()
    for k in range(12):
        adaptation.encoder_overrun(103.0 + 3 * k, 2.0)
    assert adaptation.encoding is None
    assert adaptation.take_decisions()[-1] == VideoAdapted(None, Reason.ENCODER)


def test_a_smaller_source() -> None:
    adaptation = on()
    now = flow(adaptation, 100.0, 30)
    adaptation.take_decisions()
    adaptation.set_source(now, (320, 180))
    (decision,) = adaptation.take_decisions()
    assert isinstance(decision, VideoAdapted)
    assert decision.reason is Reason.SOURCE
    assert decision.encoding is not None
    assert decision.encoding.bitrate <= 250_000


OPERATIONS = st.one_of(
    st.tuples(st.just("limits"), st.sampled_from([None, 8000, 45_000, 130_000, 400_000, 10**9])),
    st.tuples(st.just("source"), st.sampled_from([None, (0, 5), (16, 16), (640, 360), (720, 1280), (1920, 1080)])),
    st.tuples(st.just("overrun"), st.one_of(st.floats(), st.just(1.5))),
    st.tuples(st.just("flow"), st.floats(0.0, 1.0)),
    st.tuples(st.just("moved"), st.none()),
    st.tuples(st.just("report"), st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0, 2000))),
)


@settings(max_examples=60)
@given(st.lists(OPERATIONS, max_size=60))
def test_whatever_happens_the_limits_hold(operations: list[tuple[str, Any]]) -> None:
    adaptation = Adaptation()
    now, number, received, lost = 1000.0, 0, 0, 0
    for kind, value in operations:
        now += 0.3
        if kind == "limits":
            adaptation.set_limits(now, Limits(max_bitrate=value))
        elif kind == "source":
            adaptation.set_source(now, value)
        elif kind == "overrun":
            adaptation.encoder_overrun(now, value)
        elif kind == "moved":
            adaptation.path_changed(now)
        elif kind == "report":
            received, lost = received + value[0], lost + value[1]
            adaptation.report(now, PeerReport(received, lost, queue_ms=value[2]))
        else:
            for k in range(20):
                adaptation.sent(now, 1100)
                adaptation.fates(now, [Fated(number, 1100, now, now if k / 20 >= value else None)])
                number += 1
        if now >= adaptation.next_timeout():
            adaptation.handle_timeout(now)
        assert (adaptation.rung != OFF) == (adaptation.video is Video.ON)
        most = adaptation.limits.total - 40_000
        assert adaptation.encoding is None or adaptation.encoding.bitrate <= most
        assert len(adaptation.take_decisions()) <= 16
