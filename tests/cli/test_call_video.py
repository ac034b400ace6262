"""What a call at the terminal shows: opened, paused, gone on with, and told in plain words; and the page of a call."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import av
import pytest
from pyee.asyncio import AsyncIOEventEmitter

from relaycall.call.events import VideoEnded
from relaycall.call.phone import Phone
from relaycall.cli import call_video
from relaycall.cli.call_sound import CallSound
from relaycall.cli.call_video import CallVideo
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.plain_words import level_text, off_text
from relaycall.cli.screen import JsonScreen, PeopleScreen, Screen
from relaycall.cli.stopping import Stop
from relaycall.cli.talk import Talk
from relaycall.errors import CallClosed, MediaError, RelaycallError, VideoNotTaken
from relaycall.media.audio import SilenceSource
from relaycall.media.video.format import Encoding
from relaycall.media.video.sinks import SeenTrack
from relaycall.media.video.sources import TestPattern, pattern_number
from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.level import LevelChanged
from relaycall.quality.sample import Level
from relaycall.quality.voice import Reason
from tests.cli.conftest import Command
from tests.cli.people import Between, Person, introduce
from tests.cli.test_call import events, objects

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(command: Command, alice: Person, bob: Person, between: Between) -> Run:
    """As Alice, who knows Bob, and he her."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    return lambda *arguments, given="", **env: command(*arguments, given=given, env={**alice.env, **env})


def clip(path: Path, frames: int, rate: int = 25) -> Path:
    """A file with a test pattern."""
    pattern = TestPattern(320, 180, rate)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(frames):
            frame = pattern.draw(number)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_file_goes_on_where_it_was_and_at_its_own_pace(tmp_path: Path) -> None:
    video = CallVideo(str(clip(tmp_path / "a.mp4", 40)), None)
    first = video.first
    assert first is not None
    numbers = [pattern_number(await first.read()) for _ in range(5)]  # type: ignore[arg-type]
    first.close()
    await asyncio.sleep(0.5)  # twelve frames are late after this
    again = video.again()
    assert again is not None
    began = time.monotonic()
    numbers += [pattern_number(await again.read()) for _ in range(11)]  # type: ignore[arg-type]
    took = time.monotonic() - began
    await video.close()
    assert numbers == list(range(16))
    assert took > 0.35  # ten times 40 ms


async def test_a_camera_is_switched_on_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str | None] = []

    class Camera(TestPattern):
        def __init__(self, device: str | None) -> None:
            super().__init__()
            devices.append(device)

    monkeypatch.setattr(call_video, "CameraSource", Camera)
    video = CallVideo("camera:/dev/video7", None)
    assert video.first is not video.again() is not None
    await video.close()
    call_video.check_video("camera")
    assert devices == ["/dev/video7", "/dev/video7", None]


