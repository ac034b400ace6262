"""Two ICE agents, their relays and the network between them, in virtual time and with a seed.

    a ──access──▶ its relay ──hop──▶ b's relay ──access──▶ b

A relay drops what comes from an address its client has not permitted yet, as TURN does; a permission takes the
client's way to the relay to arrive. Loss, jitter (which reorders), and black holes are set while it runs.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from relaycall.ice.agent import Agent, Event, Selected, Unselected
from relaycall.ice.candidate import priority
from relaycall.ice.pair import MAX_OUTSTANDING
from relaycall.stun.address import Address

Path = tuple[Address, Address]  # from relay, to relay


class Side:
    """One party.

    Attributes:
        relays: our relayed addresses by number.
        history: what the agent chose, and when.
        checks: every request sent, as (when, local, remote, bytes).
        rewrite: what becomes of each message before it is sent.
    """

    def __init__(self, network: Network, name: str, controlling: bool, host: str) -> None:
        self.network = network
        self.name = name
        self.host = host
        self.agent = Agent(controlling, f"ufrag{name}", f"{name}-password-of-22-chars", network.random.randbytes)
        self.relays: dict[int, Address] = {}
        self.permitted: set[Path] = set()
        self.history: list[tuple[float, Event]] = []
        self.checks: list[tuple[float, int, Address, bytes]] = []
        self.rewrite: Callable[[bytes], bytes] = lambda data: data

    def allocate(self, index: int, address: Address | None = None) -> Address:
        """One more relay of ours: relay number 0 is preferred."""
        address = address or Address(f"{self.host}{index + 1}", 50000)
        self.relays[index] = address
        self.agent.add_local(index, address.family, priority(index), self.network.now)
        return address

    def learn(self, remote: Address, index: int) -> None:
        """Hear of a relay of the peer's: permit it everywhere, and check."""
        for local in self.relays.values():
            self.permit(local, remote)
        self.agent.add_remote(remote, priority(index), self.network.now)
        self.network.pump()

    def permit(self, local: Address, remote: Address) -> None:
        """Have our relay let packets from this address through, once it hears of it."""
        self.network.later(self.network.access, lambda: self.permitted.add((local, remote)))

    @property
    def selected(self) -> Path | None:
        """The chosen path, from our relay to the peer's."""
        pair = self.agent.selected
        return None if pair is None else (self.relays[pair.local], pair.remote)

    @property
    def connected_at(self) -> float | None:
        """When a path was first chosen."""
        return next((at for at, event in self.history if isinstance(event, Selected)), None)

    def moves(self, since: float = 0.0) -> int:
        """How often the choice changed."""
        return sum(at >= since for at, _ in self.history)

    def unselected(self) -> int:
        """How often there was no choice left."""
        return sum(isinstance(event, Unselected) for _, event in self.history)


