"""Which relay: the best one, and a backup that is unlikely to fail with it. No I/O; time is an argument.

UDP comes before TCP and TLS, and a relay that keeps its packets before one that loses them; then the round trip counts.
The backup is a relay of another operator if there is one, else in another region, else in another network.

Whoever is chosen stays until another is clearly better: measurements jitter, and each move costs an allocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from relaycall.errors import ConfigError, NoRelay
from relaycall.relays.probe_result import LOSSY, ProbeResult
from relaycall.relays.server import RelayServer

MOVE_BELOW = 0.8  # of the current round trip: then another relay is clearly better
MOVE_BELOW_IF_POOR = 0.85  # ... and this does when the current one is poor
POOR_RTT_MS = 150.0
POOR_LOSS = 0.02
CLEARLY_SAFER = 0.03  # less loss than the current one has
RTT_SMOOTHING = 1 / 8  # the weight of a new measurement (RFC 6298, section 2, has the same for TCP)
LOSS_SMOOTHING = 1 / 16  # ... of ten packets or so, of which one may be lost by chance
FIRST_BAN = 30.0  # seconds
LONGEST_BAN = 1800.0


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen.

    Attributes:
        primary: the best relay.
        backup: one to fall back on; None if there is no other.
        latency_ms: median round trip to the primary.
        table: all results, the best first and the unusable last.
    """

    primary: RelayServer
    backup: RelayServer | None
    latency_ms: float
    table: tuple[ProbeResult, ...]


@dataclass(slots=True)
class _Ban:
    until: float
    length: float


class Bans:
    """Relays that failed, and until when they are left alone: 30 seconds at first, doubled each time up to 30 minutes.

    One that has held for half an hour after its last ban starts again at 30 seconds.
    """

    def __init__(self) -> None:
        self._bans: dict[RelayServer, _Ban] = {}

    def failed(self, server: RelayServer, now: float) -> float:
        """Ban a relay. Returns the seconds."""
        last = self._bans.get(server)
        if last is None or now > last.until + LONGEST_BAN:
            length = FIRST_BAN
        elif now < last.until:
            return last.until - now  # it is banned already: one failure is often noticed twice
        else:
            length = min(2 * last.length, LONGEST_BAN)
        self._bans[server] = _Ban(now + length, length)
        return length

    def banned(self, server: RelayServer, now: float) -> bool:
        """Whether it is banned."""
        ban = self._bans.get(server)
        return ban is not None and now < ban.until

    def lift(self, server: RelayServer, now: float) -> None:
        """End a ban: the relay works. Should it fail again, the next one is longer all the same."""
        if self.banned(server, now):
            self._bans[server].until = now

    def next_end(self, servers: Iterable[RelayServer], now: float) -> float:
        """When the first ban of these relays ends; infinity if none is banned."""
        return min((self._bans[server].until for server in servers if self.banned(server, now)), default=float("inf"))


def rank(
    results: Sequence[ProbeResult], *, previous: Selection | None = None, bans: Bans | None = None, now: float = 0.0
) -> Selection:
    """Choose.

    Args:
        results: of a probe.
        previous: what was chosen last; it is kept unless another is clearly better.
        bans: relays to leave out, unless there is no other.
        now: seconds, by the clock of the bans.

    Raises:
        ConfigError: there are no results.
        NoRelay: none is usable; it holds the reason for each.
    """
    if not results:
        raise ConfigError("There is nothing to choose from.", "Probe at least one relay.")
    usable = sorted((result for result in results if result.usable), key=_order)
    if not usable:
        raise NoRelay([result.error for result in results if result.error is not None])
    free = [result for result in usable if bans is None or not bans.banned(result.server, now)] or usable
    udp = {host_of(result.server) for result in free if result.server.transport == "udp"}
    free = [result for result in free if result.server.transport == "udp" or host_of(result.server) not in udp]
    best: dict[RelayServer, ProbeResult] = {}
    for result in free:
        best.setdefault(result.server, result)  # of its address families the better one
    candidates = list(best.values())
    primary = _keep(candidates, best.get(previous.primary) if previous else None)
    backup = _backup(candidates, primary, best.get(previous.backup) if previous and previous.backup else None)
    chosen = [result for result in (primary, backup) if result is not None]
    rest = [result for result in usable if not any(result is one for one in chosen)]
    return Selection(
        primary.server,
        backup.server if backup else None,
        _rtt(primary),
        (*chosen, *rest, *(result for result in results if not result.usable)),
    )


