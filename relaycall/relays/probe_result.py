"""What a probe found: one result for each relay, transport and address family."""

from __future__ import annotations

import enum
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from relaycall.errors import RelayError
from relaycall.relays.server import RelayServer

LOSSY = 0.1  # more than this share of the packets lost: one of ten may be chance


class Verdict(enum.StrEnum):
    """What became of a relay. Those that begin with `relay` are the codes of the errors of that name."""

    OK = "ok"
    UNCHECKED = "unchecked"
    LOSSY = "lossy"
    ONE_WAY = "one_way"
    NO_FORWARDING = "no_forwarding"
    FAILED = "relay"
    NAME_UNKNOWN = "relay_name_unknown"
    REFUSED = "relay_refused"
    TIMEOUT = "relay_timeout"
    UNREACHABLE = "relay_unreachable"
    CERTIFICATE = "relay_certificate"
    CERTIFICATE_NAME = "relay_certificate_name"
    TLS_FAILED = "relay_tls"
    NOT_TURN = "relay_not_turn"
    REFUSED_CREDENTIALS = "relay_credentials"
    NEEDS_CREDENTIALS = "relay_needs_credentials"
    FORBIDDEN = "relay_forbidden"
    FORBIDDEN_PEER = "relay_forbidden_peer"
    QUOTA = "relay_quota"
    CAPACITY = "relay_capacity"
    REDIRECTED = "relay_redirect"
    UNSUPPORTED = "relay_unsupported"
    BUSY = "relay_busy"
    SERVER_ERROR = "relay_server_error"
    LIED = "relay_lied"
    LOST = "relay_lost"
    FORGOT = "relay_forgot"


USABLE = Verdict.OK, Verdict.UNCHECKED, Verdict.LOSSY

_MEANING: dict[Verdict, tuple[str, str]] = {  # what is wrong, what to do
    Verdict.UNCHECKED: (
        "it allocates; forwarding was not checked, since it forbids its own address as a peer",
        "Nothing, if calls over it work: many relays deny their own address.",
    ),
    Verdict.LOSSY: ("it loses packets", "Look into its load and its network, or use another relay."),
    Verdict.ONE_WAY: (
        "it forwards one way only",
        "Its firewall may block its relay ports in one direction: open them for UDP both ways.",
    ),
    Verdict.NO_FORWARDING: (
        "it allocates, and forwards nothing",
        "Its firewall may block its relay ports (coturn: min-port to max-port): open them for UDP.",
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the packets through a relay's own allocation showed.

    Attributes:
        rtts: seconds from client to client, by packet in the order sent; None for those that did not come back.
    """

    rtts: tuple[float | None, ...]

    @property
    def sent(self) -> int:
        """How many packets were sent."""
        return len(self.rtts)

    @property
    def back(self) -> list[float]:
        """The round trips of those that came back."""
        return [rtt for rtt in self.rtts if rtt is not None]

    @property
    def loss(self) -> float:
        """The share that did not come back, 0 to 1."""
        return 1 - len(self.back) / len(self.rtts)

    @property
    def jitter(self) -> float | None:
        """Mean absolute difference between the round trips of successive packets, in seconds."""
        back = self.back
        return statistics.fmean(abs(b - a) for a, b in itertools.pairwise(back)) if len(back) > 1 else None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One relay over one transport and one address family.

    Attributes:
        server: the relay.
        family: "ipv4" or "ipv6", of the way to the relay; None if it has no address.
        verdict: what became of it.
        error: why it is not usable.
        allocate_ms: from the first packet to the allocation, connection and TLS included.
        rtt_min_ms, rtt_ms: least and median round trip. Nothing that is not authenticated counts for a usable relay.
        jitter_ms: mean absolute difference between the round trips of successive packets.
        loss: share of the packets that did not come back, 0 to 1.
        lifetime: seconds the relay granted.
        network: its network, /24 or /48: relays in one network tend to fail together.
        times_given: how often this relay was in the list; it was probed once.
    """

    server: RelayServer
    verdict: Verdict
    family: str | None = None
    error: RelayError | None = None
    allocate_ms: float | None = None
    rtt_min_ms: float | None = None
    rtt_ms: float | None = None
    jitter_ms: float | None = None
    loss: float | None = None
    lifetime: int | None = None
    network: str | None = field(default=None, repr=False)
    times_given: int = 1

    @property
    def usable(self) -> bool:
        """Whether calls can go over it: ok, lossy, or ok as far as it lets itself be checked."""
        return self.verdict in USABLE

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        if self.verdict is Verdict.OK:
            return f"The relay {self.server.name} works."
        if self.error is not None:
            return self.error.sentence
        return f"The relay {self.server.name}: {_MEANING[self.verdict][0]}."

    @property
    def next_step(self) -> str:
        """What to do about it; empty if nothing."""
        if self.verdict in _MEANING:
            return _MEANING[self.verdict][1]
        return self.error.next_step if self.error is not None else ""

    def as_json(self) -> dict[str, object]:
        """For programs; no credentials, and no address but one the user gave."""
        return {
            "relay": self.server.name,
            "transport": self.server.transport,
            "family": self.family,
            "verdict": str(self.verdict),
            "usable": self.usable,
            "allocate_ms": self.allocate_ms,
            "rtt_min_ms": self.rtt_min_ms,
            "rtt_ms": self.rtt_ms,
            "jitter_ms": self.jitter_ms,
            "loss": self.loss,
            "lifetime": self.lifetime,
            "region": self.server.region,
            "operator": self.server.operator,
            "times_given": self.times_given,
            "sentence": self.sentence,
            "next_step": self.next_step,
        }


def failed(
    server: RelayServer, error: RelayError, rtts: Sequence[float] = (), family: str | None = None
) -> ProbeResult:
    """The result for an error; `rtts` are what was measured before, in seconds."""
    ms = [rtt * 1000 for rtt in rtts]
    return ProbeResult(
        server,
        Verdict(error.code),
        family,
        error,
        rtt_min_ms=min(ms, default=None),
        rtt_ms=statistics.median(ms) if ms else None,
    )


def judged(server: RelayServer, verdict: Verdict, **measured: object) -> ProbeResult:
    """The result of a relay that allocated."""
    error = None
    if verdict not in USABLE:
        error = RelayError(server.name, _MEANING[verdict][0])
    return ProbeResult(server, verdict, error=error, **measured)  # type: ignore[arg-type]
