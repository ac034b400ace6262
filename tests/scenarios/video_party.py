"""One side of a video call as a program of its own: see `party` for how it is spoken to.

Settings: `relays` as [uri, username, password], `caller`; optionally `width`, `height` and `frame_rate` of what is
shown, and `compares`: whether a bad path is compared with others. From the connection on it notes ten times a second
how the call is; all times are of the system's monotonic clock.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from av import VideoFrame

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent
from relaycall.call.media_call import MediaCall
from relaycall.media.files import FileSource
from relaycall.media.video.sources import TestPattern
from relaycall.relays.server import RelayServer
from tests.scenarios.party import serve

Answer = dict[str, Any]

EVERY = 0.1  # seconds
SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"


class Screen:
    """Notes when each picture came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, frame: VideoFrame) -> None:
        self.times.append(time.monotonic())

    def close(self) -> None:
        """There is nothing to release."""


class Speech:
    """A voice that never ends: of a tone Opus keeps no copies."""

    def __init__(self) -> None:
        self._file = FileSource(SPEECH)

    def read(self) -> bytes | None:
        pcm = self._file.read()
        if pcm is None:
            self._file.close()
            self._file = FileSource(SPEECH)
            pcm = self._file.read()
        return pcm

    def close(self) -> None:
        self._file.close()


class VideoParty:
    """The call and the commands on it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        shown = (settings.get("width", 640), settings.get("height", 360), settings.get("frame_rate", 25))
        options = MediaOptions(laboratory=True)
        self._screen = Screen()
        self._events: list[tuple[float, str, str]] = []
        self._notes: list[dict[str, Any]] = []
        self._noting: asyncio.Task[None] | None = None
        self._call = MediaCall(
            [RelayServer.parse(uri, username=user, password=password) for uri, user, password in settings["relays"]],
            caller=settings["caller"],
            source=Speech(),
            video=TestPattern(*shown),
            video_sink=self._screen,
            options=options if settings.get("compares", True) else replace(options, rtt_limit_ms=None, loss_limit=None),
            on_event=self._happened,
        )

    def _happened(self, event: CallEvent) -> None:
        self._events.append((time.monotonic(), type(event).__name__, str(event)))

    async def do_prepare(self) -> Answer:
        """Allocate; gives the record."""
        return {"record": base64.b64encode(await self._call.prepare()).decode()}

    async def do_connect(self, record: str, timeout: float = 10.0) -> Answer:
        """Connect to the other side's record."""
        await self._call.connect(base64.b64decode(record), timeout=timeout)
        self._noting = asyncio.create_task(self._note())
        return {}

    async def _note(self) -> None:
        while True:
            self._notes.append(self._now())
            await asyncio.sleep(EVERY)

    def _now(self) -> dict[str, Any]:
        session, running = self._call.session, self._call._running
        assert session is not None
        assert running is not None
        stats, picture = session.stats(), running._picture
        assert picture.sender is not None
        assert picture.receiver is not None
        sent, seen = picture.sender.stats(), picture.receiver.stats()
        encoding = picture.sender.encoding
        return {
            "at": time.monotonic(),
            "sent": stats.frames_sent,
            "received": stats.frames_received,
            "lost": stats.lost,
            "heard": stats.frames_heard,
            "recovered": stats.recovered,
            "concealed": stats.concealed,
            "queue_ms": session.queue_ms,
            "playout_ms": stats.playout_delay_ms,
            "audio_bitrate": session.encoding.bitrate,
            "target": encoding.bitrate if encoding is not None else 0,
            "video_bytes": stats.transport.video_bytes_sent,
            "bytes": stats.transport.bytes_sent,
            "copies": stats.transport.copies,
            "sent_again": sent.sent_again,
            "keyframes": sent.keyframes,
            "pictures": seen.frames_decoded,
            "freezes": seen.freezes,
            "available": running._steering.available,
        }

    async def do_notes(self) -> Answer:
        """What was noted and what has happened since the connection; what has been asked for is not given again."""
        notes, self._notes = self._notes, []
        events, self._events = self._events, []
        return {"notes": notes, "events": events}

    async def do_sends(self, bitrate: int, timeout: float) -> Answer:
        """Wait until our video is coded at this rate; gives the seconds that it took."""
        running, start = self._call._running, time.monotonic()
        assert running is not None
        sender = running._picture.sender
        assert sender is not None
        async with asyncio.timeout(timeout):
            while sender.encoding is None or sender.encoding.bitrate < bitrate:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return {"seconds": time.monotonic() - start}

    async def do_ended(self, timeout: float) -> Answer:
        """Wait for the call to end by itself."""
        async with asyncio.timeout(timeout):
            return {"reason": (await self._call.ended()).reason}

    async def do_close(self) -> Answer:
        """Close the call; gives the seconds it took."""
        if self._noting is not None:
            self._noting.cancel()
        start = time.monotonic()
        await self._call.close()
        return {"seconds": time.monotonic() - start}


async def main() -> None:
    await serve(VideoParty(json.loads(sys.argv[1])))


if __name__ == "__main__":
    asyncio.run(main())
