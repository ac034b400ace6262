"""Sound files: what can be played, what is refused and how, and what a recording holds."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import struct
import wave
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av import AudioFrame

from relaycall.errors import MediaError
from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, ToneSource, pcm_frame
from relaycall.media.files import FileSink, FileSource
from tests.media.listening import read_samples, similarity, tone_share

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
pytestmark = pytest.mark.usefixtures("no_leaks")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def played(source: FileSource) -> array[int]:
    samples = array("h")
    while (block := source.read()) is not None:
        assert len(block) == FRAME_BYTES
        samples.frombytes(block)
    source.close()
    return samples


def write_tone(path: Path, codec: str, rate: int, layout: str, sample_format: str, seconds: float = 0.5) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.format = sample_format
        tone = ToneSource(440)
        resampler = av.AudioResampler(sample_format, layout, rate, stream.codec_context.frame_size or 1024)
        for number in range(int(seconds * 50)):
            for frame in resampler.resample(pcm_frame(tone.read(), number * FRAME_SAMPLES)):
                container.mux(stream.encode(frame))
        for frame in resampler.resample(None):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# --- played -----------------------------------------------------------------------------------------------------------


def test_the_example_is_played_as_it_is() -> None:
    samples = played(FileSource(SPEECH))
    original = read_samples(SPEECH)
    assert 0 <= len(samples) - len(original) < FRAME_SAMPLES
    assert samples[: len(original)] == original


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "sample_format"),
    [
        ("tone.wav", "pcm_s16le", 8000, "mono", "s16"),
        ("tone.wav", "pcm_s16le", 44100, "stereo", "s16"),
        ("tone.flac", "flac", 96000, "5.1", "s16"),
        ("tone.mp3", "libmp3lame", 44100, "stereo", "s16p"),
        ("tone.m4a", "aac", 48000, "mono", "fltp"),
        ("tone.opus", "libopus", 48000, "stereo", "s16"),
    ],
)
def test_formats_and_rates(tmp_path: Path, name: str, codec: str, rate: int, layout: str, sample_format: str) -> None:
    write_tone(tmp_path / name, codec, rate, layout, sample_format)
    samples = played(FileSource(tmp_path / name))
    assert 24000 <= len(samples) < 30000
    assert tone_share(samples[4800:19200], 440) > 0.95


def test_the_sound_of_a_video_is_played(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for number in range(5):
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            for part in range(5):
                frame = pcm_frame(ToneSource().read(), (5 * number + part) * FRAME_SAMPLES)
                container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    assert len(played(FileSource(path))) >= 20000


def test_damage_in_the_middle_is_skipped(tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.mp3", "libmp3lame", 44100, "mono", "s16p", seconds=2)
    data = bytearray((tmp_path / "tone.mp3").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = os.urandom(300)
    (tmp_path / "tone.mp3").write_bytes(data)
    assert len(played(FileSource(tmp_path / "tone.mp3"))) > 72000


def test_a_file_cut_short_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "cut.ogg").write_bytes(SPEECH.read_bytes()[:20000])
    samples = played(FileSource(tmp_path / "cut.ogg"))
    assert 48000 < len(samples) < len(read_samples(SPEECH))


def test_odd_metadata_is_no_obstacle(tmp_path: Path) -> None:
    sound = ToneSource().read() or b""
    info = b"INFOINAM" + struct.pack("<I", 4) + b"\xe9\xff\xfe\0"
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 48000, 96000, 2, 16)
    chunks += b"LIST" + struct.pack("<I", len(info)) + info + b"data" + struct.pack("<I", len(sound)) + sound
    (tmp_path / "odd.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    assert len(played(FileSource(tmp_path / "odd.wav"))) == FRAME_SAMPLES


def test_what_cannot_be_played_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "directory.wav").mkdir()
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not a sound file at all\n" * 50)
    (tmp_path / "header.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\xbb\0\0\0\x77\1\0\2\0\x10\0")
    (tmp_path / "cut.ogg").write_bytes(SPEECH.read_bytes()[:60])
    (tmp_path / "headers.ogg").write_bytes(SPEECH.read_bytes()[:130])
    (tmp_path / "random.mp3").write_bytes(bytes(range(256)) * 3)
    os.mkfifo(tmp_path / "pipe.wav")
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(video.encode(None))
    names = [path.name for path in tmp_path.iterdir()] + ["missing.wav", "no/such/place.wav", "nul\0.wav"]
    for name in names:
        with pytest.raises(MediaError) as caught:
            FileSource(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value), "the message names the file"
        assert caught.value.next_step
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "list.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        ),
        (
            "session.sdp",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
        ),
        ("link.rtsp", "rtsp://127.0.0.1:{port}/sound"),
    ],
)
def test_a_file_cannot_make_us_contact_anybody(tmp_path: Path, name: str, content: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        (tmp_path / name).write_text(content.format(port=server.getsockname()[1]))
        with pytest.raises(MediaError):
            FileSource(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_playlist_cannot_name_other_files(tmp_path: Path) -> None:
    entries = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{SPEECH}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(entries)
    with pytest.raises(MediaError):
        FileSource(tmp_path / "list.m3u8")


def test_closing_early_and_twice() -> None:
    source = FileSource(SPEECH)
    source.read()
    source.close()
    source.close()
    assert source.read() is None


# --- recorded ---------------------------------------------------------------------------------------------------------


def record(sink: FileSink, clock: Clock, frames: int, first: int = 0) -> None:
    tone = ToneSource(440)
    for number in range(first, first + frames):
        sink.write(pcm_frame(tone.read() or b"", number * FRAME_SAMPLES))
        clock.now += 0.02


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".opus", ".WAV"])
def test_a_recording_sounds_like_what_was_heard(tmp_path: Path, suffix: str) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / f"heard{suffix}", clock=clock)
    source = FileSource(SPEECH)
    number = 0
    while (block := source.read()) is not None:
        sink.write(pcm_frame(block, number * FRAME_SAMPLES))
        clock.now += 0.02
        number += 1
    source.close()
    sink.close()
    sink.close()
    assert sink.error is None
    samples = read_samples(tmp_path / f"heard{suffix}")
    assert abs(len(samples) - number * FRAME_SAMPLES) <= FRAME_SAMPLES
    assert similarity(read_samples(SPEECH), samples) > 0.95


def test_a_wav_file_is_a_wav_file_for_others(tmp_path: Path) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / "heard.wav", clock=clock)
    record(sink, clock, 10)
    sink.close()
    with wave.open(str(tmp_path / "heard.wav")) as recording:
        assert recording.getparams()[:4] == (1, 2, 48000, 9600)
        assert recording.readframes(10000) == ToneSource(440)._second[:19200]


@pytest.mark.parametrize("name", ["heard.wav", "heard.ogg"])
def test_a_recording_without_a_frame_is_valid(tmp_path: Path, name: str) -> None:
    FileSink(tmp_path / name).close()
    with av.open(str(tmp_path / name)) as container:
        assert len(container.streams.audio) == 1


def test_a_recording_is_for_its_owner(tmp_path: Path) -> None:
    FileSink(tmp_path / "heard.wav").close()
    assert stat.S_IMODE((tmp_path / "heard.wav").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["heard.wav", "heard.ogg"])
def test_gaps_are_filled_with_silence(tmp_path: Path, name: str) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / name, clock=clock)
    record(sink, clock, 50)
    clock.now += 1.0
    record(sink, clock, 50, first=100)
    sink.close()
    samples = read_samples(tmp_path / name)
    assert abs(len(samples) - 3 * 48000) <= FRAME_SAMPLES
    assert tone_share(samples[4800:43200], 440) > 0.9
    assert max(samples[52800:91200]) < 300
    assert tone_share(samples[100800:139200], 440) > 0.9


def test_no_timestamp_makes_a_recording_run_ahead_of_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / "heard.wav", clock=clock)
    for number in range(200):
        sink.write(pcm_frame(bytes(FRAME_BYTES), number * 48000 * 60))
    sink.close()
    assert 1.9 * 48000 < len(read_samples(tmp_path / "heard.wav")) <= 2 * 48000
    assert sink.error is None


def test_one_gap_is_bounded(tmp_path: Path) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / "heard.wav", clock=clock)
    record(sink, clock, 1)
    clock.now += 3600
    record(sink, clock, 1, first=180000)
    sink.close()
    assert len(read_samples(tmp_path / "heard.wav")) == 10 * 48000 + 2 * FRAME_SAMPLES


def test_a_step_back_goes_in_as_it_comes(tmp_path: Path) -> None:
    clock = Clock()
    sink = FileSink(tmp_path / "heard.wav", clock=clock)
    record(sink, clock, 5, first=100)
    record(sink, clock, 5, first=0)
    sink.close()
    assert len(read_samples(tmp_path / "heard.wav")) == 10 * FRAME_SAMPLES


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "directory.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "device.ogg").symlink_to("/dev/null")
    for name in ("directory.wav", "pipe.wav", "device.ogg", "no/such/place.wav", "nul\0.wav"):
        with pytest.raises(MediaError) as caught:
            FileSink(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    for name in ("heard.mp3", "heard", ".wav", "heard.wav.gz"):
        with pytest.raises(MediaError) as caught:
            FileSink(tmp_path / name)
        assert ".wav, .ogg, .opus" in caught.value.next_step
        assert not (tmp_path / name).exists()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond this: the kernel refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("name", "limit"), [("heard.wav", 50_001), ("heard.ogg", 10_000)])
def test_a_full_disk_ends_the_recording_once_and_what_is_there_is_valid(tmp_path: Path, name: str, limit: int) -> None:
    clock = Clock()
    with file_size_limit(limit):
        sink = FileSink(tmp_path / name, clock=clock)
        record(sink, clock, 300)
        error = sink.error
        record(sink, clock, 10, first=300)
    record(sink, clock, 10, first=310)
    sink.close()  # there is space again, but not for what was lost
    assert isinstance(error, MediaError)
    assert sink.error is error
    assert "disk" in error.next_step
    assert os.strerror(errno.EFBIG) not in str(error)
    samples = read_samples(tmp_path / name)
    assert 20000 < len(samples) < 250 * FRAME_SAMPLES
    assert tone_share(samples[: len(samples) - 4800], 440) > 0.9
    size = (tmp_path / name).stat().st_size
    assert size < limit
    if name == "heard.wav":
        assert size == 44 + 2 * len(samples)


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    with file_size_limit(0), pytest.raises(MediaError):
        FileSink(tmp_path / "heard.wav")


def test_frames_of_another_shape_end_the_recording(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "heard.wav")
    frame = AudioFrame(format="s16", layout="stereo", samples=960)
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    sink.write(frame)
    sink.close()
    assert isinstance(sink.error, MediaError)


def test_duration_is_what_the_file_says() -> None:
    source = FileSource(Path(__file__).parents[2] / "examples" / "speech.ogg")
    assert source.duration is not None
    assert 10 < source.duration < 13
    source.close()
