"""What a call sends and hears: source and sink, its relays, and the audio between them, from the first to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relaycall.call.ends import Ends
from relaycall.call.events import CallEvent, Ended
from relaycall.call.line import Line
from relaycall.call.media_call import MediaCall
from relaycall.relays.pool import RelayPool


class Sound:
    """That of one call.

    Args:
        line: gives relays.
        on_event: called with each event of the media.

    Attributes:
        media: the media, once there is some.
    """

    def __init__(self, line: Line, *, on_event: Callable[[CallEvent], None]) -> None:
        self.media: MediaCall | None = None
        self._line = line
        self._on_event = on_event
        self._ends: Ends | None = None
        self._pool: RelayPool | None = None
        self._preparing = asyncio.Lock()

    def give(self, ends: Ends) -> None:
        """What to send, and where to put what comes. All of it is closed in the end."""
        self._ends = ends

    async def prepare(self, *, caller: bool) -> bytes:
        """Take relays and give our record, the same one each time.

        Args:
            caller: whether this side is the caller, as far as is known; see `MediaCall.give_way`.

        Raises:
            NoRelay: no relay can be used.
            RelaycallError: there are no credentials for them.
            CallClosed: the call is over.
        """
        assert self._ends is not None, "place or accept gave them"
        async with self._preparing:
            if self.media is None:
                self._pool = await self._line.take_pool()
                ends, options = self._ends, self._line.options
                self.media = MediaCall(
                    self._pool,
                    caller=caller,
                    source=ends.audio,
                    sink=ends.sink,
                    video=ends.video,
                    video_sink=ends.video_sink,
                    options=options,
                    on_event=self._on_event,
                )
            return await self.media.prepare()

    async def heard_or_ended(self) -> Ended | None:
        """Wait until the other side is heard, or the audio has ended before; then how."""
        assert self.media is not None, "it was prepared"
        heard, ended = (asyncio.ensure_future(one) for one in (self.media.heard(), self.media.ended()))
        try:
            await asyncio.wait([heard, ended], return_when=asyncio.FIRST_COMPLETED)
            return None if heard.done() else ended.result()
        finally:
            heard.cancel()
            ended.cancel()

    async def close(self) -> None:
        """Close all of it and give the relays back, within two seconds. Nobody may be preparing any more."""
        try:
            if self.media is None and self._ends is not None:
                self._ends.close()
            parts = [part for part in (self.media, self._pool) if part is not None]
            await asyncio.gather(*(part.close() for part in parts), return_exceptions=True)
        finally:
            if self._pool is not None:
                self._line.give_back_pool()
