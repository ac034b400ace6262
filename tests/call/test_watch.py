"""A running call, looked at once a second: samples, reports both ways, and what follows from them. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from relaycall.call.watch import Watch
from relaycall.errors import ConfigError, MalformedMessage
from relaycall.ice.events import PathStats
from relaycall.media.audio import AudioEncoding
from relaycall.media.counters import TransportCounters
from relaycall.media.session import AudioStats
from relaycall.quality.level import LevelChanged
from relaycall.quality.monitor import LOSS_LIMIT, RTT_LIMIT_MS
from relaycall.quality.report_format import REPORT, decode_report, encode_report
from relaycall.quality.sample import Level, PeerReport, Reading, Sample
from tests.media.paths import VirtualLoop

FRAMES = 50  # a second


@dataclass
class Transport:
    """In the place of the session's."""

    on_kind: dict[int, Any] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)

    def send_control(self, payload: bytes) -> None:
        self.sent.append(payload)


class Session:
    """One that hears fifty packets a second, but for a share of them."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.queue_ms = 3.0
        self.encoding = AudioEncoding()
        self.loss = 0.0
        self.silent = False
        self.finished = asyncio.Event()
        self.source_error = self.sink_error = None
        self._received = self._lost = 0.0
        self._at = asyncio.get_running_loop().time()

    def stats(self) -> AudioStats:
        now = asyncio.get_running_loop().time()
        passed, self._at = (now - self._at) * FRAMES, now
        self._received += 0 if self.silent else passed * (1 - self.loss)
        self._lost += 0 if self.silent else passed * self.loss
        received, lost = round(self._received), round(self._lost)
        counters = TransportCounters(packets_sent=received + 10, bytes_sent=108 * received, packets_received=received)
        return AudioStats(
            frames_sent=received,
            frames_received=received,
            frames_heard=received,
            recovered=0,
            concealed=lost,
            late=0,
            undecodable=0,
            lost=lost,
            lost_by_peer=None,
            jitter_ms=1.0,
            playout_delay_ms=40.0,
            playout_target_ms=40.0,
            round_trip_ms=None,
            transport=counters,
        )


class Connection:
    def __init__(self) -> None:
        self.rtt_ms = 30.0
        self.compared: list[float] = []

    def path_stats(self) -> list[PathStats]:
        other = PathStats("turn:other", 1, False, True, 999.0, 999.0, 5, 5)
        return [other, PathStats("turn:ours", 0, True, True, self.rtt_ms, self.rtt_ms, 5, 5)]

    def compare(self) -> None:
        self.compared.append(asyncio.get_running_loop().time())


class Rig:
    def __init__(self, **limits: float | None) -> None:
        self.session, self.connection = Session(), Connection()
        self.reports: list[tuple[float, PeerReport]] = []
        self.events: list[Any] = []
        session, connection = self._as_anything()
        self.watch = Watch(
            session,
            connection,
            complete=lambda reading: replace(reading, video_target=7),
            on_advice=connection.compare,
            on_report=lambda now, report: self.reports.append((now, report)),
            on_event=self.events.append,
            **limits,
        )
        self.start = asyncio.get_running_loop().time()

    def _as_anything(self) -> tuple[Any, Any]:
        return self.session, self.connection

    def told(self, number: int, report: PeerReport) -> None:
        self.session.transport.on_kind[REPORT](encode_report(report, number))


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def test_once_a_second_there_is_a_sample_and_the_peer_gets_a_report() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.watch.sample is None
        rig.watch.start()
        await asyncio.sleep(5.5)
        sample = rig.watch.sample
        assert sample is not None
        assert (sample.at, sample.relay, sample.rtt_ms) == (pytest.approx(5.0), "turn:ours", 30.0)
        assert (sample.loss, sample.queue_ms, sample.level) == (0.0, 3.0, Level.GOOD)
        assert sample.bitrate_sent == pytest.approx(FRAMES * 108 * 8, rel=0.05)
        assert [each.at for each in rig.watch.history.samples] == pytest.approx([1, 2, 3, 4, 5])
        found = [decode_report(payload) for payload in rig.session.transport.sent]
        assert [number for number, _ in found] == [1, 2, 3, 4, 5]
        assert [report.received for _, report in found] == [50, 100, 150, 200, 250]
        assert found[-1][1].queue_ms == 3.0
        assert rig.watch.reading.video_target == 7, "completed"
        window = rig.watch.window(5.0)
        assert window is not None
        assert window.bitrate_received == rig.watch.sample.bitrate_received  # type: ignore[union-attr]
        with pytest.raises(ConfigError):
            rig.watch.window(31.0)
        rig.watch.close()

    run(main())


def test_what_the_peer_reports_is_in_the_next_sample() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        await asyncio.sleep(0.5)
        rig.told(1, PeerReport(received=50))
        await asyncio.sleep(1.0)
        rig.told(2, PeerReport(received=90, lost=10))
        await asyncio.sleep(1.0)
        assert rig.watch.sample is not None
        assert rig.watch.sample.loss_sent == pytest.approx(0.2)
        assert [report.received for _, report in rig.reports] == [50, 90]
        assert rig.watch.reading.mine == PeerReport(received=90, lost=10)
        rig.watch.close()

    run(main())


def test_reports_that_are_late_doubled_or_none_change_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        rig.told(0, PeerReport(received=1))
        rig.told(7, PeerReport(received=50))
        rig.told(7, PeerReport(received=60))
        rig.told(3, PeerReport(received=70))
        with pytest.raises(MalformedMessage):
            rig.session.transport.on_kind[REPORT](bytes([REPORT]) + bytes(78) + b"\1")
        assert [report.received for _, report in rig.reports] == [1, 50]
        rig.told((1 << 32) - 1, PeerReport(received=99))
        assert len(rig.reports) == 3
        rig.watch.close()

    run(main())


async def tell(rig: Rig, loss: float) -> None:
    """The other side reports each second that this share of ours is lost."""
    for second in range(1, 100):
        await asyncio.sleep(0.9 if second == 1 else 1.0)
        lost = round(50 * second * loss)
        rig.told(second, PeerReport(received=50 * second - lost, lost=lost))


@pytest.mark.parametrize(
    ("limits", "rtt_ms", "loss", "compares"),
    [
        ({}, RTT_LIMIT_MS + 50, 0.0, True),
        ({}, RTT_LIMIT_MS - 50, 0.0, False),
        ({}, 30.0, 3 * LOSS_LIMIT, True),
        ({"rtt_limit_ms": None}, 900.0, 0.0, False),
        ({"loss_limit": None}, 30.0, 0.3, False),
        ({"rtt_limit_ms": 20.0}, 30.0, 0.0, True),
    ],
)
def test_a_bad_path_is_compared_with_others(
    limits: dict[str, float | None], rtt_ms: float, loss: float, compares: bool
) -> None:
    async def main() -> None:
        rig = Rig(**limits)
        rig.connection.rtt_ms = rtt_ms
        rig.watch.start()
        telling = asyncio.create_task(tell(rig, loss))
        await asyncio.sleep(4.5)
        assert rig.connection.compared == [], "not before it was bad for five seconds"
        await asyncio.sleep(5.0)
        assert len(rig.connection.compared) == compares
        await asyncio.sleep(10.0)
        assert len(rig.connection.compared) == 2 * compares, "every ten seconds"
        telling.cancel()
        rig.watch.close()

    run(main())


def test_changes_of_level_are_told_and_remembered() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        await asyncio.sleep(3.5)
        rig.session.silent = True
        await asyncio.sleep(4.0)
        changes = [event for event in rig.events if isinstance(event, LevelChanged)]
        assert changes[-1].new is Level.LOST
        assert rig.watch.sample is not None
        assert rig.watch.sample.level is Level.LOST
        assert any(mark.kind == "level" and "lost" in mark.text for mark in rig.watch.history.marks)
        rig.watch.mark("path", "something")
        assert rig.watch.history.marks[-1].at == pytest.approx(7.5)
        rig.watch.close()

    run(main())


@pytest.mark.parametrize(("interval", "count"), [(1.0, 6), (3.0, 2), (30.0, 0)])
def test_who_follows_gets_a_sample_each_interval_until_the_end(interval: float, count: int) -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        followed: list[Sample] = []

        async def follow() -> None:
            async for sample in rig.watch.samples(interval):
                followed.append(sample)  # noqa: PERF401 - they are looked at meanwhile

        following = asyncio.create_task(follow())
        await asyncio.sleep(6.5)
        assert len(followed) == count
        rig.watch.close()
        await asyncio.wait_for(following, 0.1)
        assert len(followed) == count

    run(main())


def test_a_follower_that_was_slow_gets_no_burst() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        times: list[float] = []
        loop = asyncio.get_running_loop()

        async def follow() -> None:
            async for _ in rig.watch.samples(1.0):
                times.append(loop.time() - rig.start)
                await asyncio.sleep(5.0 if len(times) == 1 else 0.0)

        following = asyncio.create_task(follow())
        await asyncio.sleep(8.5)
        assert times == pytest.approx([1.0, 6.0, 7.0, 8.0])
        rig.watch.close()
        await asyncio.wait_for(following, 0.1)

    run(main())


def test_after_the_end_what_was_seen_stays_and_nothing_is_sent() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.start()
        await asyncio.sleep(2.5)
        rig.watch.close()
        received = rig.watch.reading.theirs.received
        assert received == 125, "up to the end"
        sample, sent = rig.watch.sample, len(rig.session.transport.sent)
        rig.watch.close()
        await asyncio.sleep(5.0)
        assert rig.watch.sample is sample
        assert len(rig.session.transport.sent) == sent == 2
        assert rig.watch.reading.theirs.received == received
        assert [each async for each in rig.watch.samples(1.0)] == []

    run(main())


def test_a_call_that_ends_before_it_begins() -> None:
    async def main() -> None:
        rig = Rig()
        rig.watch.close()
        assert rig.watch.sample is None
        assert isinstance(rig.watch.reading, Reading)
        assert rig.watch.window(5.0) is None

    run(main())
