"""The threads that code and decode run behind the event loop's, where the system lets them."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from relaycall.media.video import encoder as video_encoder
from relaycall.media.video.decoder import Decoded, FrameDecoder, VideoDecoder
from relaycall.media.video.encoder import VideoEncoder
from relaycall.media.video.format import Encoding, VideoCodec
from relaycall.media.video.frames import EncodedFrame
from relaycall.media.video.priority import LOWER, lower_priority
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.video.coded import picture
from tests.waiting import eventually

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def behind() -> int:
    return min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + LOWER, 19)


def in_a_thread(found: list[int]) -> None:
    def work() -> None:
        for _ in range(2):
            lower_priority()
            found.append(niceness())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)


@ON_LINUX
def test_a_thread_is_lowered_once_and_alone() -> None:
    before, found = niceness(), list[int]()
    in_a_thread(found)
    assert found == [behind(), behind()]
    assert niceness() == before < behind()


@ON_LINUX
async def test_both_threads_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, int] = {}
    encode, decode = video_encoder._Vp8.encode, FrameDecoder.decode

    def encoding(self: Any, *rest: Any) -> Any:
        found["encoder"] = niceness()
        return encode(self, *rest)

    def decoding(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        found["decoder"] = niceness()
        return decode(self, frame)

    monkeypatch.setattr(video_encoder._Vp8, "encode", encoding)
    monkeypatch.setattr(FrameDecoder, "decode", decoding)
    encoder, decoded = VideoEncoder(VideoCodec.VP8), list[Decoded]()
    made = await encoder.encode(picture(0, 64, 48), Encoding(100_000, 15, 48), keyframe=True, time=0.0)
    assert made is not None
    decoder = VideoDecoder(decoded.append)
    decoder.decode(EncodedFrame(made.data, 0, True, VideoCodec.VP8, 0.0))
    await eventually(lambda: decoded)
    await encoder.close()
    await decoder.close()
    assert found == {"encoder": behind(), "decoder": behind()}
    assert niceness() < behind()


@ON_LINUX
def test_where_it_is_forbidden_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    before, found = niceness(), list[int]()
    monkeypatch.setattr(os, "setpriority", forbid)
    in_a_thread(found)
    assert found == [before, before]


def test_elsewhere_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("getpriority", "setpriority"):
        monkeypatch.delattr(os, name, raising=False)
    lower_priority()
