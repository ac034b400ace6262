"""The peer itself is hostile, and has all the keys: lies, floods and rubbish about video and as video.

Bob sends what he likes. Alice's voice and hers of him go on, what she holds and what she sends is bounded, and she can
hang up at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent, VideoEnded
from relaycall.call.media_call import MediaCall
from relaycall.call.running import Running
from relaycall.media.audio import ToneSource
from relaycall.media.srtp import BARE_HEADER
from relaycall.media.transport import VIDEO_BUDGET_PACKETS, RtpTransport
from relaycall.media.video import frames, history, receiver
from relaycall.media.video.feedback import ARRIVALS, WANTS, Arrivals, Wants, encode_arrivals, encode_wants
from relaycall.media.video.format import MAX_BITRATE, VideoCodec
from relaycall.media.video.pieces import FIRST, KEYFRAME
from relaycall.media.video.receiver import VideoReceiver
from relaycall.media.video.sender import KEYFRAME_SECONDS, VideoSender
from relaycall.quality.report_format import REPORT, encode_report
from relaycall.quality.sample import PeerReport
from tests.call.pictures import Scene, Screen
from tests.leaks import no_leaks
from tests.media.video.coded import some_frames, vp8_header
from tests.scenarios.calling import PASSWORD, USERNAME, close, connect, embedded_relays, heard, session, until
from tests.scenarios.canaries import Canaries, bind_sockets, shown_by_objects
from tests.scenarios.test_hostile_packets import at_full_rate, longest_gap

VP8 = VideoCodec.VP8
SECONDS = pytest.mark.parametrize("seconds", [0.6, pytest.param(6.0, marks=pytest.mark.slow)])
SHORT = 0.6  # seconds
TICK = 0.01  # seconds between what Bob sends: 100 a second, which with his voice is within what Alice takes in
CLOSE_LIMIT = 2.0
HOST = "127.0.0.21"  # Alice's


class Victim:
    """Alice, and Bob with his hands on his own transport.

    Attributes:
        screen: what Alice sees.
        number: of Bob's next packet of video.
    """

    def __init__(self, alice: MediaCall, bob: MediaCall, screen: Screen) -> None:
        self.alice, self.bob, self.screen = alice, bob, screen
        self.number, self.timestamp = 20_000, 1 << 20  # far from where his own sender begins

    @property
    def hands(self) -> RtpTransport:
        return session(self.bob).transport

    @property
    def running(self) -> Running:
        assert self.alice._running is not None
        return self.alice._running

    @property
    def sender(self) -> VideoSender:
        assert self.running._picture.sender is not None
        return self.running._picture.sender

    @property
    def receiver(self) -> VideoReceiver:
        assert self.running._picture.receiver is not None
        return self.running._picture.receiver

    async def gets(self, make: Callable[[], bytes], seconds: float) -> int:
        """Bob sends a control packet every 10 ms; gives how many."""
        return await self.does(lambda: self.hands.send_control(make()), seconds)

    async def does(self, act: Callable[[], object], seconds: float) -> int:
        """Bob does this every 10 ms, and catches up when he is late; gives how often."""
        loop = asyncio.get_running_loop()
        start, done = loop.time(), 0
        while (passed := loop.time() - start) < seconds:
            while done * TICK <= passed:
                act()
                done += 1
            await asyncio.sleep(TICK / 2)
        return done

    def show(self, data: bytes, *, keyframe: bool, payload_type: int = 97, piece: int = 1100) -> None:
        """Bob sends a frame."""
        cuts = [data[start : start + piece] for start in range(0, len(data), piece)]
        for index, cut in enumerate(cuts):
            descriptor = bytes([(0 if index else FIRST) | (KEYFRAME if keyframe else 0)])
            self.piece(descriptor + cut, last=index == len(cuts) - 1, payload_type=payload_type)
        self.timestamp += 3000

    def piece(self, payload: bytes, *, last: bool = False, payload_type: int = 97, skip: int = 0) -> None:
        self.number += skip
        self.hands.send_video(self.number, payload_type, self.timestamp, payload, last=last)
        self.number += 1

    def bounded(self) -> None:
        """Nothing that Alice holds is larger than it may be."""
        sender, taken = self.sender, self.receiver._buffer
        assert len(sender._history._packets) <= history.KEPT_PACKETS
        assert len(sender._fates) <= 1024
        assert sender._pacer.seconds < 5
        assert len(taken._pieces) <= frames.MAX_PIECES
        assert len(taken._missing) <= frames.MAX_MISSING
        assert len(self.receiver._line) <= receiver.MAX_LINE
        assert len(asyncio.all_tasks()) < 60

    async def unharmed(self) -> None:
        """Both are heard at full rate, nothing of the voice was lost, and what is held is bounded."""
        self.bounded()
        await at_full_rate(self.alice, self.bob)
        assert session(self.alice).stats().lost == session(self.bob).stats().lost == 0


@asynccontextmanager
async def victim(*, sink: bool = True, shows: bool = True, scene: Scene | None = None) -> AsyncIterator[Victim]:
    screen = Screen()
    options = MediaOptions(laboratory=True)
    ends: dict[str, Any] = {
        "video": (scene or Scene(320, 180, 15)) if shows else None,
        "video_sink": screen if sink else None,
    }
    loop = asyncio.get_running_loop()
    async with no_leaks(), embedded_relays(1) as (_, servers):
        alice = MediaCall(servers, caller=True, source=ToneSource(440), options=options, **ends)
        bob = MediaCall(servers, caller=False, source=ToneSource(660), options=options, video_sink=Screen())
        try:
            async with longest_gap():
                await connect(alice, bob)
                await heard(alice, bob)
                found = Victim(alice, bob, screen)
                if shows:
                    await until(lambda: found.sender.stats().packets > 5)
                yield found
        finally:
            start = loop.time()
            await close(alice, bob)
            took = loop.time() - start
    assert took < CLOSE_LIMIT


# --- what he says of what he gets -------------------------------------------------------------------------------------


def but_for_the_first(*values: Any) -> list[Any]:
    """All, of which the others are slow."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]


