"""The voice gives way last, in few steps, and rarely."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.quality.hearing import Hearing
from relaycall.quality.sample import PeerReport
from relaycall.quality.voice import Reason, Voice


@dataclass
class Reports:
    voice: Voice = field(default_factory=Voice)
    hearing: Hearing = field(default_factory=Hearing)
    now: float = 100.0
    received: int = 0
    lost: float = 0.0
    steps: list[tuple[float, int]] = field(default_factory=list)

    def go(
        self, seconds: int, *, queue: float = 0.0, grows: float = 0.0, loss: float = 0.0, video: bool = False
    ) -> None:
        """Each second a report. The queue is longer by `grows` in every other one."""
        for _ in range(seconds):
            self.now += 1.0
            self.lost += 50 * loss
            self.received += round(50 * (1 - loss))
            step = self.voice.step
            waits = queue + grows * (self.received // 50 % 2)
            assert self.hearing.take(self.now, PeerReport(self.received, round(self.lost), queue_ms=1000 * waits))
            self.voice.look(self.now, self.hearing, video=video)
            if step != self.voice.step:
                self.steps.append((self.now, self.voice.bitrate))


def test_it_keeps_its_rate_on_a_clean_path_and_while_there_is_video() -> None:
    reports = Reports()
    reports.go(20)
    reports.go(60, queue=2.0, loss=0.5, video=True)
    assert reports.steps == []


def test_it_gives_way_to_a_queue_and_comes_back_with_patience() -> None:
    reports = Reports()
    reports.go(10)
    reports.go(20, queue=0.3, grows=0.1)
    assert [bitrate for _, bitrate in reports.steps] == [24000, 16000]
    assert reports.voice.reason is Reason.RATE
    assert reports.steps[1][0] - reports.steps[0][0] >= 10
    at = reports.now
    reports.go(60)
    assert [bitrate for _, bitrate in reports.steps[2:]] == [24000, 32000]
    assert reports.steps[2][0] - at >= 20


def test_an_attempt_that_fails_doubles_the_wait() -> None:
    reports = Reports()
    ups = []
    for _ in range(4):
        while reports.voice.step != 1:
            reports.go(1, queue=0.3, grows=0.1)
        at = reports.now
        while reports.voice.step == 1:
            reports.go(1)
        ups.append(reports.now - at)
    assert ups == [21, 41, 81, 161]


def test_loss_that_stays_is_not_answered_by_a_lower_rate_for_long() -> None:
    reports = Reports()
    reports.go(10)
    reports.go(300, loss=0.2)
    assert [bitrate for _, bitrate in reports.steps] == [24000, 32000]
    assert reports.steps[1][0] - reports.steps[0][0] <= 8


def test_loss_that_goes_with_a_lower_rate_is_answered() -> None:
    reports = Reports()
    reports.go(10)
    while not reports.steps:
        reports.go(1, loss=0.12)
    assert reports.voice.reason is Reason.LOSS
    reports.go(15)
    assert [bitrate for _, bitrate in reports.steps] == [24000]


def test_limits_hold_at_once() -> None:
    voice = Voice()
    voice.limit(1.0, 2, Reason.PEER)
    assert (voice.bitrate, voice.reason) == (16000, Reason.PEER)


def test_expected_loss_rises_at_once_and_falls_later() -> None:
    reports = Reports()
    reports.go(10)
    assert reports.voice.expected_loss == 0
    reports.go(3, loss=0.1, video=True)
    assert reports.voice.expected_loss == 0.1
    reports.go(5, video=True)
    assert reports.voice.expected_loss == 0.1
    reports.go(9, video=True)
    assert reports.voice.expected_loss == 0


def test_a_single_lost_packet_is_not_expected_again() -> None:
    reports = Reports()
    reports.go(10)
    reports.lost += 1
    reports.go(5)
    assert reports.voice.expected_loss == 0


def test_an_outage_says_nothing_of_loss() -> None:
    reports = Reports()
    reports.go(10)
    reports.now += 5
    reports.lost += 250
    reports.go(1)
    assert reports.voice.expected_loss == 0
    reports.lost += 250  # the reports came, the voice did not
    reports.go(1)
    assert reports.voice.expected_loss == 0


def test_a_queue_that_stands_still_and_loses_nothing_is_the_paths() -> None:
    reports = Reports()
    reports.go(10)
    reports.go(1, queue=0.1)  # half of its packets came before
    reports.go(60, queue=0.28)
    assert reports.steps == []
    reports.go(5, queue=0.28, loss=0.04)
    assert [bitrate for _, bitrate in reports.steps] == [24000]
