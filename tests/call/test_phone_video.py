"""Video in whole calls: who shows, who sees, what changes on the way, and that the voice goes on whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from relaycall.call.events import PeerChanged, VideoEnded
from relaycall.call.state import CallState
from relaycall.errors import CallClosed, ConfigError, MediaError, VideoNotTaken
from relaycall.media.video.sinks import WAITING, SeenTrack
from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.ladder import LOW_DATA_HEIGHT, LOW_DATA_RATE, audio_wire_rate, video_wire_rate
from relaycall.quality.voice import Reason
from tests.call.phones import (
    Mouth,
    befriend,
    both_hear,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.call.pictures import Scene, Screen, Told, is_sound, is_video, receiver_of, sender_of, video_call
from tests.leaks import no_leaks
from tests.scenarios.calling import until
from tests.scenarios.test_one_packet_size import watch

CLOSE_LIMIT = 2.0  # seconds, P9
VOICE = audio_wire_rate(32_000)


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    async with no_leaks():
        yield


# --- who shows, who sees ----------------------------------------------------------------------------------------------


async def test_both_show_and_see() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scenes, screens = (Scene(), Scene(640, 360)), (Screen(), Screen())
        outgoing, incoming, told, heard = await video_call(
            alice,
            bob,
            {"video": scenes[0], "video_sink": screens[0]},
            {"video": scenes[1], "video_sink": screens[1]},
        )
        await asyncio.gather(*(screen.sees(8) for screen in screens))
        await both_hear(outgoing, incoming)
        for screen in screens:
            assert all(before < after for before, after in pairwise(screen.numbers)), "in their order, each once"
        assert screens[1].sizes == {(320, 180)}
        assert screens[0].sizes == {(480, 270)}  # as the first step of the ladder has it
        await until(lambda: told.of("peer_changed") == heard.of("peer_changed") == [PeerChanged(False, True)])
        assert all(each.of("video_adapted")[0].reason is Reason.BETTER for each in (told, heard))
        assert await outgoing.hang_up()
        assert await ended(incoming) == ["peer_hung_up"]
        assert all(each.closed for each in (*scenes, *screens))
        assert not told.of("video_ended")


@pytest.mark.parametrize("by_caller", [True, False])
async def test_only_one_shows(by_caller: bool) -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        screen, other = Screen(), Screen()
        shows, sees = {"video": Scene(), "video_sink": other}, {"video_sink": screen}
        outgoing, incoming, told, heard = await video_call(alice, bob, *((shows, sees) if by_caller else (sees, shows)))
        await screen.sees()
        shower, seer = (outgoing, incoming) if by_caller else (incoming, outgoing)
        assert other.numbers == []
        assert sender_of(seer).stats().packets == 0
        assert not (heard if by_caller else told).of("video_adapted")
        assert receiver_of(shower).stats().packets == 0
        assert not (told if by_caller else heard).of("peer_changed")


async def test_who_takes_none_is_sent_none() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scene, another = Scene(), Scene()
        outgoing, incoming, told, heard = await video_call(alice, bob, {"video": scene, "video_sink": Screen()})
        assert told.of("video_adapted") == [VideoAdapted(None, Reason.PEER)]
        assert (scene.closed, scene.read_times) == (1, 0)
        with pytest.raises(VideoNotTaken):
            outgoing.show(another)
        assert another.closed == 1
        outgoing.show(None)
        await both_hear(outgoing, incoming)
        assert not heard.of("peer_changed")
        assert outgoing.state is CallState.CONNECTED
        assert any("video off: peer" in mark.text for mark in outgoing.report().marks)
        incoming.show(Scene())  # the other way it is taken
        await until(lambda: PeerChanged(False, True) in told.of("peer_changed"))


# --- during the call --------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_showing_later_another_one_and_none() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        screen = Screen()
        outgoing, incoming, told, heard = await video_call(alice, bob, theirs={"video_sink": screen})
        await both_hear(outgoing, incoming)
        first, second, third = Scene(320, 180), Scene(160, 120), Scene(320, 180)
        outgoing.show(first)
        await screen.sees()
        outgoing.show(second)
        assert first.closed == 1
        await until(lambda: (160, 120) in screen.sizes)
        outgoing.show(None)
        assert second.closed == 1
        await until(lambda: heard.of("peer_changed")[-1] == PeerChanged(False, False))
        sent = sender_of(outgoing).stats().packets
        await both_hear(outgoing, incoming, frames=10)
        assert sender_of(outgoing).stats().packets == sent
        outgoing.show(third)
        await screen.sees()
        assert [each.video for each in heard.of("peer_changed")] == [True, False, True]
        assert not told.of("video_ended"), "our user knows"


async def test_showing_what_is_no_video_changes_nothing() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        screen = Screen()
        outgoing, _, _, _ = await video_call(alice, bob, {"video": Scene()}, {"video_sink": screen})
        with pytest.raises(ConfigError):
            outgoing.show(object())  # type: ignore[arg-type]
        await screen.sees()
        await outgoing.hang_up()
        late = Scene()
        with pytest.raises(CallClosed):
            outgoing.show(late)
        assert late.closed == 1


class Limited(Scene):
    """It ends after some frames, as it is told to."""

    def __init__(self, how: Callable[[], Any]) -> None:
        super().__init__()
        self._how = how

    async def read(self) -> VideoFrame | None:
        if self.read_times >= 3:
            await asyncio.sleep(0.01)
            return self._how()
        return await super().read()


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("how", "failed"),
    [
        (lambda: None, False),
        (raising(MediaError("The camera is gone.")), True),
        (raising(ZeroDivisionError("10.1.2.3")), True),
        (raising(StopAsyncIteration()), True),
        (lambda: b"no frame", True),
        (lambda: VideoFrame(8192, 8192, "gray"), True),
    ],
    ids=["ends", "MediaError", "raises", "StopAsyncIteration", "rubbish", "too large"],
)
async def test_a_source_that_ends_or_fails_ends_the_video_alone(how: Callable[[], Any], failed: bool) -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scene, screen = Limited(how), Screen()
        outgoing, incoming, told, heard = await video_call(alice, bob, {"video": scene}, {"video_sink": screen})
        await until(lambda: bool(told.of("video_ended")))
        [end] = told.of("video_ended")
        assert isinstance(end, VideoEnded)
        assert (end.error is not None) is failed
        assert "10.1.2.3" not in repr(end)
        assert scene.closed
        await until(lambda: heard.of("peer_changed")[-1:] == [PeerChanged(False, False)])
        await both_hear(outgoing, incoming, frames=10)
        assert outgoing.state is CallState.CONNECTED


@pytest.mark.slow
async def test_after_a_source_has_failed_another_is_shown() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scene, screen = Limited(raising(ZeroDivisionError())), Screen()
        outgoing, _, told, _ = await video_call(alice, bob, {"video": scene}, {"video_sink": screen})
        await until(lambda: bool(told.of("video_ended")))
        outgoing.show(Scene())
        await screen.sees()
        assert len(told.of("video_ended")) == 1
        assert sender_of(outgoing).stats().error is None


async def test_a_sink_that_raises_is_given_no_more() -> None:
    class Broken(Screen):
        def write(self, frame: VideoFrame) -> None:
            super().write(frame)
            raise ZeroDivisionError

    async with house(1) as home:
        alice, bob = await home.friends()
        screen = Broken()
        outgoing, incoming, _, _ = await video_call(alice, bob, {"video": Scene()}, {"video_sink": screen})
        await screen.sees(1)
        decoded = receiver_of(incoming).stats().frames_decoded
        await until(lambda: receiver_of(incoming).stats().frames_decoded >= decoded + 3)
        assert len(screen.numbers) == 1
        await both_hear(outgoing, incoming)
        await incoming.hang_up()
        assert screen.closed


async def test_a_track_that_nobody_reads_is_bounded_and_gives_the_newest() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        seen = SeenTrack()
        outgoing, incoming, _, _ = await video_call(alice, bob, {"video": Scene()}, {"video_sink": seen})
        await until(lambda: receiver_of(incoming).stats().frames_decoded >= 3 * WAITING)
        assert seen._frames.qsize() <= WAITING
        frame = await seen.recv()
        assert (frame.width, frame.height) == (320, 180)
        await both_hear(outgoing, incoming)
        await outgoing.hang_up()
        await ended(incoming)
        waiting = seen._frames.qsize() - 1  # the last one says that it is over
        assert 0 <= waiting < WAITING
        for _ in range(waiting):
            await seen.recv()
        with pytest.raises(MediaStreamError):
            await seen.recv()


async def test_muted_voice_beside_video() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        screen = Screen()
        outgoing, incoming, _, heard = await video_call(alice, bob, {"video": Scene()}, {"video_sink": screen})
        outgoing.muted = True
        await until(lambda: heard.of("peer_changed")[-1:] == [PeerChanged(True, True)])
        await screen.sees()
        outgoing.show(None)
        await until(lambda: heard.of("peer_changed")[-1] == PeerChanged(True, False))
        outgoing.muted = False
        await until(lambda: heard.of("peer_changed")[-1] == PeerChanged(False, False))
        await both_hear(outgoing, incoming)


# --- limits -----------------------------------------------------------------------------------------------------------


def rates(told: Told) -> list[float]:
    """What each step of our video takes on the wire, with the voice."""
    return [VOICE + video_wire_rate(each.encoding) for each in told.of("video_adapted") if each.encoding is not None]


async def test_a_limit_of_ours_is_kept_by_us_and_by_them() -> None:
    """Bob has one. What he sends never exceeds it; what Alice sends does not as soon as she has heard of it."""
    most = 180_000
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", max_bitrate=most)
        await befriend(alice, bob)
        ends = [{"video": Scene(640, 360), "video_sink": Screen()} for _ in range(2)]
        outgoing, incoming, told, heard = await video_call(alice, bob, *ends)
        await until(lambda: bool(rates(heard)))
        assert max(rates(heard)) <= most
        await until(lambda: bool(rates(told)) and rates(told)[-1] <= most)
        assert told.of("video_adapted")[-1].reason in (Reason.PEER, Reason.BETTER)
        steering = outgoing.media._running._steering  # type: ignore[union-attr]
        assert 0.8 * most < steering._adaptation.limits.peer <= most  # as near as the wire can tell it
        await both_hear(outgoing, incoming)


async def test_low_data_is_small_both_ways() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice", low_data=True), await home.phone("bob")
        await befriend(alice, bob)
        ends = [{"video": Scene(1280, 720), "video_sink": Screen()} for _ in range(2)]
        outgoing, _, told, heard = await video_call(alice, bob, *ends)
        await until(lambda: bool(rates(told)))
        await until(lambda: bool(rates(heard)) and rates(heard)[-1] <= LOW_DATA_RATE)
        assert max(rates(told)) <= LOW_DATA_RATE
        assert all(each.encoding.height <= LOW_DATA_HEIGHT for each in told.of("video_adapted"))
        await until(lambda: 0 < sender_of(outgoing).stats().height <= LOW_DATA_HEIGHT)


async def test_a_limit_that_leaves_room_for_the_voice_only() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice", max_bitrate=80_000), await home.phone("bob")
        await befriend(alice, bob)
        screens = Screen(), Screen()
        ends = [{"video": Scene(), "video_sink": screen} for screen in screens]
        outgoing, incoming, told, heard = await video_call(alice, bob, *ends)
        await until(lambda: told.of("video_adapted") == [VideoAdapted(None, Reason.LIMIT)])
        await until(lambda: heard.of("video_adapted")[-1:] == [VideoAdapted(None, Reason.PEER)])
        assert sender_of(outgoing).stats().packets == 0
        await both_hear(outgoing, incoming)


# --- what it says of itself -------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_figures_of_a_video_call_are_true() -> None:
    """Alice shows and Bob sees: what both say of a second agrees with what each counted."""
    async with house(1) as home:
        alice, bob = await home.friends()
        screen = Screen()
        outgoing, incoming, _, _ = await video_call(alice, bob, {"video": Scene(320, 180, 15)}, {"video_sink": screen})
        assert outgoing.stats() is None
        samples: list[Any] = []

        async def follow() -> None:
            async for sample in incoming.quality():
                samples.append(sample)  # noqa: PERF401 - they are looked at meanwhile

        following = asyncio.create_task(follow())
        await until(lambda: len(samples) >= 2)
        sent, seen = outgoing.stats(), incoming.stats()
        assert sent is not None
        assert seen is not None
        assert (sent.video_sent, sent.video_received) == (180, 0)
        assert (seen.video_sent, seen.video_received) == (0, 180)
        # Between 3 and 20 frames a second: on a busy machine some are skipped, none are made up.
        assert 3 < sent.frame_rate_sent < 20
        assert 3 < seen.frame_rate_received < 20
        assert seen.frame_rate_sent == sent.frame_rate_received == 0
        assert 10_000 < sent.video_bitrate_sent < sent.bitrate_sent
        assert seen.video_bitrate_received > 10_000
        assert sent.available is not None
        assert {sample.video_received for sample in samples} == {180}
        await outgoing.hang_up()
        await ended(incoming)
        await asyncio.wait_for(following, 1)

        ours, theirs = outgoing.report(), incoming.report()
        assert (ours.facts.video_sent, ours.facts.video_received) == (True, False)
        assert (theirs.facts.video_sent, theirs.facts.video_received) == (False, True)
        assert theirs.facts.theirs.video_received <= sender_of(outgoing).stats().packets
        assert theirs.facts.theirs.video_received == receiver_of(incoming).stats().packets > 0
        assert theirs.facts.theirs.frames_shown == len(screen.numbers)
        assert ours.facts.mine is not None
        assert 0 < ours.facts.mine.video_received <= theirs.facts.theirs.video_received
        assert ours.facts.mine.video_lost == 0
        assert any(mark.kind == "video" and "170 kbit/s" in mark.text for mark in ours.marks)
        assert any("shows video" in mark.text for mark in theirs.marks)


# --- what others see of it --------------------------------------------------------------------------------------------


async def test_no_video_before_the_call_is_accepted() -> None:
    async with house(1) as home:
        packets: list[bytes] = []
        watch(home.relays[0], packets.append)
        alice, bob = await home.friends()
        scene, screen = Scene(), Screen()
        outgoing = await alice.call("bob", audio=Mouth(), video=scene, video_sink=Screen())
        ring = await next_ring(bob)
        await asyncio.sleep(0.2)
        assert packets == []
        assert scene.read_times == 0, "the camera is off while it rings"
        answering = Scene()
        incoming = ring.accept(audio=Mouth(), video=answering, video_sink=screen)
        await screen.sees(1)
        kinds = [is_video(packet) for packet in packets if is_video(packet) or is_sound(packet)]
        assert True in kinds
        assert kinds[0] is False, "the voice comes first"
        await outgoing.hang_up()
        await ended(incoming)


async def test_declining_a_video_call_closes_all() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scene, screen = Scene(), Screen()
        outgoing = await alice.call("bob", audio=Mouth(), video=scene, video_sink=screen)
        await (await next_ring(bob)).decline()
        assert await ended(outgoing) == ["declined"]
        assert (scene.closed > 0, screen.closed > 0, scene.read_times) == (True, True, 0)


@pytest.mark.slow
async def test_beside_video_the_voice_has_one_size() -> None:
    """P6: whatever is said or muted, video at one step, each packet of the voice is as large as any other."""
    async with house(1) as home:
        packets: list[bytes] = []
        watch(home.relays[0], packets.append)
        alice, bob = await home.friends()
        screen = Screen()
        outgoing, incoming, told, _ = await video_call(alice, bob, {"video": Scene(160, 120)}, {"video_sink": screen})
        await screen.sees(5)
        outgoing.muted = True
        await both_hear(outgoing, incoming, frames=15)
        outgoing.muted = False
        await both_hear(outgoing, incoming, frames=15)
        steps = {each.encoding for each in told.of("video_adapted")}
        assert len(steps) <= 2, "a small picture stays at its step"
        assert not told.of("audio_adapted")
        assert {len(packet) for packet in packets if is_sound(packet)} == {12 + 80 + 16}
        assert len({len(packet) for packet in packets if is_video(packet)}) > 1, "those of video do differ"


# --- the end ----------------------------------------------------------------------------------------------------------


class Stuck(Scene):
    """It never gives a frame, or no second one."""

    async def read(self) -> VideoFrame | None:
        if self.read_times:
            await asyncio.Event().wait()
        return await super().read()


class Raising(Scene):
    """Its close raises."""

    def close(self) -> None:
        super().close()
        raise ZeroDivisionError


@pytest.mark.parametrize("state", ["both", "stuck source", "raising close", "large", "at once", "off", "peer closes"])
async def test_a_video_call_ends_in_time(state: str) -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        scene = {"stuck source": Stuck, "raising close": Raising}.get(state, Scene)(
            *((1920, 1080) if state == "large" else ())
        )
        screens = Screen(), Screen()
        outgoing, incoming, _, _ = await video_call(
            alice,
            bob,
            {"video": scene, "video_sink": screens[0]},
            {"video": Scene(), "video_sink": screens[1]},
        )
        if state not in ("at once", "off"):
            await until(lambda: bool(screens[1].numbers), what="a picture")  # it may have come already
        if state == "off":
            outgoing.show(None)
            incoming.show(None)
        loop = asyncio.get_running_loop()
        start = loop.time()
        if state == "peer closes":
            await bob.close()
            assert await ended(outgoing) == ["peer_hung_up"]
        else:
            await outgoing.hang_up()
        assert loop.time() - start < CLOSE_LIMIT
        await ended(incoming)
        assert loop.time() - start < CLOSE_LIMIT + 0.5
        assert scene.closed > 0
        assert all(screen.closed for screen in screens)
    assert home.allocations == 0
