"""A recording of pictures and sound."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

import av
import pytest

from relaycall.errors import MediaError
from relaycall.media.audio import ToneSource, pcm_frame
from relaycall.media.video import movie
from relaycall.media.video.movie import HEIGHT, MAX_PICTURES, MAX_WAITING, WIDTH, Movie, check_movie
from relaycall.media.video.sources import TestPattern
from tests.media.test_files import file_size_limit

WIDE, SMALL, TALL = TestPattern(640, 360), TestPattern(320, 180), TestPattern(180, 320)


class Film:
    """A movie with a clock of its own; the thread may keep up."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self.movie = Movie(path, clock=lambda: self.now)
        self._tone = ToneSource(440)
        self._number = 0

    def hear(self, count: int) -> None:
        """So many times 20 ms."""
        for _ in range(count):
            self.movie.sound.write(pcm_frame(self._tone.read(), 960 * self._number))
            self._number += 1
            self.now += 0.02
            self._settle()

    def see(self, pattern: TestPattern) -> None:
        self.movie.pictures.write(pattern.draw(self._number))
        self._settle()

    def end(self) -> None:
        self.movie.pictures.close()
        self.movie.sound.close()
        self.movie.wait()

    def _settle(self) -> None:
        until = time.monotonic() + 10
        while self.movie._waiting.qsize() > 2 and self.movie.error is None and time.monotonic() < until:
            time.sleep(0.001)


def pictures(path: Path) -> list[float]:
    """The times of all, in seconds. They have one size."""
    with av.open(str(path)) as found:
        frames = list(found.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {(WIDTH, HEIGHT)}
    return [float(frame.time or 0.0) for frame in frames]


def sound(path: Path) -> float:
    """Seconds of it."""
    with av.open(str(path)) as found:
        return sum(frame.samples for frame in found.decode(audio=0)) / 48000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mkv", "b.MP4", "c.webm"])
def test_pictures_of_any_size_and_sound_are_in_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("before")
    path.chmod(0o644)
    path.unlink()
    film = Film(path)
    for pattern in (WIDE, SMALL, TALL, WIDE):
        for _ in range(3):
            film.see(pattern)
            film.hear(5)
    film.end()
    assert film.movie.error is None
    times = pictures(path)
    assert times == sorted(times)
    assert len(times) >= 10
    assert times[-1] == pytest.approx(1.1, abs=0.1)
    assert sound(path) == pytest.approx(1.2, abs=0.1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_pictures_there_is_one_a_second_and_gaps_in_the_sound_are_silence(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mkv")
    film.hear(100)
    film.now += 3
    film.hear(10)
    film.end()
    assert pictures(tmp_path / "a.mkv") == pytest.approx([0.0, 1.0, 5.0], abs=0.05)
    assert sound(tmp_path / "a.mkv") == pytest.approx(5.2, abs=0.1)


def test_a_call_in_which_nothing_came_leaves_a_file_that_opens(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.webm")
    film.end()
    film.end()
    assert film.movie.error is None
    assert pictures(tmp_path / "a.webm")


def test_what_the_thread_cannot_keep_up_with_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Movie, "_write", lambda self, suffix: self._file.close())
    found = Movie(tmp_path / "a.mkv", clock=iter(range(10**6)).__next__)
    for number in range(1000):
        found.pictures.write(SMALL.draw(number))
    assert found._waiting.qsize() == MAX_PICTURES
    for number in range(1000):
        found.sound.write(pcm_frame(bytes(1920), 960 * number))
    assert found._waiting.qsize() == MAX_WAITING


def test_a_peer_makes_no_more_than_sixty_pictures_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Movie, "_write", lambda self, suffix: self._file.close())
    monkeypatch.setattr(movie, "MAX_PICTURES", 10**6)
    now = 0.0
    found = Movie(tmp_path / "a.mkv", clock=lambda: now)
    for number in range(1000):
        now = number / 1000
        found.pictures.write(SMALL.draw(number))
    assert 55 <= found._waiting.qsize() <= 60


def test_sound_that_comes_too_fast_does_not_fill_the_disk(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mkv")
    for number in range(500):
        film.movie.sound.write(pcm_frame(bytes(1920), 960 * number))
        film._settle()
    film.end()
    assert sound(tmp_path / "a.mkv") < 2.2


@pytest.mark.parametrize("name", ["a.mkv", "b.mp4", pytest.param("c.webm", marks=pytest.mark.slow)])
def test_a_full_disk_ends_it_and_what_is_there_can_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    film = Film(path)
    film.see(WIDE)
    film.hear(2)
    with file_size_limit(300_000):
        for _ in range(200):
            film.see(WIDE)
            film.hear(5)
            if film.movie.error is not None:
                break
        film.end()
    assert film.movie.error is not None
    assert film.movie.error.sentence == f"The recording {path} could not be written to its end."
    for _ in range(5):
        film.see(WIDE)  # which is no error
    assert film.movie._waiting.qsize() <= 1  # that it is over
    with av.open(str(path)) as found, contextlib.suppress(av.FFmpegError):
        assert next(found.decode(video=0)).width == WIDTH


@pytest.mark.parametrize("name", ["a.avi", "a", "folder.mkv", "none/a.mkv", "pipe.mkv"])
def test_where_nothing_can_be_recorded_is_said_before_the_call(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.mkv").mkdir()
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(MediaError) as caught:
        check_movie(tmp_path / name)
    assert name in caught.value.sentence
    assert caught.value.next_step
    with pytest.raises(MediaError):
        Movie(tmp_path / name)