async def test_what_cannot_be_opened_is_left_out_or_raised_and_the_rest_is_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.mp4"):
        CallVideo("none.mp4", tmp_path / "a.mkv")
    told: list[RelaycallError] = []
    video = CallVideo("none.mp4", tmp_path / "a.mkv", told.append)
    assert len(told) == 1
    assert video.first is video.again() is None
    assert not video.wanted
    assert video.recording is not None
    await video.close()
    video = CallVideo("test", tmp_path / "none" / "a.mkv", told.append)
    assert len(told) == 2
    assert video.wanted
    assert video.picture_sink is video.sound_sink is None
    await video.close()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--video", "none.mp4"], 6, "none.mp4"),
        (["--video", "camera:/dev/video99"], 0, ""),  # it is not switched on before the call
        (["--record-video", "a.avi"], 6, ".mkv, .mp4, .webm"),
        (["--record-video", "none/a.mkv"], 6, "cannot be written"),
        (["--report", "none/a.html"], 2, "cannot be written"),
        (["--max-bitrate", "10"], 2, "--max-bitrate"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_opened(
    arguments: list[str], code: int, words: str, command: Command, alice: Person, tmp_path: Path
) -> None:
    for verb in (["call", "bob"], ["answer", "--auto-accept", "bob"]):
        done = command(*verb, *arguments, env=alice.env, cwd=tmp_path)
        assert done.returncode == (code or 6)
        assert words in done.stderr
        assert ("There are no keys" in done.stderr) == (code == 0)


# --- words and keys ---------------------------------------------------------------------------------------------------


def test_every_level_and_reason_has_words() -> None:
    assert len({level_text(LevelChanged(1.0, Level.GOOD, level, 3.0)) for level in Level}) == len(Level)
    assert len({off_text(VideoAdapted(None, reason)) for reason in Reason}) == len(Reason)
    assert "carries no more" in off_text(VideoAdapted(None, Reason.RATE))


class FakeCall(AsyncIOEventEmitter):
    """A call with which nobody is."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Any] = []
        self.raises: RelaycallError | None = None
        self.party: Any = type("Party", (), {"name": "bob"})

    def show(self, video: Any) -> None:
        if self.raises is not None:
            raise self.raises
        self.shown.append(video)


def talk(screen: Screen, video: CallVideo) -> tuple[FakeCall, Talk]:
    call: Any = FakeCall()
    sound = CallSound("silence", None, None)
    return call, Talk(call, screen, Keyboard(), Stop(), sound=sound, video=video, seconds=None, page=None)


async def test_v_pauses_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    call, talking = talk(PeopleScreen(), CallVideo("test", None))
    for _ in range(3):
        talking._key("v")
    assert [type(one).__name__ for one in call.shown] == ["NoneType", "TestPattern", "NoneType"]
    for call.raises in (CallClosed(), VideoNotTaken()):
        talking._key("v")
    call.raises = None
    talking._video_ended(VideoEnded(MediaError("The camera gives no more pictures.")))
    talking._key("v")  # it may be plugged in again
    assert type(call.shown[-1]).__name__ == "TestPattern"
    assert capsys.readouterr().err.splitlines() == [
        "Your video is paused.",
        "Your video goes on.",
        "Your video is paused.",
        "There is nothing to pause yet.",
        VideoNotTaken.sentence,
        "Your video has ended: The camera gives no more pictures.",
        "Your video goes on.",
    ]


async def test_without_video_v_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call, talking = talk(PeopleScreen(), CallVideo(None, None))
    talking._key("v")
    assert call.shown == []
    assert capsys.readouterr().err == ""


STEPS = [
    VideoAdapted(Encoding(170_000, 12, 270), Reason.BETTER),
    VideoAdapted(Encoding(210_000, 15, 270), Reason.BETTER),
    VideoAdapted(None, Reason.RATE),
    VideoAdapted(None, Reason.LOSS),
    VideoAdapted(Encoding(60_000, 7, 180), Reason.BETTER),
]


async def test_people_are_told_of_video_that_goes_off_and_comes_back_alone(capsys: pytest.CaptureFixture[str]) -> None:
    call, _ = talk(PeopleScreen(), CallVideo("test", None))
    for step in STEPS:
        call.emit("video_adapted", step)
    call.emit("level_changed", LevelChanged(7.0, Level.GOOD, Level.POOR, 2.1))
    call.emit("video_ended", VideoEnded())
    assert capsys.readouterr().err.splitlines() == [
        "Your video is off: the network carries no more than the voice. The voice goes on.",
        "Your video is on again.",
        "The call is poor: much of what they say is hard to follow.",
        "Your video has ended.",
    ]


async def test_programs_are_told_of_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    call, _ = talk(JsonScreen(), CallVideo("test", None))
    for step in STEPS:
        call.emit("video_adapted", step)
    call.emit("level_changed", LevelChanged(7.0, Level.GOOD, Level.POOR, 2.1))
    done: Any = type("Done", (), {"stdout": capsys.readouterr().out})
    found = events(done, "video_adapted")
    assert [(one["rows"], one["reason"]) for one in found] == [
        (270, "better"),
        (270, "better"),
        (None, "rate"),
        (None, "loss"),
        (180, "better"),
    ]
    assert found[0]["bit_s"] == 170_000
    assert found[0]["frame_rate"] == 12
    assert events(done, "level") == [{"event": "level", "level": "poor", "old": "good", "score": 2.1}]


# --- calls ------------------------------------------------------------------------------------------------------------


def showing(between: Between, phone: Phone, seen: list[Any]) -> Any:
    """Bob takes the next call, shows a pattern, and notes what he sees."""

    async def look(track: SeenTrack) -> None:
        while True:
            seen.append(await track.recv())

    async def job() -> str:
        async for ring in phone.incoming():
            track = SeenTrack()
            call = ring.accept(audio=SilenceSource(), video=TestPattern(320, 180, 30), video_sink=track)
            looking = asyncio.ensure_future(look(track))
            reason = (await call.ended()).reason
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            return reason
        return "closed"

    return between.start(job())


@pytest.mark.slow
def test_both_show_and_it_is_recorded_and_reported(run: Run, bob: Person, between: Between, tmp_path: Path) -> None:
    seen: list[Any] = []
    taken = showing(between, between.phone(bob), seen)
    files = [
        "--record-video",
        tmp_path / "seen.mkv",
        "--record",
        tmp_path / "heard.wav",
        "--report",
        tmp_path / "a.html",
    ]
    done = run("call", "bob", *between.relays, "--json", "--seconds", "4", "--video", "test", "--audio", "tone", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken.result(10) == "peer_hung_up"
    assert len(seen) > 10
    stats = [one for one in events(done, "stats") if one["video_sent"] and one["video_received"]]
    assert stats
    assert stats[-1]["frame_rate_received"] > 3
    assert events(done, "video_adapted")[0]["rows"] == 270
    assert events(done, "recording_failed") == []
    assert objects(done)[-2]["report"]["video"] == {"sent": True, "received": True}
    assert objects(done)[-1] == {"event": "report", "path": str(tmp_path / "a.html")}
    assert "opinion" in (tmp_path / "a.html").read_text().lower()
    assert "127.0.0.1" not in (tmp_path / "a.html").read_text()
    with av.open(str(tmp_path / "seen.mkv")) as found:
        numbers = {pattern_number(frame) for frame in found.decode(video=0)}
    assert len(numbers) > 10  # of the pattern that Bob shows: sixteen to nine, as what is recorded
    with av.open(str(tmp_path / "seen.mkv")) as found:
        assert sum(frame.samples for frame in found.decode(audio=0)) > 3 * 48000


@pytest.mark.slow
def test_who_takes_no_video_is_told_and_a_page_that_fails_changes_nothing(
    run: Run, bob: Person, between: Between, tmp_path: Path
) -> None:
    phone = between.phone(bob)

    async def take() -> None:
        async for ring in phone.incoming():
            await ring.accept(audio=SilenceSource()).ended()

    between.start(take())
    (tmp_path / ".a.html.new").mkdir()
    arguments = ["--video", "test", "--seconds", "1.2", "--report", tmp_path / "a.html", "--low-data"]
    done = run("call", "bob", *between.relays, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Your video is off: the other side takes none" in done.stderr
    assert f"The report could not be written to {tmp_path / 'a.html'}." in done.stderr
    assert re.search(r"You have hung up\.\nConnected for .*\nRound trip ", done.stderr)
    assert done.stdout == ""


@pytest.mark.slow
def test_a_limit_holds_video_down(run: Run, bob: Person, between: Between) -> None:
    seen: list[Any] = []
    showing(between, between.phone(bob), seen)
    done = run("call", "bob", *between.relays, "--json", "--seconds", "2", "--video", "test", "--max-bitrate", "80")
    assert done.returncode == 0, done.stderr
    assert seen == []
    assert {one["sent_bit_s"] < 80_000 for one in events(done, "stats") if one["sent_bit_s"]} == {True}