class Network:
    """The world.

    Args:
        rtt: seconds between a client and each of its relays, there and back.
        hop: seconds from relay to relay, one way.
        loss: the share of packets lost, on each way through the network.
        jitter: seconds by which a packet may be late.
        controlling: the roles the two sides believe to have.

    Attributes:
        blocked: paths on which nothing arrives; one direction each.
        dead: relays that neither take nor give anything.
        slow: seconds more on a path; one direction each.
        delivered: the STUN messages that arrived, as (side, local, source, bytes).
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        rtt: float = 0.05,
        hop: float = 0.0,
        loss: float = 0.0,
        jitter: float = 0.0,
        controlling: tuple[bool, bool] = (True, False),
    ) -> None:
        self.now = 100.0
        self.random = random.Random(seed)
        self.access = rtt / 2
        self.hop = hop
        self.loss = loss
        self.jitter = jitter
        self.blocked: set[Path] = set()
        self.dead: set[Address] = set()
        self.slow: dict[Path, float] = {}
        self.delivered: list[tuple[Side, int, Address, bytes]] = []
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self.a = Side(self, "a", controlling[0], "1.1.1.")
        self.b = Side(self, "b", controlling[1], "2.2.2.")
        self.sides = (self.a, self.b)
        for side, peer in (self.sides, self.sides[::-1]):
            side.agent.set_remote(peer.agent.ufrag, peer.agent.pwd)

    def peer(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    # --- scenes -------------------------------------------------------------------------------------------------------

    def start(self, relays_a: int = 1, relays_b: int = 1, *, skew: float = 0.0) -> None:
        """Both sides allocate, then learn of each other's relays: `b` by `skew` seconds later than `a`."""
        for side, count in ((self.a, relays_a), (self.b, relays_b)):
            for index in range(count):
                side.allocate(index)
        if skew < 0:
            self.meet(self.b)
            self.later(-skew, lambda: self.meet(self.a))
        else:
            self.meet(self.a)
            self.later(skew, lambda: self.meet(self.b))

    def meet(self, side: Side) -> None:
        """This side learns of all the other's relays."""
        for index, address in self.peer(side).relays.items():
            side.learn(address, index)

    def connect(self, relays_a: int = 1, relays_b: int = 1) -> None:
        """`start`, and let it settle."""
        self.start(relays_a, relays_b)
        self.run(2.0)
        assert self.agreed

    @property
    def connected(self) -> bool:
        """Whether both sides have chosen a path."""
        return self.a.connected_at is not None and self.b.connected_at is not None

    @property
    def agreed(self) -> bool:
        """Whether both sides have chosen, and the same path."""
        chosen = self.a.selected
        return chosen is not None and self.b.selected == chosen[::-1]

    # --- time ---------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), action))

    def run(self, seconds: float, until: Callable[[Network], bool] = lambda _network: False) -> float:
        """Let that much time pass, or stop as soon as `until` holds. Returns the seconds that passed."""
        started, end = self.now, self.now + seconds
        self.pump()
        while not until(self):
            due = self._queue[0][0] if self._queue else float("inf")
            at = min(due, *(side.agent.next_timeout() for side in self.sides))
            if at > end:
                self.now = end
                break
            self.now = max(self.now, at)
            if due <= self.now:
                heapq.heappop(self._queue)[2]()
            for side in self.sides:
                if side.agent.next_timeout() <= self.now:
                    side.agent.handle_timeout(self.now)
            self.pump()
        return self.now - started

    def pump(self) -> None:
        """Send what the agents want sent, note what they chose, and check what must always hold."""
        for side in self.sides:
            agent = side.agent
            while agent.outgoing:
                local, remote, data = agent.outgoing.popleft()
                if data[0] == 0:
                    side.checks.append((self.now, local, remote, data))
                self._send(side, local, remote, side.rewrite(data))
            while agent.events:
                side.history.append((self.now, agent.events.popleft()))
            check_invariants(agent)

    # --- packets ------------------------------------------------------------------------------------------------------

    def _send(self, side: Side, local: int, remote: Address, data: bytes) -> None:
        path = (side.relays[local], remote)
        if self.random.random() >= self.loss and not self._hole(path):
            self.later(self.access + self.hop, lambda: self._arrive(self.peer(side), path, data))

    def _hole(self, path: Path) -> bool:
        return path in self.blocked or not self.dead.isdisjoint(path)

    def _arrive(self, receiver: Side, path: Path, data: bytes) -> None:
        """At the receiver's relay."""
        source, relay = path
        if (relay, source) in receiver.permitted and not self._hole(path):
            late = self.slow.get(path, 0.0) + self.random.uniform(0.0, self.jitter)
            self.later(self.access + late, lambda: self._deliver(receiver, path, data))

    def _deliver(self, receiver: Side, path: Path, data: bytes) -> None:
        source, relay = path
        index = next((index for index, address in receiver.relays.items() if address == relay), None)
        if index is not None:
            self.delivered.append((receiver, index, source, data))
            receiver.agent.receive(index, source, data, self.now)


def check_invariants(agent: Agent) -> None:
    """What holds after every call."""
    chosen = agent.selected
    assert chosen is None or agent.pairs.get((chosen.local, chosen.remote)) is chosen
    assert len(agent.pairs) <= 64
    assert all(len(pair.outstanding) <= MAX_OUTSTANDING for pair in agent.pairs.values())