@pytest.mark.parametrize("kind", but_for_the_first(WANTS, ARRIVALS, REPORT))
async def test_rubbish_in_messages(kind: int) -> None:
    async with victim() as call:
        transport = session(call.alice).transport
        luck = random.Random(kind)
        before = transport.counters.dropped.malformed

        def rubbish() -> bytes:
            return bytes([kind]) + bytes(luck.choice([0, 0, 1, 255, luck.randrange(256)]) for _ in range(79))

        count = await call.gets(rubbish, SHORT)
        await until(lambda: transport.counters.dropped.malformed >= before + 0.95 * count)
        assert call.sender.error is None
        await call.unharmed()


@pytest.mark.slow
@SECONDS
async def test_endless_wishes_for_a_keyframe(seconds: float) -> None:
    async with victim() as call:
        before = call.sender.stats().keyframes
        wish = encode_wants(Wants(keyframe=True))
        asked = await call.gets(lambda: wish, seconds)
        made = call.sender.stats().keyframes - before
        print(f"{made} keyframes for {asked} wishes in {seconds} s")
        assert 0 < made <= seconds / KEYFRAME_SECONDS + 1
        await call.unharmed()


@SECONDS
@pytest.mark.slow
async def test_wanting_everything_again_all_the_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """38 packets in each message: in any second he gets half of the bit rate, or 10 packets, in all."""
    async with victim(scene=Scene(640, 360, 30)) as call:
        await until(lambda: call.sender.stats().packets > 25)
        before, transport, loop = call.sender.stats(), session(call.alice).transport, asyncio.get_running_loop()
        asked, bitrate, gets = 0, 0, []
        first_time, again = transport.send_video, transport.send_video_again
        anew = False

        def send_video(*values: Any, **named: Any) -> bytes | None:
            nonlocal anew
            anew = True
            packet = first_time(*values, **named)
            anew = False
            return packet

        def send_again(packet: bytes) -> bool:
            if not anew:
                gets.append((loop.time(), len(packet)))
            return again(packet)

        monkeypatch.setattr(transport, "send_video", send_video)
        monkeypatch.setattr(transport, "send_video_again", send_again)

        def everything() -> bytes:
            nonlocal asked, bitrate
            assert call.sender.encoding is not None
            bitrate = max(bitrate, call.sender.encoding.bitrate)
            latest = call.sender._number
            first = max(latest - 38, 0)
            asked += latest - first
            return encode_wants(Wants(tuple(number & 0xFFFF for number in range(first, latest))))

        await call.gets(everything, seconds)
        after = call.sender.stats()
        print(f"{len(gets)} packets sent again for {asked} asked for in {seconds} s, at {bitrate} bit/s")
        assert len(gets) == after.sent_again - before.sent_again > 0
        for begin, _ in gets:  # a copy waits for its turn to be sent: 50 ms beyond the second
            second = [size for time, size in gets if begin <= time < begin + 0.95]
            assert len(second) <= history.MIN_PACKETS or 8 * sum(second) <= bitrate / history.SHARE
        assert after.refused > before.refused
        await call.unharmed()


