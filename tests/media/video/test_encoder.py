"""Pictures into VP8 and H.264: what comes out can be decoded, and is as large as it may be."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import av
import pytest
from av import VideoFrame

from relaycall.errors import MediaError
from relaycall.media.video import encoder as video_encoder
from relaycall.media.video.encoder import MAX_SOURCE_SIDE, Encoded, VideoEncoder, can_encode, coded_size
from relaycall.media.video.format import MAX_HEIGHT, MAX_PIXELS, MAX_WIDTH, Encoding, VideoCodec
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

BOTH = pytest.mark.parametrize("codec", list(VideoCodec))
USUAL = Encoding(400_000, 15, 360)


class Coding:
    """An encoder and a decoder, with frames 1/15 s apart."""

    def __init__(self, codec: VideoCodec) -> None:
        self.codec = codec
        self.encoder = VideoEncoder(codec)
        self.times = (number / 15 for number in count())
        self.decoder: Any = av.CodecContext.create("h264" if codec is VideoCodec.H264 else "vp8", "r")
        self.decoder.thread_count = 1
        self.decoder.thread_type = "SLICE"

    async def encode(
        self, frame: VideoFrame, encoding: Encoding = USUAL, *, keyframe: bool = False, time: float | None = None
    ) -> Encoded | None:
        time = next(self.times) if time is None else time
        return await self.encoder.encode(frame, encoding, keyframe=keyframe, time=time)

    def decode(self, encoded: Encoded) -> VideoFrame:
        (frame,) = self.decoder.decode(av.Packet(encoded.data))
        return frame

    async def through(self, frame: VideoFrame, encoding: Encoding = USUAL, *, keyframe: bool = False) -> VideoFrame:
        encoded = await self.encode(frame, encoding, keyframe=keyframe)
        assert encoded is not None
        decoded = self.decode(encoded)
        assert (decoded.width, decoded.height) == (encoded.width, encoded.height)
        assert bool(decoded.key_frame) is encoded.keyframe
        return decoded


def scenes(size: str = "640x360", number: int = 1000, more: str = "") -> list[VideoFrame]:
    """A moving picture of FFmpeg's."""
    frames = []
    with av.open(f"testsrc2=size={size}:rate=15{more}", format="lavfi") as container:
        for frame in container.decode(video=0):
            frames.append(frame.reformat(format="yuv420p"))
            if len(frames) == number:
                break
    return frames


def plain(width: int, height: int, luma: int, pixels: str = "yuv420p") -> VideoFrame:
    frame = VideoFrame(width, height, pixels)
    for plane in frame.planes:
        plane.update(bytes([luma]) * plane.buffer_size)
    return frame


def middle(frame: VideoFrame) -> int:
    luma = frame.planes[0]
    return bytes(luma)[frame.height // 2 * luma.line_size + frame.width // 2]


def rate(sizes: list[int]) -> float:
    return sum(sizes) * 8 * 15 / len(sizes)


@BOTH
async def test_pictures_go_through_one_by_one(codec: VideoCodec) -> None:
    coding = Coding(codec)
    for number, luma in enumerate((60, 70, 200, 90, 120)):
        encoded = await coding.encode(plain(640, 360, luma))
        assert encoded is not None, "none is kept back for later"
        assert (encoded.keyframe, encoded.width, encoded.height) == (number == 0, 640, 360)
        assert abs(middle(coding.decode(encoded)) - luma) < 8
    await coding.encoder.close()


@BOTH
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "gray", "rgb24", "nv12", "yuvj422p", "rgba"])
async def test_any_format_and_odd_sizes(codec: VideoCodec, pixels: str) -> None:
    coding = Coding(codec)
    for width, height, wanted in ((641, 361, (638, 360)), (359, 643, (200, 360)), (33, 17, (32, 16)), (1, 1, (16, 16))):
        frame = await coding.through(plain(width, height, 128, pixels))
        assert (frame.width, frame.height, frame.format.name) == (*wanted, "yuv420p")
        assert abs(middle(frame) - 128) < 16
    await coding.encoder.close()


@BOTH
async def test_a_keyframe_is_made_when_it_is_asked_for_and_the_size_changes(codec: VideoCodec) -> None:
    coding = Coding(codec)
    big, small = scenes("640x360", 20), scenes("320x180", 20)
    keys = []
    for number, frame in enumerate([*big[:9], *small[9:13], *big[13:]]):
        decoded = await coding.through(frame, keyframe=number == 5)
        keys.append(bool(decoded.key_frame))
    assert [number for number, key in enumerate(keys) if key] == [0, 5, 9, 13]
    await coding.through(big[0], Encoding(400_000, 15, 180))
    await coding.encoder.close()


