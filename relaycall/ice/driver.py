"""What an agent decides, carried out: checks sent, paths switched, the timer armed, events told."""

from __future__ import annotations

import asyncio
from typing import Protocol

from relaycall.ice.agent import Agent
from relaycall.ice.agent_events import Doubled, Doubted, Event, LocalFailing, Reached, Selected, Unselected
from relaycall.ice.decisions import PeerBack, PeerSilent
from relaycall.ice.events import (
    ConnectionEvent,
    NoBackup,
    PathLost,
    PathSelected,
    PeerHeard,
    PeerUnheard,
    RelaySuspected,
)
from relaycall.ice.holdings import Holdings
from relaycall.ice.outlet import Outlet
from relaycall.ice.pair import PairState
from relaycall.ice.remotes import Remotes
from relaycall.ice.trial import Trial

REACHED_FOR = 1.5  # seconds that media may go where only the peer's checks came from, and no answer to ours yet
STALL = 0.05  # seconds by which a timer is late when something kept the event loop


class Owner(Protocol):
    """What is the connection's to do."""

    def path_reached(self) -> None: ...

    def path_selected(self) -> None: ...

    def peer_lost(self) -> None: ...

    def emit(self, event: ConnectionEvent) -> None: ...


class Driver:
    """The shell of one agent: call `pump` after every call of the agent's methods."""

    def __init__(self, agent: Agent, held: Holdings, outlet: Outlet, remotes: Remotes, owner: Owner) -> None:
        self._agent = agent
        self._held = held
        self._outlet = outlet
        self._remotes = remotes
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._backed = True
        self._trial = Trial()
        self._trying: asyncio.TimerHandle | None = None
        self._closed = False

    def pump(self) -> None:
        """Send what the agent wants sent, do what it has decided, and come back when it wants."""
        if self._closed:
            return
        agent = self._agent
        while agent.outgoing:
            local, peer, data = agent.outgoing.popleft()
            allocation = self._held.allocations.get(local)
            if allocation is not None:
                allocation.send(peer, data)
        while agent.events:
            self._happened(agent.events.popleft())
        self._tell_backup()
        at = min(agent.next_timeout(), self._trial.next_timeout())
        if at < self._timer_at or (self._timer is None and at != float("inf")):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._due)

    def close(self) -> None:
        """Do nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._trying is not None:
            self._trying.cancel()

    def _stop_trying(self) -> None:
        if self._agent.selected is None:
            self._outlet.select(None, 0.0)

    def _due(self) -> None:
        now = self._loop.time()
        late = now - self._timer_at
        self._timer, self._timer_at = None, float("inf")
        if late > STALL:
            self._agent.stalled(late, now)
        better = self._trial.handle_timeout(self._agent.selected, now)
        if better is not None and better.state is PairState.VALID:
            self._agent.move(now, better)
        self._agent.handle_timeout(now)
        self.pump()

    def compare(self) -> None:
        """Check every path often for four seconds, and go to a better one if there is."""
        self._trial.start(self._agent.pairs.values(), self._loop.time())
        self.pump()

    def _happened(self, event: Event) -> None:
        allocations, selected, emit = self._held.allocations, self._agent.selected, self._owner.emit
        match event:
            case Reached(local=local, remote=remote) if self._trying is None and local in allocations:
                self._trying = self._loop.call_later(REACHED_FOR, self._stop_trying)
                self._outlet.select((allocations[local], remote), 0.0)
                self._owner.path_reached()
            case Selected(local=local, remote=remote, resend=resend, failed=failed):
                self._outlet.select((allocations[local], remote), resend)
                self._owner.path_selected()
                emit(PathSelected(allocations[local].server.name, self._remotes.number(remote), failed))
            case Unselected():
                self._outlet.select(None, 0.0)
                emit(PathLost())
            case Doubled(pairs=pairs, resend=resend):
                paths = [(allocations[local], remote) for local, remote in pairs if local in allocations]
                self._outlet.double(tuple(paths), resend)
            case Doubted() if selected is not None and selected.local in allocations:
                self._held.ask(selected.local)
                emit(RelaySuspected(allocations[selected.local].server.name))
            case LocalFailing(local=local):
                self._held.ask(local)  # a relay that restarted says at once that it knows nothing of us
                self._held.fails(local)
            case PeerSilent(gone=True):
                self._owner.peer_lost()
            case PeerSilent():
                for index in list(allocations):
                    self._held.ask(index)
                emit(PeerUnheard())
            case PeerBack():
                emit(PeerHeard())
            case _:
                pass

    def _tell_backup(self) -> None:
        """Once when there is no spare path, and again after there was one."""
        if self._outlet.recent is None:
            return
        backed, before = self._agent.failover.has_backup(self._loop.time()), self._backed
        self._backed = backed
        if before and not backed:
            self._owner.emit(NoBackup())
