"""One side of a call, for tests: it keeps its events."""

from __future__ import annotations

from typing import Any

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent
from relaycall.call.media_call import MediaCall
from relaycall.media.audio import SilenceSource
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.scenarios.calling import until


class Party(MediaCall):
    """A call that keeps its events."""

    def __init__(self, relays: list[RelayServer] | RelayPool, *, caller: bool, **more: Any) -> None:
        self.events: list[CallEvent] = []
        super().__init__(
            relays,
            caller=caller,
            source=SilenceSource(),
            options=MediaOptions(laboratory=True, **more),
            on_event=self.events.append,
        )

    def told(self, *kinds: type) -> list[CallEvent]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def used(self) -> str:
        """The relay that carries the call."""
        return next(path.relay for path in self.connection.path_stats() if path.selected)


def pair(relays: list[RelayServer], **more: bool) -> tuple[Party, Party]:
    return Party(relays, caller=True, **more), Party(relays, caller=False, **more)


def by_name(embedded: list[Relay], relays: list[RelayServer]) -> dict[str, Relay]:
    return {server.name: relay for relay, server in zip(embedded, relays, strict=True)}


async def warm(*calls: MediaCall) -> None:
    """Wait until every path has answered but those that are being given up."""
    agents = [call.connection._agent for call in calls]
    await until(lambda: all(pair.healthy or pair.retiring for agent in agents for pair in agent.pairs.values()))
