"""The size of a frame is known before a decoder sees it, and what is not what it says is refused."""

from __future__ import annotations

import time

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.media.video.bitstream import (
    MAX_PARAMETERS,
    MAX_SETS,
    MAX_SLICES,
    MAX_UNITS,
    FrameRefusal,
    frame_refusal,
    picture_sizes,
)
from relaycall.media.video.format import VideoCodec
from tests.media.video.coded import (
    H264,
    KEY_SLICE,
    PICTURE_PARAMETERS,
    SLICE,
    VP8,
    BitWriter,
    encode,
    h264_parameters,
    some_frames,
    vp8_header,
)

SIZES = [(16, 16), (18, 34), (64, 48), (160, 90), (320, 180), (426, 240), (640, 360), (854, 480), (1080, 1920)]
SIZES += [(1280, 720), (1920, 1080), (1920, 1088)]


def shown(codec: VideoCodec, data: bytes) -> list[tuple[int, int]]:
    return [(size.width, size.height) for size in picture_sizes(codec, data)]


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_real_keyframes(codec: VideoCodec, size: tuple[int, int]) -> None:
    [(data, keyframe)] = encode(codec, 1, *size)
    assert keyframe
    assert shown(codec, data) == [size]
    assert frame_refusal(codec, data, keyframe=True) is None


@pytest.mark.parametrize(
    ("profile", "pixels"),
    [
        *[("baseline", "yuv420p"), ("main", "yuv420p"), ("high", "yuv420p"), ("high10", "yuv420p10le")],
        *[("high422", "yuv422p"), ("high422", "yuv422p10le"), ("high444", "yuv444p"), ("high", "gray")],
    ],
)
def test_profiles_of_h264(profile: str, pixels: str) -> None:
    [(data, _)] = encode(H264, 1, 322, 182, pixels, profile=profile)
    assert shown(H264, data) == [(322, 182)]
    decoded = av.CodecContext.create("h264", "r").decode(av.Packet(data))
    assert [(frame.width, frame.height) for frame in decoded] == [(322, 182)]


def test_interlaced_and_with_scaling_lists() -> None:
    [(data, _)] = encode(H264, 1, 320, 180, flags="+ildct")
    assert shown(H264, data) == [(320, 180)]
    [(data, _)] = encode(H264, 1, 320, 180, profile="high", x264_params="cqm=jvt:bframes=0")
    assert shown(H264, data) == [(320, 180)]


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_other_frames_are_taken_for_what_they_are(codec: VideoCodec) -> None:
    for data, keyframe in some_frames(codec):
        assert frame_refusal(codec, data, keyframe=keyframe) is None
        assert frame_refusal(codec, data, keyframe=not keyframe) is FrameRefusal.KIND


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_the_other_codec_is_none(codec: VideoCodec) -> None:
    other = H264 if codec is VP8 else VP8
    for data, keyframe in some_frames(other)[:12]:
        assert frame_refusal(codec, data, keyframe=keyframe) is not None


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        *[((1920, 1088), True), ((1088, 1920), True), ((1, 1), True), ((1921, 16), False), ((16, 1921), False)],
        *[((1920, 1089), False), ((1920, 1920), False), ((8192, 8192), False), ((0, 16), False), ((16, 0), False)],
        ((16383, 16383), False),
    ],
)
def test_sizes_of_vp8(size: tuple[int, int], taken: bool) -> None:
    data = vp8_header(*size) + bytes(200)
    assert frame_refusal(VP8, data, keyframe=True) is (None if taken else FrameRefusal.SIZE)


def test_scaling_of_vp8_is_no_part_of_its_size() -> None:
    assert shown(VP8, vp8_header(64 | 0x4000, 48 | 0xC000) + bytes(200)) == [(64, 48)]


