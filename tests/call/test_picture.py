"""The video of a running call, both ways: which halves of it there are, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from relaycall.call.picture import TAKES, Picture
from relaycall.call.steering import Steering
from relaycall.errors import CallClosed, MediaError
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.media.video.encoder import can_encode
from relaycall.media.video.format import VideoCodec
from relaycall.quality.ladder import Limits
from relaycall.quality.sample import PeerReport, Reading
from tests.call.pictures import Scene, Screen
from tests.call.test_steering import Voice
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.paths import memory_pair
from tests.waiting import eventually

BOTH = ("vp8", "h264")


class End:
    """One side, with what it is told."""

    def __init__(self, transport: RtpTransport, takes: Sequence[str], sink: Screen | None) -> None:
        self.shown: list[bool] = []
        self.ended: list[MediaError | None] = []
        voice: Any = Voice()
        self.steering = Steering(voice, Limits(), lambda _: None)
        self.transport = transport
        self.picture = Picture(
            transport,
            self.steering,
            peer_takes=takes,
            sink=sink,
            rtt=lambda: None,
            on_shown=self.shown.append,
            on_ended=self.ended.append,
        )

    async def close(self) -> None:
        self.steering.close()
        await self.picture.close()
        self.transport.close()


def ends(takes: Sequence[str] = BOTH, sinks: tuple[Screen | None, Screen | None] = (None, None)) -> tuple[End, End]:
    one, other = (
        RtpTransport(
            path,
            derive_keys(bytes(32), caller=caller),
            local_ssrc=1 if caller else 2,
            remote_ssrc=2 if caller else 1,
            payload_type=111,
        )
        for path, caller in zip(memory_pair(), (True, False), strict=True)
    )
    one.open()
    other.open()
    return End(one, takes, sinks[0]), End(other, takes, sinks[1])


async def close(*all_ends: End) -> None:
    await asyncio.gather(*(end.close() for end in all_ends))


@pytest.mark.parametrize("takes", [("vp8",), ("h264",), ("h264", "vp8")])
async def test_what_is_shown_is_seen_as_the_first_codec_they_take(takes: tuple[str, ...]) -> None:
    screen, scene = Screen(), Scene()
    alice, bob = ends(takes, (None, screen))
    assert alice.picture.show(scene)
    await screen.sees(3)
    assert alice.shown == [True]
    assert alice.picture.sender is not None
    assert bob.picture.receiver is not None
    assert alice.picture.sender.stats().codec is bob.picture.receiver.stats().codec is VideoCodec(takes[0])
    await close(alice, bob)
    assert scene.closed
    assert screen.closed == 1


async def test_a_codec_that_cannot_be_coded_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with no encoder at all is one without our video, and not a failed one."""
    monkeypatch.setattr("relaycall.call.picture.can_encode", lambda codec: codec is VideoCodec.H264)
    alice, bob = ends(BOTH)
    assert alice.picture.sender is not None
    assert alice.picture.sender.stats().codec is VideoCodec.H264
    await close(alice, bob)
    monkeypatch.setattr("relaycall.call.picture.can_encode", lambda codec: False)
    alice, bob = ends(BOTH)
    assert alice.picture.sender is None
    await close(alice, bob)


async def test_who_takes_none_and_who_sees_none() -> None:
    alice, bob = ends(())
    scene = Scene()
    assert alice.picture.sender is None
    assert alice.picture.receiver is None
    assert alice.transport.on_video is None
    assert not alice.picture.show(scene)
    assert scene.closed == 1
    assert alice.picture.show(None)
    assert alice.shown == alice.ended == []
    reading = Reading(packets_sent=7)
    assert alice.picture.complete(reading) is reading
    await close(alice, bob)


async def test_the_end_of_a_source_is_told_once() -> None:
    class Short(Scene):
        async def read(self) -> Any:
            return None if self.read_times >= 2 else await super().read()

    alice, bob = ends()
    alice.picture.show(Short())
    await eventually(lambda: alice.ended)
    assert (alice.ended, alice.shown) == ([None], [True, False])
    alice.picture.show(Scene())
    await eventually(lambda: alice.shown == [True, False, True])
    alice.picture.show(None)
    assert alice.shown == [True, False, True, False]
    assert len(alice.ended) == 1
    await close(alice, bob)


async def test_what_is_known_of_the_video_completes_a_reading() -> None:
    screen = Screen()
    alice, bob = ends(sinks=(Screen(), screen))
    empty = alice.picture.complete(Reading())
    assert (empty.video_target, empty.video_height, empty.theirs.frames_shown) == (0, 0, 0)
    alice.picture.show(Scene(320, 180))
    await screen.sees(3)
    ours = alice.picture.complete(Reading(packets_sent=9))
    theirs = bob.picture.complete(Reading(theirs=PeerReport(received=5, playout_delay_ms=60.0)))
    assert alice.picture.sender is not None
    assert bob.picture.receiver is not None
    assert (ours.packets_sent, ours.video_width, ours.video_height) == (9, 320, 180)
    assert ours.video_target == 170_000
    assert ours.video_frames_sent >= 3
    assert (theirs.theirs.received, theirs.theirs.video_height) == (5, 180)
    assert theirs.theirs.frames_shown >= 3
    assert theirs.theirs.video_received > 0
    assert theirs.theirs.video_lost == 0
    assert bob.picture.receiver.delay == pytest.approx(0.06), "pictures go with the sound"
    alice.picture.sender.encoding = None
    stopped = alice.picture.complete(Reading())
    assert (stopped.video_target, stopped.video_height) == (0, 0)
    await close(alice, bob)


async def test_after_the_end_nothing_is_shown() -> None:
    alice, bob = ends()
    await close(alice, bob)
    with pytest.raises(CallClosed):
        alice.picture.show(Scene())
    assert alice.transport.on_video is None
    assert not alice.transport.on_kind


def test_what_is_taken_can_be_sent_here() -> None:
    assert all(can_encode(codec) for codec in TAKES)
