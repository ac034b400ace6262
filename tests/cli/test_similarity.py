"""The number that says how alike two recordings are."""

from __future__ import annotations

import wave
from pathlib import Path

from relaycall.cli.demo import default_clip
from relaycall.cli.similarity import correlation, similarity
from relaycall.media.files import FileSource

FRAME = 1920  # bytes of 20 ms


def clip(frames: int = 400) -> list[bytes]:
    """The first seconds of the speech clip, in blocks of 20 ms."""
    source = FileSource(default_clip())
    found = [block for _ in range(frames) if (block := source.read()) is not None]
    source.close()
    return found


def written(path: Path, blocks: list[bytes]) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(b"".join(blocks))
    return str(path)


def test_a_recording_is_like_itself_and_like_itself_later(tmp_path: Path) -> None:
    blocks = clip()
    original = written(tmp_path / "one.wav", blocks)
    assert similarity(original, original) == 1.0
    assert (similarity(original, written(tmp_path / "two.wav", [bytes(FRAME)] * 9 + blocks)) or 0) > 0.99


def test_what_was_lost_shows(tmp_path: Path) -> None:
    """A little silence a little, much of it much, in order; another sound is no likeness."""
    blocks = clip()
    original = written(tmp_path / "one.wav", blocks)

    def without(start: int, count: int) -> float:
        heard = [bytes(FRAME) if start <= at < start + count else block for at, block in enumerate(blocks)]
        return similarity(original, written(tmp_path / "heard.wav", heard)) or 0.0

    found = [without(60, count) for count in (0, 5, 50, 150)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0
    assert found[3] < 0.9
    assert (similarity(original, written(tmp_path / "back.wav", blocks[::-1])) or 0.0) < 0.5


def test_what_cannot_be_compared_has_no_likeness(tmp_path: Path) -> None:
    original = written(tmp_path / "one.wav", clip(20))
    assert similarity(original, str(tmp_path / "absent.wav")) is None
    assert similarity(original, written(tmp_path / "silence.wav", [bytes(FRAME)] * 20)) == 0.0


def test_correlation_of_what_does_not_vary_is_none() -> None:
    assert correlation([1.0, 1.0], [1.0, 2.0]) == 0.0
    assert correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) > 0.999
