"""In-band control at work: `Control` with a clock and packets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from relaycall.call.control import Control
from relaycall.call.control_format import ControlState, HangupReason
from relaycall.errors import CallClosed, MediaError
from relaycall.media.transport import RtpTransport

HANGUP_WAIT = 0.3  # seconds the peer has to acknowledge that we hang up


class InBand:
    """What the two sides of a running call tell each other.

    Args:
        transport: carries the messages.
        control: both sides' states, as the records told them.
        on_news: called with each new state of the peer's.
    """

    def __init__(self, transport: RtpTransport, control: Control, on_news: Callable[[ControlState], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._control = control
        self._on_news = on_news
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._closed = False
        transport.on_control = self._receive

    @property
    def remote(self) -> ControlState:
        """The peer's latest state."""
        return self._control.remote

    def update(self, **changes: Any) -> None:
        """Change fields of our state, and tell the peer. Nothing changes once either side hung up."""
        control = self._control
        if self._closed:
            return
        try:
            control.update(replace(control.local, **changes), self._loop.time())
        except (CallClosed, MediaError):
            return
        self._pump()

    async def hang_up(self, reason: HangupReason) -> None:
        """Tell the peer, and wait a moment for its acknowledgement; not if it hung up itself."""
        if self._control.remote.hangup is not None:
            return
        self._settled.clear()
        self.update(hangup=reason)
        try:
            async with asyncio.timeout(HANGUP_WAIT):
                while not (self._control.acknowledged or self._control.remote.hangup):
                    await self._settled.wait()
                    self._settled.clear()
        except TimeoutError:
            return

    def close(self) -> None:
        """Send nothing any more."""
        self._closed = True
        self._transport.on_control = None
        if self._timer is not None:
            self._timer.cancel()

    def _receive(self, payload: bytes) -> None:
        news = self._control.receive(payload, self._loop.time())
        self._pump()
        self._settled.set()
        if news is not None:
            self._on_news(news)

    def _due(self) -> None:
        self._control.handle_timeout(self._loop.time())
        self._pump()

    def _pump(self) -> None:
        while self._control.outgoing:
            self._transport.send_control(self._control.outgoing.popleft())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._control.next_timeout()
        if at != float("inf"):
            self._timer = self._loop.call_at(at, self._due)