@pytest.mark.slow
@pytest.mark.parametrize(
    "lie", but_for_the_first("random", "at once", "never", "long ago", "in the future", "backwards")
)
async def test_lies_about_arrivals(lie: str) -> None:
    async with victim() as call:
        luck = random.Random(1)
        loop = asyncio.get_running_loop()

        def message() -> bytes:
            latest, now = call.sender._number - 1, loop.time()
            first = max(latest - 35, 0)
            count = latest - first + 1
            times: dict[str, list[float | None]] = {
                "at once": [now] * count,
                "never": [now] + [None] * (count - 2) + [now],
                "long ago": [now - 1e6] * count,
                "in the future": [now + 1e6] * count,
                "backwards": [now + 0.01 * (count - index) for index in range(count)],
                "random": [now + 16 * luck.random() for _ in range(count)],
            }
            number = luck.randrange(0x10000) if lie == "random" and luck.random() < 0.5 else first
            return encode_arrivals(Arrivals(number & 0xFFFF, tuple(times[lie][:count])))

        await call.gets(message, SHORT)
        encoding = call.sender.encoding
        assert encoding is None or encoding.bitrate <= MAX_BITRATE
        assert 0 <= (call.running._steering.available or 0) < 1e8
        assert lie != "random" or call.sender.stats().refused > 0
        assert call.sender.error is None
        await call.unharmed()


MOST = (1 << 32) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "lie",
    but_for_the_first(
        PeerReport(0, MOST, 0, MOST, 6553.5, 6553.5, 6553.5, 0, MOST, 0, 0),
        PeerReport(MOST, 0, MOST, 0, 0, 0, 0, MOST, 0, MOST, 0xFFFF),
        PeerReport(),
    ),
    ids=["all is lost", "more than was sent", "nothing"],
)
async def test_lies_in_reports(lie: PeerReport) -> None:
    """As fast as he can: the voice goes on, and changes its size at most once in the time."""
    async with victim() as call:
        numbers = iter(range(1000, 10_000))
        sizes = session(call.alice).transport.counters.sent_sizes
        await call.gets(lambda: encode_report(lie, next(numbers)), 1.2)
        sample = call.running.watch.sample
        assert sample is None or sample.loss_sent is None or 0 <= sample.loss_sent <= 1
        assert len(sizes) <= 2
        await call.unharmed()
        assert call.running.watch.sample is not None


@pytest.mark.parametrize("limit", but_for_the_first(8000, 439_000_000))
async def test_limits_that_make_no_sense(limit: int) -> None:
    async with victim() as call:
        assert call.bob._in_band is not None
        call.bob._in_band.update(receive_limit=limit)
        if limit == 8000:
            await until(lambda: call.sender.encoding is None)
        else:
            await until(lambda: call.running._steering._adaptation.limits.receive_limit is not None)
            await asyncio.sleep(0.2)
            assert call.sender.encoding is not None
            assert call.sender.encoding.bitrate <= MAX_BITRATE
        await call.unharmed()


