"""Two ICE agents, their relays and the network between them, in virtual time and with a seed.

    a ──access──▶ its relay ──hop──▶ b's relay ──access──▶ b

A relay drops what comes from an address its client has not permitted yet, as TURN does; a permission takes the
client's way to the relay to arrive. Loss, jitter (which reorders), and black holes are set while it runs.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import ceil

from relaycall.ice.agent import Agent
from relaycall.ice.agent_events import Doubled, Event, Selected, Unselected
from relaycall.ice.candidate import priority
from relaycall.ice.pair import MAX_OUTSTANDING
from relaycall.stun.address import Address

Path = tuple[Address, Address]  # from relay, to relay
PACKET = 0.02  # seconds
MEDIA_BYTES = 108
RESENT = 25  # packets at most


class Side:
    """One party.

    Attributes:
        relays: our relayed addresses by number.
        history: what the agent chose, and when.
        also: the pairs that carry media besides the chosen one.
        arrivals: when new media came, and its number.
        media_bytes, check_bytes: sent, as payload of the relay's channels; answers count as checks.
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
        self.also: tuple[tuple[int, Address], ...] = ()
        self.speaking = False
        self.stalled_until = 0.0
        self.sequence = 0
        self.arrivals: list[tuple[float, int]] = []
        self.media_bytes = self.check_bytes = self.check_count = 0
        self._known: set[int] = set()
        self._inbox: list[Callable[[], object]] = []

    def allocate(self, index: int, address: Address | None = None) -> Address:
        """One more relay of ours: relay number 0 is preferred."""
        address = address or Address(f"{self.host}{index + 1}", 50000)
        self.relays[index] = address
        self.agent.add_local(index, address.family, priority(index), self.network.now, host=address.host)
        return address

    def learn(self, remote: Address, index: int) -> None:
        """Hear of a relay of the peer's: permit it everywhere, and check."""
        for local in self.relays.values():
            self.permit(local, remote)
        self.agent.add_remote(remote, priority(index), self.network.now)
        self.network.pump()

    def permit(self, local: Address, remote: Address) -> None:
        """Have our relay let packets from this address through, once it hears of it."""
        self.network.later(self.network.access, lambda: self.permitted.add((local, remote)), outside=True)

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
        return sum(at >= since and isinstance(event, Selected | Unselected) for at, event in self.history)

    def unselected(self) -> int:
        """How often there was no choice left."""
        return sum(isinstance(event, Unselected) for _, event in self.history)

    # --- media --------------------------------------------------------------------------------------------------------

    def speak(self) -> None:
        """Send a packet every 20 ms from now on."""
        self.speaking = True
        self._speak()

    def _speak(self) -> None:
        if self.speaking:
            self.network.later(PACKET, self._speak, outside=True)
            if self.network.now >= self.stalled_until:
                self.sequence += 1
                self.send_media(self.sequence)

    def send_media(self, *numbers: int) -> None:
        """Packets, over the chosen pair and the others."""
        chosen = self.agent.selected
        pairs = ([(chosen.local, chosen.remote)] if chosen is not None else []) + list(self.also)
        for local, remote in pairs:
            self.send_media_on(local, remote, *numbers)

    def send_media_on(self, local: int, remote: Address, *numbers: int) -> None:
        for number in numbers:
            self.media_bytes += MEDIA_BYTES
            self.network.transmit(self, (self.relays[local], remote), number)

    def resend(self, pairs: Iterable[tuple[int, Address]], seconds: float) -> None:
        """What was sent in that time, once more."""
        first = max(1, self.sequence + 1 - min(ceil(seconds / PACKET), RESENT))
        for local, remote in pairs if seconds else ():
            self.send_media_on(local, remote, *range(first, self.sequence + 1))

    def take_media(self, local: int, source: Address, number: int) -> None:
        pair = self.agent.pairs.get((local, source))
        if pair is None:
            return
        if number not in self._known:
            self._known.add(number)
            self.arrivals.append((self.network.now, number))
        self.agent.heard(pair, self.network.now)

    def stall(self, seconds: float) -> None:
        """Do nothing for so long; what arrives is read afterwards."""
        self.stalled_until = self.network.now + seconds
        self.network.later(seconds, lambda: self._wake(seconds))

    def _wake(self, seconds: float) -> None:
        inbox, self._inbox = self._inbox, []
        for read in inbox[:64]:
            read()
        self.agent.stalled(seconds, self.network.now)
        self.agent.handle_timeout(self.network.now)
        for read in inbox[64:]:
            read()

    def reads(self, action: Callable[[], object]) -> None:
        """Something arrived."""
        if self.network.now < self.stalled_until:
            self._inbox.append(action)
        else:
            action()

    def gap(self, since: float) -> float:
        """The longest time without a new packet, in seconds."""
        times = [at for at, _ in self.arrivals if at >= since - 0.1]
        return max(later - earlier for earlier, later in pairwise(times))

    @property
    def highest(self) -> int:
        """The latest packet that came, by its number."""
        return max(self._known)

    def lost(self, peer: Side) -> int:
        """How many of the peer's packets never came."""
        return peer.sequence - len(self._known)


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
        self._queue: list[tuple[float, int, Callable[[], object], bool]] = []
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

    def call(self, relays_a: int = 2, relays_b: int = 2, seconds: float = 3.0) -> None:
        """Connect, and have both speak and watch for a while."""
        self.connect(relays_a, relays_b)
        self.watch()
        self.run(seconds)
        assert self.agreed

    def watch(self) -> None:
        """Both speak, and listen to the other."""
        for side in self.sides:
            side.agent.failover.watch(self.now)
            side.speak()

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

    def later(self, seconds: float, action: Callable[[], object], *, outside: bool = False) -> None:
        """Have it happen in so many seconds. What is `outside` of the agents changes neither of them."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), action, outside))

    def run(self, seconds: float, until: Callable[[Network], bool] = lambda _network: False) -> float:
        """Let that much time pass, or stop as soon as `until` holds. Returns the seconds that passed."""
        started, end = self.now, self.now + seconds
        self.pump()
        timeouts = self._timeouts()
        while not until(self):
            due = self._queue[0][0] if self._queue else float("inf")
            at = min(due, max(timeouts[0], self.a.stalled_until), max(timeouts[1], self.b.stalled_until))
            if at > end:
                self.now = end
                break
            self.now = max(self.now, at)
            unchanged = True
            if due <= self.now:
                *_, action, unchanged = heapq.heappop(self._queue)
                action()
            if not unchanged:
                timeouts = self._timeouts()
            for index, side in enumerate(self.sides):
                if timeouts[index] <= self.now and self.now > side.stalled_until:
                    side.agent.handle_timeout(self.now)
                    timeouts[index] = side.agent.next_timeout()
                    unchanged = False
            if not unchanged:
                self.pump()
        return self.now - started

    def _timeouts(self) -> list[float]:
        return [side.agent.next_timeout() for side in self.sides]

    def pump(self) -> None:
        """Send what the agents want sent, note what they chose, and check what must always hold."""
        for side in self.sides:
            agent = side.agent
            while agent.outgoing:
                local, remote, data = agent.outgoing.popleft()
                side.check_bytes += len(data)
                side.check_count += 1
                if data[0] == 0:
                    side.checks.append((self.now, local, remote, data))
                self._send(side, local, remote, side.rewrite(data))
            while agent.events:
                event = agent.events.popleft()
                side.history.append((self.now, event))
                if isinstance(event, Doubled):
                    side.resend(set(event.pairs) - set(side.also), event.resend)
                    side.also = event.pairs
                elif isinstance(event, Selected):
                    side.resend([(event.local, event.remote)], event.resend)
            check_invariants(agent)

    # --- packets ------------------------------------------------------------------------------------------------------

    def _send(self, side: Side, local: int, remote: Address, data: bytes) -> None:
        self.transmit(side, (side.relays[local], remote), data)

    def transmit(self, side: Side, path: Path, data: bytes | int) -> None:
        """A STUN message, or a media packet by its number."""
        if self.random.random() >= self.loss and not self._hole(path):
            self.later(self.access + self.hop, lambda: self._arrive(self.peer(side), path, data), outside=True)

    def _hole(self, path: Path) -> bool:
        return path in self.blocked or not self.dead.isdisjoint(path)

    def _arrive(self, receiver: Side, path: Path, data: bytes | int) -> None:
        """At the receiver's relay."""
        source, relay = path
        if (relay, source) in receiver.permitted and not self._hole(path):
            late = self.slow.get(path, 0.0) + self.random.uniform(0.0, self.jitter)
            self.later(self.access + late, lambda: receiver.reads(lambda: self._deliver(receiver, path, data)))

    def _deliver(self, receiver: Side, path: Path, data: bytes | int) -> None:
        source, relay = path
        index = next((index for index, address in receiver.relays.items() if address == relay), None)
        if index is not None and isinstance(data, int):
            receiver.take_media(index, source, data)
        elif index is not None and isinstance(data, bytes):
            self.delivered.append((receiver, index, source, data))
            receiver.agent.receive(index, source, data, self.now)


def check_invariants(agent: Agent) -> None:
    """What holds after every call."""
    chosen = agent.selected
    assert chosen is None or agent.pairs.get((chosen.local, chosen.remote)) is chosen
    assert len(agent.pairs) <= 64
    assert all(len(pair.outstanding) <= MAX_OUTSTANDING for pair in agent.pairs.values())