@BOTH
async def test_the_frame_that_is_given_stays_as_it_is(codec: VideoCodec) -> None:
    coding = Coding(codec)
    for width in (640, 338):  # the rows of the second are longer than they look
        frame = scenes(f"{width}x360", 1)[0]
        frame.pts, frame.time_base = 77, video_encoder.Fraction(1, 1000)
        before = [bytes(plane) for plane in frame.planes]
        again = await coding.through(frame, keyframe=True)
        assert (frame.pts, frame.time_base, int(frame.pict_type)) == (77, video_encoder.Fraction(1, 1000), 1)
        assert [bytes(plane) for plane in frame.planes] == before
        assert middle(again) == pytest.approx(middle(frame), abs=40)
    await coding.encoder.close()


@pytest.mark.parametrize("stride", [640, 704])
async def test_a_copy_holds_the_same_pixels(stride: int) -> None:
    """Decoders give frames whose rows are longer than the picture is wide."""
    wide = scenes(f"{stride}x64", 1)[0]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=stride, height=64, format="yuv420p", time_base=video_encoder.Fraction(1, 15))
    crop, sink = graph.add("crop", "640:64:0:0"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    graph.push(wide)
    cropped: Any = graph.pull()
    assert (cropped.width, cropped.planes[0].line_size) == (640, stride)
    copied = video_encoder._copy(cropped)
    for plane, width in ((0, 640), (1, 320), (2, 320)):
        ours, theirs = copied.planes[plane], cropped.planes[plane]
        for row in range(ours.height):
            here, there = row * ours.line_size, row * theirs.line_size
            assert bytes(ours)[here : here + width] == bytes(theirs)[there : there + width]
    copied.planes[0].update(bytes(copied.planes[0].buffer_size))
    assert any(bytes(cropped.planes[0]))


@pytest.mark.slow
@BOTH
async def test_the_bit_rate_changes_without_a_keyframe(codec: VideoCodec) -> None:
    coding = Coding(codec)
    frames = scenes("640x360", 60)
    await coding.through(frames[0])
    for bitrate in (400_000, 150_000, 800_000, 300_000):
        found = [await coding.encode(frame, Encoding(bitrate, 15, 360)) for frame in frames]
        assert not any(encoded.keyframe for encoded in found[1:] if encoded), bitrate
        settled = [len(encoded.data) if encoded else 0 for encoded in found[-30:]]
        assert 0.6 * bitrate < rate(settled) < 1.25 * bitrate
    assert found[0] is None or not found[0].keyframe
    await coding.encoder.close()


@BOTH
async def test_the_frame_rate_changes_without_more_bits(codec: VideoCodec) -> None:
    coding = Coding(codec)
    frames = scenes("640x360", 60)
    await coding.through(frames[0])
    found = [await coding.encode(frame, Encoding(400_000, 30, 360), time=9 + n / 30) for n, frame in enumerate(frames)]
    sizes = [len(encoded.data) if encoded else 0 for encoded in found[-30:]]
    assert 0.6 * 400_000 < 2 * rate(sizes) < 1.25 * 400_000
    assert not any(encoded.keyframe for encoded in found if encoded)
    await coding.encoder.close()


@BOTH
async def test_a_source_that_is_slower_than_it_may_be_gets_all_of_the_bit_rate(codec: VideoCodec) -> None:
    coding = Coding(codec)
    frames = scenes("640x360", 50)
    found = [await coding.encode(frame, Encoding(400_000, 20, 360), time=n / 10) for n, frame in enumerate(frames)]
    sizes = [len(encoded.data) if encoded else 0 for encoded in found[-30:]]
    assert 0.6 * 400_000 < rate(sizes) * 10 / 15 < 1.25 * 400_000
    await coding.encoder.close()


@BOTH
async def test_much_more_or_less_takes_a_new_encoder(codec: VideoCodec) -> None:
    coding = Coding(codec)
    frame = scenes(number=1)[0]
    for bitrate in (400_000, 100_000, 2_000_000):
        encoded = await coding.encode(frame, Encoding(bitrate, 15, 360))
        assert encoded is not None
        assert encoded.keyframe
        if bitrate < 2_000_000:
            assert len(encoded.data) * 8 < bitrate
    await coding.encoder.close()


@BOTH
async def test_a_pause_is_not_made_up_for(codec: VideoCodec) -> None:
    coding, encoding = Coding(codec), Encoding(200_000, 15, 360)
    frames = scenes("640x360", 80)
    before = [await coding.encode(frame, encoding) for frame in frames[:40]]
    after = [await coding.encode(frame, encoding, time=3600 + n / 15) for n, frame in enumerate(frames[40:])]
    usual, later = ([len(encoded.data) if encoded else 0 for encoded in part[-40:]] for part in (before[1:], after))
    assert rate(later) < 1.3 * rate(usual)
    assert rate(later[:8]) < 2 * rate(usual)
    assert not any(encoded.keyframe for encoded in after if encoded)
    assert await coding.encode(frames[36], encoding, time=0.0), "nor does a clock that jumps back end it"
    await coding.encoder.close()


@BOTH
async def test_pictures_that_cannot_be_made_small_enough_do_not_exceed_the_rate(codec: VideoCodec) -> None:
    """White noise, in colour."""
    coding = Coding(codec)
    frames = []
    for _ in range(5):
        frame = VideoFrame(320, 180, "yuv420p")
        for plane in frame.planes:
            plane.update(os.urandom(plane.buffer_size))
        frames.append(frame)
    found = [await coding.encode(frames[n % 5], Encoding(200_000, 15, 180)) for n in range(150)]
    sizes = [len(encoded.data) if encoded else 0 for encoded in found]
    assert rate(sizes) < 1.6 * 200_000, "a keyframe of half a second and more is in it"
    if codec is VideoCodec.VP8:
        assert sizes.count(0) > 30
    assert any(sizes[1:]), "but some are sent"
    await coding.encoder.close()


async def test_every_h264_keyframe_brings_its_parameter_sets_and_no_other_picture_does() -> None:
    coding = Coding(VideoCodec.H264)
    for number, frame in enumerate(scenes(number=12)):
        encoded = await coding.encode(frame, keyframe=number == 6)
        assert encoded is not None
        kinds = [part[0] & 31 for part in encoded.data.split(b"\0\0\1")[1:]]
        assert set(kinds) == ({7, 8, 5} if encoded.keyframe else {1}), "no messages: x264 would tell its version"
        assert b"x264" not in encoded.data
        assert encoded.data.startswith((b"\0\0\0\1", b"\0\0\1"))
    await coding.encoder.close()


@BOTH
async def test_what_is_too_large_is_refused_and_the_largest_is_not(codec: VideoCodec) -> None:
    coding = Coding(codec)
    largest = VideoFrame(MAX_SOURCE_SIDE, MAX_SOURCE_SIDE, "gray")
    assert await coding.encode(largest, Encoding(400_000, 15, 90)) is not None
    for size in ((8192, 8192), (MAX_SOURCE_SIDE + 2, 16), (16, MAX_SOURCE_SIDE + 2)):
        with pytest.raises(MediaError, match="too large"):
            await coding.encode(VideoFrame(*size, "gray"))
    assert await coding.encode(plain(640, 360, 99)) is not None, "and it goes on"
    await coding.encoder.close()


@pytest.mark.parametrize(
    ("size", "most", "coded"),
    [
        ((640, 360), 360, (640, 360)),
        ((640, 360), 1080, (640, 360)),
        ((1920, 1080), 540, (960, 540)),
        ((3840, 2160), 1920, (1926, 1084)),
        ((4096, 4096), 1920, (1444, 1444)),
        ((4096, 16), 720, (1920, 16)),
        ((16, 4096), 1920, (16, 1920)),
        ((1080, 1920), 1920, (1080, 1920)),
    ],
)
def test_coded_sizes(size: tuple[int, int], most: int, coded: tuple[int, int]) -> None:
    width, height = coded_size(*size, most)
    assert width <= MAX_WIDTH
    assert height <= min(MAX_HEIGHT, most)
    assert width * height <= MAX_PIXELS
    assert abs(width - coded[0]) <= 8
    assert abs(height - coded[1]) <= 8


async def test_what_fails_is_a_media_error_that_says_nothing_of_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    coding = Coding(VideoCodec.VP8)

    def fail(*_: object) -> None:
        raise ValueError("canary")

    monkeypatch.setattr(video_encoder, "_Vp8", fail)
    with pytest.raises(MediaError) as failed:
        await coding.encode(plain(64, 64, 0))
    assert "canary" not in str(failed.value)
    monkeypatch.undo()
    assert await coding.encode(plain(64, 64, 0)) is not None
    await coding.encoder.close()


async def test_coding_that_hangs_is_given_up_and_so_is_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    coding = Coding(VideoCodec.VP8)
    monkeypatch.setattr(video_encoder, "ENCODE_SECONDS", 0.05)
    monkeypatch.setattr(video_encoder, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(coding.encoder, "_encode", lambda *_: video_encoder_sleep())
    with pytest.raises(MediaError, match="longer"):
        await coding.encode(plain(64, 64, 0))
    await coding.encoder.close()


def video_encoder_sleep() -> None:
    import time

    time.sleep(0.3)


def test_a_codec_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_encode(VideoCodec.VP8)
    can_encode.cache_clear()
    monkeypatch.setitem(video_encoder._NAMES, VideoCodec.H264, "libnothing")
    with pytest.raises(MediaError):
        VideoEncoder(VideoCodec.H264)
    monkeypatch.undo()
    can_encode.cache_clear()