@pytest.mark.parametrize(
    ("units", "taken"),
    [
        *[((120, 68), True), ((68, 120), True), ((1, 1), True), ((121, 1), False), ((1, 121), False)],
        *[((120, 69), False), ((512, 512), False), ((2000, 1), False), ((1, 2000), False), ((60000, 60000), False)],
    ],
)
def test_sizes_of_h264(units: tuple[int, int], taken: bool) -> None:
    data = h264_parameters(*units) + PICTURE_PARAMETERS + KEY_SLICE
    assert frame_refusal(H264, data, keyframe=True) is (None if taken else FrameRefusal.SIZE)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (h264_parameters(40, 23, crop=(0, 0, 0, 4)), (640, 360)),
        (h264_parameters(40, 23, crop=(1, 2, 3, 4)), (634, 354)),
        (h264_parameters(40, 23, profile=100, chroma=1, crop=(1, 2, 3, 4)), (634, 354)),
        (h264_parameters(40, 23, profile=100, chroma=0, crop=(1, 2, 3, 4)), (637, 361)),
        (h264_parameters(40, 23, profile=122, chroma=2, crop=(1, 2, 3, 4)), (634, 361)),
        (h264_parameters(40, 23, profile=244, chroma=3, crop=(1, 2, 3, 4)), (637, 361)),
        (h264_parameters(40, 12, fields=True, crop=(1, 2, 3, 4)), (634, 356)),
        (h264_parameters(40, 23, profile=100, chroma=1, lists=True), (640, 368)),
        (h264_parameters(40, 23, profile=244, chroma=3, lists=True), (640, 368)),
        (h264_parameters(40, 23, order=0), (640, 368)),
        (h264_parameters(40, 23, order=1), (640, 368)),
        (h264_parameters(40, 23, order=1, offset=1 << 30), (640, 368)),  # zeros, with emulation prevention between them
    ],
)
def test_parameter_sets(data: bytes, size: tuple[int, int]) -> None:
    assert shown(H264, data) == [size]


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param(h264_parameters(40, 23, crop=(200, 200, 0, 0)), id="nothing left of its width"),
        pytest.param(h264_parameters(40, 23, crop=(0, 0, 100, 84)), id="nothing left of its height"),
        pytest.param(h264_parameters(40, 23, profile=139), id="a profile that some read otherwise"),
        pytest.param(h264_parameters(40, 23, profile=100, chroma=4), id="chroma format"),
        pytest.param(h264_parameters(40, 23, order=3), id="picture order"),
        pytest.param(h264_parameters(40, 23, identifier=32), id="identifier"),
        pytest.param(h264_parameters(40, 23)[:-3], id="cut off"),
        pytest.param(h264_parameters(40, 23)[:5], id="empty"),
        pytest.param(h264_parameters(40, 23) + b"\0\0\2" + bytes(8), id="ends within"),
        pytest.param(h264_parameters(40, 23) + b"\7" * 3000, id="too long"),
        pytest.param(b"\0\0\0\1\x67\x42\0\x28" + b"\0\1" * 20, id="a number of 32 bits"),
    ],
)
def test_parameter_sets_that_are_refused(parameters: bytes) -> None:
    assert frame_refusal(H264, parameters + PICTURE_PARAMETERS + KEY_SLICE, keyframe=True) is FrameRefusal.SIZE


def test_as_many_parameter_sets_as_may_be() -> None:
    one = h264_parameters(40, 23)
    assert frame_refusal(H264, one * MAX_SETS + KEY_SLICE, keyframe=True) is None
    assert frame_refusal(H264, one * (MAX_SETS + 1) + KEY_SLICE, keyframe=True) is FrameRefusal.SIZE


def test_every_parameter_set_is_looked_at() -> None:
    good, large = h264_parameters(40, 23), h264_parameters(512, 512, identifier=1)
    for data in (good + large + KEY_SLICE, large + good + KEY_SLICE, good + KEY_SLICE + large):
        assert frame_refusal(H264, data, keyframe=True) is FrameRefusal.SIZE
    for data in (SLICE + large, large + SLICE, good + SLICE):
        for keyframe in (True, False):
            assert frame_refusal(H264, b"\0" + data[-len(data) :], keyframe=keyframe) is FrameRefusal.KIND


def test_parameters_that_are_laborious_to_read() -> None:
    """They are read on the event loop, and a peer may send a hundred such frames a second."""
    bits = BitWriter().write(8, 244).write(8, 0).write(8, 40).golomb(0, 3).write(1, 0).golomb(0, 0).write(2, 0b01)
    for size in [16] * 6 + [64] * 6:
        bits.write(1, 1).golomb(*[2 * 63 * 256 - 1] * size)  # steps of 63 * 256, which lead nowhere
    bits.golomb(0, 2, 1).write(1, 0).golomb(39, 22).write(4, 0b1100)
    one = b"\0\0\0\1\x67" + bits.data()
    assert 1500 < len(one) < MAX_PARAMETERS
    data = one * MAX_SETS + KEY_SLICE
    assert shown(H264, data) == [(640, 368)] * MAX_SETS
    took = []
    for _ in range(10):
        started = time.thread_time()
        frame_refusal(H264, data, keyframe=True)
        took.append(time.thread_time() - started)
    assert min(took) < 0.007  # seconds; 0.0017 on one quiet machine


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0\0\0\1", id="an empty unit"),
        pytest.param(b"\0" + SLICE + b"\0\0\1", id="an empty unit at the end"),
        pytest.param(b"\0\0\1" + SLICE, id="an empty unit before"),
        pytest.param(SLICE, id="a start code of three bytes, which may be taken for a length"),
        pytest.param(len(SLICE).to_bytes(4, "big") + SLICE[3:], id="a length instead of a start code"),
        pytest.param(b"\0" + b"\0\0\1\xc1\x9a", id="forbidden bit"),
        pytest.param(b"\0" + b"\0\0\1\x06\x05", id="no slice"),
        pytest.param(b"\0" + SLICE + b"\0\0\1\x42\x9a", id="partitions"),
        pytest.param(b"\0" + SLICE * (MAX_SLICES + 1), id="slices"),
        pytest.param(b"\0" + SLICE + b"\0\0\1\x06\x05" * MAX_UNITS, id="units"),
        pytest.param(b"\0" + KEY_SLICE, id="a keyframe without parameters"),
    ],
)
def test_h264_that_is_refused(data: bytes) -> None:
    for keyframe in (True, False):
        assert frame_refusal(H264, data, keyframe=keyframe) is FrameRefusal.KIND