@pytest.mark.slow
async def test_a_flood_of_messages() -> None:
    """More than a call can need: that is his own harm, and her voice goes on all the time."""
    async with victim() as call:
        wish = encode_wants(Wants(keyframe=True))

        def flood() -> None:
            for _ in range(20):
                call.hands.send_control(wish)

        sent = session(call.alice).frames_sent
        loop = asyncio.get_running_loop()
        start = loop.time()
        await call.does(flood, 1.0)
        passed = loop.time() - start
        dropped = session(call.alice).transport.counters.dropped
        assert dropped.flood > 0
        assert session(call.alice).frames_sent - sent > 40 * passed
        call.bounded()
        before = session(call.bob).frames_heard
        await until(lambda: session(call.bob).frames_heard > before + 10)


# --- what he shows ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_keyframe_that_is_too_large_is_never_decoded() -> None:
    async with victim() as call:
        bomb = vp8_header(8192, 8192) + os.urandom(3000)
        await call.does(lambda: call.show(bomb, keyframe=True), SHORT)
        await until(lambda: call.receiver.stats().refused_size > 10)
        stats = call.receiver.stats()
        assert stats.keyframes_wanted <= 4
        assert call.screen.numbers == []
        assert stats.frames_decoded == 0
        for data, keyframe in some_frames(VP8):
            call.show(data, keyframe=keyframe)
        await until(lambda: call.receiver.stats().frames_decoded > 0)
        await call.unharmed()


def _noise(call: Victim, luck: random.Random) -> None:
    call.piece(luck.randbytes(luck.randrange(1, 1200)), last=luck.random() < 0.3)


def _no_end(call: Victim, luck: random.Random) -> None:
    call.piece(bytes([KEYFRAME | FIRST if call.number == 20_000 else KEYFRAME]) + luck.randbytes(1100))


def _holes(call: Victim, luck: random.Random) -> None:
    call.piece(bytes([KEYFRAME | FIRST]) + luck.randbytes(100), skip=luck.randrange(400))


def _contradictions(call: Victim, luck: random.Random) -> None:
    call.timestamp = luck.randrange(1 << 32)
    call.piece(bytes([luck.choice([0, 1, 2, 3])]) + luck.randbytes(100), payload_type=luck.choice([97, 98]))


def _bad_frames(call: Victim, luck: random.Random) -> None:
    call.show(vp8_header(64, 48) + luck.randbytes(500), keyframe=True)


def _other_codec(call: Victim, luck: random.Random) -> None:
    call.show(vp8_header(64, 48) + luck.randbytes(500), keyframe=True, payload_type=98)


def _lying_keyframes(call: Victim, luck: random.Random) -> None:
    call.show(vp8_header(64, 48, keyframe=False) + luck.randbytes(500), keyframe=True)


def _one_byte(call: Victim, luck: random.Random) -> None:
    call.piece(bytes([luck.randrange(4)]), last=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "act",
    but_for_the_first(_noise, _no_end, _holes, _contradictions, _bad_frames, _other_codec, _lying_keyframes, _one_byte),
)
async def test_rubbish_as_video(act: Callable[[Victim, random.Random], None]) -> None:
    async with victim() as call:
        luck = random.Random(3)
        await call.does(lambda: act(call, luck), SHORT)
        stats = call.receiver.stats()
        assert stats.packets + stats.malformed > 20
        assert stats.keyframes_wanted <= 5
        assert act is _bad_frames or call.screen.numbers == [], "only what is a picture is shown as one"
        await call.unharmed()
        control = session(call.alice).transport.counters.control_sent
        await asyncio.sleep(0.3)
        assert session(call.alice).transport.counters.control_sent - control <= 40, "she does not ask for ever"


@pytest.mark.slow
async def test_a_flood_of_video() -> None:
    """Ten thousand pieces at once, and again: she takes in what a budget allows, and her voice stays whole."""
    async with victim() as call:
        counters = session(call.alice).transport.counters

        def flood() -> None:
            for _ in range(100):
                call.piece(bytes([KEYFRAME]) + bytes(20))

        await call.does(flood, 1.0)
        assert counters.dropped.flood > 0
        assert counters.video_received <= 2 * VIDEO_BUDGET_PACKETS
        call.bounded()
        await at_full_rate(call.alice, call.bob)


