"""One side of audio calls as a program of its own, with ears: see `tests.scenarios.party` for how it is spoken to.

It places one call after the other: prepare, connect, close. Times are those of the monotonic clock, which all programs
of a machine share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from typing import Any

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent
from relaycall.call.media_call import MediaCall
from relaycall.relays.server import RelayServer
from tests.scenarios.failover.listening import RisingTone, not_heard_ms
from tests.scenarios.failover.watching import Ear, Traffic, described, paths, relay_in_use, set_wall_clock
from tests.scenarios.party import Answer, serve


class FailoverParty:
    """The call and the commands on it. Settings: `ca_file`, for TLS."""

    def __init__(self, settings: dict[str, Any]) -> None:
        ca_file = settings.get("ca_file")
        self._context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._traffic = Traffic()
        self._events: list[dict[str, Any]] = []
        self._call: MediaCall | None = None
        self._ear: Ear | None = None
        self._watching: asyncio.Task[None] | None = None
        self._end: dict[str, Any] | None = None

    async def do_prepare(self, relays: list[list[str]], caller: bool, protect: bool | None = None) -> Answer:
        """Allocate for a new call, on relays as [uri, username, password]; gives the record."""
        servers = [
            RelayServer.parse(uri, username=username, password=password, ssl_context=self._context)
            for uri, username, password in relays
        ]
        self._events, self._ear, self._end = [], None, None
        options = MediaOptions(protect=bool(protect), laboratory=True)
        self._call = MediaCall(servers, caller=caller, source=RisingTone(), options=options, on_event=self._happened)
        return {"record": base64.b64encode(await self._call.prepare()).decode()}

    async def do_connect(self, record: str, timeout: float = 5.0) -> Answer:
        """Connect to the other side's record; gives the seconds it took."""
        assert self._call is not None
        start = time.monotonic()
        await self._call.connect(base64.b64decode(record), timeout=timeout)
        took = time.monotonic() - start
        self._ear = Ear(self._call)
        self._watching = asyncio.ensure_future(self._watch(self._call))
        return {"seconds": took}

    async def do_facts(self) -> Answer:
        """What there is to know: the events, the relay in use, the paths, how it ended."""
        assert self._call is not None
        return {
            "events": self._events,
            "relay": relay_in_use(self._call),
            "paths": paths(self._call),
            "ended": self._end,
            "arrived": len(self._ear.arrivals.times) if self._ear is not None else 0,
        }

    async def do_gap(self, since: float) -> Answer:
        """What an event at that time did; see `Arrivals.gap`. `not_heard_ms`: what was concealed or silent."""
        assert self._ear is not None
        return {
            **self._ear.arrivals.gap(since, time.monotonic()),
            "not_heard_ms": not_heard_ms(self._ear.frames, since),
        }

    async def do_traffic(self) -> Answer:
        """Bytes handed to relays since the program began: of checks, and of everything."""
        return {"checks": self._traffic.bytes["checks"], "all": self._traffic.bytes["all"]}

    async def do_move(self) -> Answer:
        """Move to another path because we want to; gives when."""
        assert self._call is not None
        at = time.monotonic()
        connection: Any = self._call.connection
        connection.move()
        return {"at": at}

    async def do_block(self, seconds: float) -> Answer:
        """Block the event loop."""
        time.sleep(seconds)  # noqa: ASYNC251 - that is the point
        return {}

    async def do_set_wall_clock(self, seconds: float) -> Answer:
        """The time of day is off by so much from now on."""
        set_wall_clock(seconds)
        return {}

    async def do_close(self, delay: float = 0.0) -> Answer:
        """Close the call, after a moment; gives the seconds it took."""
        await asyncio.sleep(delay)
        start = time.monotonic()
        if self._call is not None:
            await self._call.close()
        return {"seconds": time.monotonic() - start}

    def _happened(self, event: CallEvent) -> None:
        self._events.append({"at": time.monotonic(), **described(event)})

    async def _watch(self, call: MediaCall) -> None:
        end = await call.ended()
        self._end = {"at": time.monotonic(), "reason": end.reason}


async def main() -> None:
    await serve(FailoverParty(json.loads(sys.argv[1])))


if __name__ == "__main__":
    asyncio.run(main())