def test_as_many_slices_as_may_be() -> None:
    assert frame_refusal(H264, b"\0" + SLICE * MAX_SLICES, keyframe=False) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        vp8_header(64, 48, keyframe=False),
        vp8_header(64, 48, keyframe=False, partition=0) + bytes(50),
        vp8_header(64, 48, keyframe=False, partition=51) + bytes(50),
        vp8_header(64, 48, keyframe=False, partition=50, version=4) + bytes(50),
        vp8_header(64, 48, partition=51) + bytes(50),
    ],
)
def test_vp8_that_is_refused(data: bytes) -> None:
    for keyframe in (True, False):
        assert frame_refusal(VP8, data, keyframe=keyframe) is FrameRefusal.KIND


def test_a_vp8_keyframe_without_its_start_code() -> None:
    data = vp8_header(64, 48).replace(b"\x9d", b"\x9c") + bytes(200)
    assert frame_refusal(VP8, data, keyframe=True) is FrameRefusal.SIZE


@given(st.sampled_from(VideoCodec), st.binary(max_size=200), st.booleans())
def test_anything_is_judged(codec: VideoCodec, data: bytes, keyframe: bool) -> None:
    for whole in (data, b"\0\0\0\1" + data, b"\0\0\0\1\x67" + data + KEY_SLICE):
        assert frame_refusal(codec, whole, keyframe=keyframe) in (None, *FrameRefusal)


@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.sampled_from([(66, None), (77, None), (100, 0), (100, 1), (110, 1), (122, 2), (244, 3), (44, 3)]),
    st.booleans(),
    st.none() | st.tuples(*[st.integers(0, 7)] * 4),
    st.booleans(),
    st.sampled_from([0, 1, 2]),
)
def test_a_size_is_read_as_it_was_written(
    wide: int,
    high: int,
    profile: tuple[int, int | None],
    fields: bool,
    crop: tuple[int, int, int, int] | None,
    lists: bool,
    order: int,
) -> None:
    data = h264_parameters(
        *(wide, high), profile=profile[0], chroma=profile[1], fields=fields, crop=crop, lists=lists, order=order
    )
    [size] = picture_sizes(H264, data)
    assert (size.coded_width, size.coded_height) == (16 * wide, 16 * high * (2 if fields else 1))
    assert (size.width == size.coded_width) is (crop is None or crop[0] + crop[1] == 0)
    assert (size.height == size.coded_height) is (crop is None or crop[2] + crop[3] == 0)


@given(st.data())
def test_a_size_that_is_taken_is_one_the_decoder_takes(data: st.DataObject) -> None:
    """A real keyframe with bytes of its parameters changed: never a larger picture than was said."""
    original = REAL[data.draw(st.sampled_from(VideoCodec))]
    changed = bytearray(original)
    for place, byte in data.draw(st.dictionaries(st.integers(0, 40), st.integers(0, 255), max_size=2)).items():
        changed[place % len(changed)] = byte
    codec = H264 if original is REAL[H264] else VP8
    if frame_refusal(codec, bytes(changed), keyframe=True) is not None:
        return
    sizes = picture_sizes(codec, bytes(changed))
    decoder = av.CodecContext.create(codec.value, "r")
    decoder.thread_count = 1
    try:
        frames = decoder.decode(av.Packet(bytes(changed)))
    except (av.FFmpegError, ValueError):
        return
    for frame in frames:
        assert any(frame.width <= size.coded_width and frame.height <= size.coded_height for size in sizes)


REAL = {codec: encode(codec, 1)[0][0] for codec in VideoCodec}


def test_a_frame_that_is_none_has_no_size() -> None:
    for codec, data in ((VP8, some_frames(VP8)[1][0]), (H264, b"abc")):
        with pytest.raises(MalformedMessage):
            picture_sizes(codec, data)
