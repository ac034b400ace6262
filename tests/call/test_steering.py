"""The adaptation at work in a running call: who is told what, and when. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from relaycall.call.steering import Adapted, Steering, told
from relaycall.media.counters import TransportCounters
from relaycall.media.video.fates import Fate
from relaycall.media.video.format import Encoding
from relaycall.quality.adaptation import AudioAdapted, VideoAdapted
from relaycall.quality.ladder import LADDER, START, Limits
from relaycall.quality.sample import PeerReport
from relaycall.quality.voice import Reason
from tests.media.paths import VirtualLoop

SIZE = (1280, 720)


class Voice:
    """In the place of the session."""

    def __init__(self) -> None:
        self.encodings: list[tuple[int, float]] = []
        self.transport = SimpleNamespace(counters=TransportCounters())

    def set_encoding(self, bitrate: int, expected_loss: float) -> None:
        self.encodings.append((bitrate, expected_loss))


class Sender:
    """In the place of the video's."""

    encoding: Encoding | None = None
    held = False


class Rig:
    def __init__(self, limits: Limits | None = None) -> None:
        self.voice, self.sender = Voice(), Sender()
        self.decided: list[Adapted] = []
        self.number = 0  # of the next packet
        session: Any = self.voice
        self.steering = Steering(session, limits or Limits(), self.decided.append)
        sender: Any = self.sender
        self.steering.sender = sender

    async def all_arrives(self, seconds: float) -> None:
        """Ten times a second 25 packets leave at the rate asked for, and all of them arrive 50 ms later."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            bitrate = self.sender.encoding.bitrate if self.sender.encoding is not None else 0
            fates = []
            for index in range(25 if bitrate else 0):
                size, at = bitrate // 8 // 250, loop.time() + index * 0.004
                self.steering.sent(size)
                fates.append(Fate(self.number, size, at, at + 0.05))
                self.number += 1
            await asyncio.sleep(0.1)
            self.steering.fates(fates)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def timers() -> list[asyncio.TimerHandle]:
    handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [handle for handle in handles if not handle.cancelled()]


def test_a_source_is_shown_at_the_first_step_and_then_better() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.sender.encoding is None
        rig.steering.source(SIZE)
        assert rig.decided == [VideoAdapted(LADDER[START], Reason.BETTER)]
        assert rig.sender.encoding == LADDER[START]
        await rig.all_arrives(8.0)
        assert rig.sender.encoding is not None
        assert rig.sender.encoding.bitrate > LADDER[START].bitrate
        assert rig.decided[-1] == VideoAdapted(rig.sender.encoding, Reason.BETTER)
        assert rig.steering.available is not None
        rig.steering.source(None)
        assert rig.sender.encoding is None
        rig.steering.close()

    run(main())


def test_what_nobody_tells_of_is_decided_by_a_timer() -> None:
    """Packets leave and no word of them comes back: video is stopped, though nothing calls."""

    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        await rig.all_arrives(1.0)
        for _ in range(50):
            rig.steering.sent(1000)
        await asyncio.sleep(0.35)
        assert rig.sender.held
        assert rig.sender.encoding is not None, "it waits at first, and that is all"
        await asyncio.sleep(5.0)
        assert rig.sender.encoding is None
        rig.steering.close()

    run(main())


def test_messages_are_counted_as_what_else_is_sent() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        estimator = rig.steering._adaptation.estimator
        assert estimator.other_rate == 56_000
        counters, loop = rig.voice.transport.counters, asyncio.get_running_loop()
        for second in range(30):
            counters.control_sent += 11
            counters.rtcp_sent += 1
            counters.audio_sent += 50
            counters.video_sent += 100
            await rig.all_arrives(1.0)
            rig.steering.report(loop.time(), PeerReport(received=50 * second))
        assert estimator.other_rate == pytest.approx(56_000 + 12 * 140 * 8, abs=2000)
        rig.steering.close()

    run(main())


def test_limits_of_the_peer_come_and_go() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        rig.steering.peer_limit(50_000)
        assert rig.sender.encoding is None
        assert rig.voice.encodings == [(24_000, 0.0)]
        changes = [AudioAdapted(24_000, 0.0, Reason.PEER), VideoAdapted(None, Reason.PEER)]
        assert sorted(rig.decided[1:], key=str) == sorted(changes, key=str)
        rig.steering.peer_limit(50_000)
        assert len(rig.decided) == 3, "it is the same one"
        rig.steering.peer_limit(None)
        await asyncio.sleep(2.0)
        assert rig.sender.encoding is not None
        assert len(rig.voice.encodings) == 1, "the voice is changed rarely"
        rig.steering.close()

    run(main())


def test_reports_on_the_voice_reach_it() -> None:
    async def main() -> None:
        rig = Rig()
        received = lost = 0
        for _ in range(10):
            received, lost = received + 40, lost + 10
            rig.steering.report(asyncio.get_running_loop().time(), PeerReport(received=received, lost=lost))
            await asyncio.sleep(1.0)
        assert rig.voice.encodings
        assert rig.voice.encodings[-1][1] >= 0.2, "its coding expects the loss"
        assert any(isinstance(each, AudioAdapted) for each in rig.decided)
        rig.steering.close()

    run(main())


def test_an_encoder_that_is_too_slow_gets_less_to_do() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        await rig.all_arrives(8.0)
        before = rig.sender.encoding
        assert before is not None
        while Reason.ENCODER not in {each.reason for each in rig.decided}:
            rig.steering.encoding_takes(0.95)
            await rig.all_arrives(0.5)
        after = rig.sender.encoding
        assert after is not None
        assert after.frame_rate * after.height**2 < before.frame_rate * before.height**2
        rig.steering.close()

    run(main())


def test_another_path_is_measured_anew() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        await rig.all_arrives(3.0)
        rig.steering.path_changed()
        assert rig.sender.encoding is not None
        rig.steering.close()

    run(main())


def test_after_the_end_nothing_is_decided() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.source(SIZE)
        assert timers()
        rig.steering.close()
        assert not timers()
        before = list(rig.decided)
        rig.steering.source((640, 360))
        rig.steering.peer_limit(50_000)
        rig.steering.report(asyncio.get_running_loop().time(), PeerReport(received=1))
        rig.steering.close()
        assert rig.decided == before
        assert not timers()

    run(main())


def test_without_video_the_voice_is_steered_all_the_same() -> None:
    async def main() -> None:
        rig = Rig()
        rig.steering.sender = None
        rig.steering.peer_limit(45_000)
        assert rig.voice.encodings == [(16_000, 0.0)]
        rig.steering.close()

    run(main())


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (VideoAdapted(None, Reason.RATE), ("video", "video off: rate")),
        (VideoAdapted(LADDER[START], Reason.BETTER), ("video", "video 270 rows, 12/s, 170 kbit/s: better")),
        (AudioAdapted(24_000, 0.05, Reason.LOSS), ("audio", "voice at 24 kbit/s, for 5% loss")),
    ],
)
def test_what_a_report_says_of_a_decision(decision: Adapted, text: tuple[str, str]) -> None:
    assert told(decision) == text