@pytest.mark.slow
async def test_video_that_was_not_asked_for() -> None:
    """Alice takes none: it is dropped before it is even decrypted, and Bob is still heard."""
    async with victim(sink=False, shows=False) as call:
        counters = session(call.alice).transport.counters
        [(data, keyframe), *_] = some_frames(VP8)
        count = await call.does(lambda: call.show(data, keyframe=keyframe), SHORT)
        await until(lambda: counters.dropped.wrong_payload_type >= 0.95 * count)
        assert counters.video_received == 0
        await at_full_rate(call.alice, call.bob)


@pytest.mark.slow
async def test_rtp_of_other_payload_types() -> None:
    async with victim() as call:
        dropped = session(call.alice).transport.counters.dropped
        before = dropped.wrong_payload_type
        numbers = iter(range(1 << 16))

        def send() -> None:
            number = next(numbers)
            kind = (0, 96, 99, 110, 112, 127)[number % 6]
            call.bob.connection.send_packet(struct.pack("!BBHLL", BARE_HEADER, kind, number, 0, 1) + os.urandom(200))
            protected = call.hands._video.protect(20_000 + number, kind, 0, b"\3" + bytes(50), last=True)
            assert isinstance(protected, bytes)
            call.bob.connection.send_packet(protected)

        count = await call.does(send, SHORT)
        await until(lambda: dropped.wrong_payload_type >= before + 0.9 * 2 * count)
        await call.unharmed()


# --- what others are shown --------------------------------------------------------------------------------------------


class Telling(Scene):
    """It fails, and says where it is."""

    async def read(self) -> Any:
        if self.read_times >= 8:
            raise OSError(f"no route from {HOST} with {PASSWORD}")
        return await super().read()


class TellingScreen(Screen):
    def write(self, frame: Any) -> None:
        super().write(frame)
        if len(self.numbers) > 5:
            raise OSError(f"no route from {HOST} with {PASSWORD}")


@pytest.mark.slow
async def test_video_shows_nothing_of_addresses_and_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P2, with all that video adds at work: pictures both ways, a source and a sink that fail, and rubbish."""
    caplog.set_level(logging.DEBUG)
    bind_sockets(monkeypatch)
    canaries = Canaries(HOST, secrets={"user name": USERNAME, "password": PASSWORD})
    events: list[CallEvent] = []
    options = MediaOptions(laboratory=True)
    async with no_leaks(), embedded_relays(1) as (_, servers):
        alice = MediaCall(
            servers,
            caller=True,
            source=ToneSource(440),
            options=options,
            video=Telling(),
            video_sink=TellingScreen(),
            on_event=events.append,
        )
        screen = Screen()
        bob = MediaCall(
            servers, caller=False, source=ToneSource(660), options=options, video=Scene(), video_sink=screen
        )
        for_bob, for_alice = await asyncio.gather(canaries.sends(alice.prepare()), bob.prepare())
        await asyncio.gather(canaries.sends(alice.connect(for_alice)), bob.connect(for_bob))
        assert canaries.ports
        call = Victim(alice, bob, screen)
        await until(lambda: any(isinstance(event, VideoEnded) for event in events))
        await until(lambda: call.receiver.stats().frames_decoded > 6)
        for _ in range(20):
            _bad_frames(call, random.Random(1))
        await until(lambda: call.running.watch.sample is not None)
        running = call.running
        shown = shown_by_objects()
        held = [call.sender.stats(), call.receiver.stats(), running.watch.sample, running.watch.reading, *events]
        held += [*running.watch.history.marks, *running.watch.history.samples, call.sender.error]
        assert "relaycall.media.video.sender.VideoSender" in shown
        await close(alice, bob)
        for name, text in (*shown.items(), ("held", repr(held)), ("log", caplog.text)):
            for line in text.splitlines():
                assert canaries.in_text(line) == [], f"{name} shows: {line}"
        assert "the video sink raised OSError" in caplog.text