class Ranking:
    """Choosing again and again: what was chosen, smoothed measurements, bans, and the transports that work.

    Attributes:
        bans: relays that failed.
        selection: what was chosen last; None before.
    """

    def __init__(self) -> None:
        self.bans = Bans()
        self.selection: Selection | None = None
        self._smoothed: dict[tuple[RelayServer, str | None], tuple[float, float]] = {}
        self._transports: dict[str, str] = {}

    def update(self, results: Sequence[ProbeResult], now: float) -> Selection:
        """Choose by new results. The table has the smoothed round trips and losses.

        Raises:
            ConfigError, NoRelay: as `rank`.
        """
        smoothed = [self._smooth(result) for result in results]
        for result in smoothed:
            if not result.usable and self._transports.get(host_of(result.server)) == result.server.transport:
                del self._transports[host_of(result.server)]
        for result in sorted((result for result in smoothed if result.usable), key=_order, reverse=True):
            self._transports[host_of(result.server)] = result.server.transport  # the best is the last
        self.selection = rank(smoothed, previous=self.selection, bans=self.bans, now=now)
        return self.selection

    def worth_probing(self, relays: Sequence[RelayServer]) -> list[RelayServer]:
        """Those of the relays to probe next time: where a transport is known to work on a host, no other."""
        return [relay for relay in relays if self._transports.get(host_of(relay), relay.transport) == relay.transport]

    def _smooth(self, result: ProbeResult) -> ProbeResult:
        key = result.server, result.family
        if not result.usable:
            self._smoothed.pop(key, None)
            return result
        rtt, loss = _rtt(result), _loss(result)
        if key in self._smoothed:
            last_rtt, last_loss = self._smoothed[key]
            rtt = last_rtt + RTT_SMOOTHING * (rtt - last_rtt)
            loss = last_loss + LOSS_SMOOTHING * (loss - last_loss)
        self._smoothed[key] = rtt, loss
        return replace(result, rtt_ms=rtt, loss=None if result.loss is None else loss)


def host_of(server: RelayServer) -> str:
    """What the transports of one relay have in common: its name."""
    return (server.tls_name or server.host).lower().rstrip(".")


def _keep(candidates: Sequence[ProbeResult], current: ProbeResult | None) -> ProbeResult:
    """The current one, or the one that is clearly better."""
    if current is None or _tier(candidates[0]) < _tier(current):
        return candidates[0]
    peers = [result for result in candidates if _tier(result) == _tier(current)]
    other = min(peers, key=lambda result: (_loss(result) > POOR_LOSS, _rtt(result)))
    if _rtt(other) < MOVE_BELOW * _rtt(current):
        return other
    poor = _rtt(current) > POOR_RTT_MS or _loss(current) > POOR_LOSS
    nearer = _rtt(other) < MOVE_BELOW_IF_POOR * _rtt(current) and _loss(other) <= _loss(current)
    safer = _loss(other) < _loss(current) - CLEARLY_SAFER and _rtt(other) <= max(POOR_RTT_MS, _rtt(current))
    return other if poor and (nearer or safer) else current


def _backup(candidates: Sequence[ProbeResult], primary: ProbeResult, current: ProbeResult | None) -> ProbeResult | None:
    def shares(result: ProbeResult) -> tuple[object, ...]:
        """What it has in common with the primary, the worst first."""
        return (
            host_of(result.server) == host_of(primary.server),
            _tier(result),
            not _differ(result.server.operator, primary.server.operator),
            not _differ(result.server.region, primary.server.region),
            not _differ(result.network, primary.network),
        )

    others = [result for result in candidates if result is not primary]
    if not others:
        return None
    least = min(map(shares, others))
    equals = [result for result in others if shares(result) == least]
    return _keep(equals, current if current in equals else None)


def _differ(one: str | None, other: str | None) -> bool:
    """Whether both are known, and not the same."""
    return one is not None and other is not None and one.casefold() != other.casefold()


def _tier(result: ProbeResult) -> tuple[bool, bool]:
    return result.server.transport != "udp", _loss(result) > LOSSY


def _order(result: ProbeResult) -> tuple[bool, bool, float]:
    return *_tier(result), _rtt(result)


def _rtt(result: ProbeResult) -> float:
    assert result.rtt_ms is not None  # every usable one has been measured
    return result.rtt_ms


def _loss(result: ProbeResult) -> float:
    return result.loss or 0.0
