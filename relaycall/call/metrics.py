"""What a phone's calls are like, for Prometheus (the extra `metrics`).

    stop = export_metrics(phone)            # in the process's own registry
    prometheus_client.start_http_server(9101, "127.0.0.1")

No metric has a label that says who is called, over which relay, or which call it is: of the running calls there is the
least, the mean and the most. With one call alone all three are its own, so the figures are for whoever runs the phone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from relaycall.call.state import CallState
from relaycall.errors import ConfigError, ExtraMissing
from relaycall.quality.sample import Sample

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

# Of the running calls: name, what it is, and its value in a sample; None where it is unknown.
_FIGURES: list[tuple[str, str, Callable[[Sample], float | None]]] = [
    (
        "relaycall_rtt_seconds",
        "Round trip from client to client.",
        lambda sample: None if sample.rtt_ms is None else sample.rtt_ms / 1000,
    ),
    ("relaycall_loss_ratio", "Share of the peer's audio packets that did not arrive.", lambda sample: sample.loss),
    ("relaycall_loss_sent_ratio", "Share of our audio packets that did not arrive.", lambda sample: sample.loss_sent),
    ("relaycall_jitter_seconds", "Jitter of the peer's audio.", lambda sample: sample.jitter_ms / 1000),
    ("relaycall_sent_bits_per_second", "All media sent.", lambda sample: sample.bitrate_sent),
    ("relaycall_received_bits_per_second", "All media received.", lambda sample: sample.bitrate_received),
    ("relaycall_score", "Expected mean opinion score of what is heard, 1 to 4.5.", lambda sample: sample.score),
]
_OVER = {CallState.IDLE, CallState.ENDED}


class MeteredCall(Protocol):
    """What is asked of a call."""

    @property
    def state(self) -> CallState:
        """Where it stands."""

    def stats(self) -> Sample | None:
        """How it was in the last second; None before it was connected."""


class MeteredPhone(Protocol):
    """What is asked of a phone."""

    @property
    def calls(self) -> Sequence[MeteredCall]:
        """Those that are not over."""

    @property
    def refused(self) -> Counter[str]:
        """How many messages were refused, by the error's code."""


def export_metrics(phone: MeteredPhone, registry: CollectorRegistry | None = None) -> Callable[[], None]:
    """Have a phone's metrics collected whenever somebody asks for them, in any thread.

    They are `relaycall_calls` by state, `relaycall_refused_messages_total` by code, and round trip, loss, jitter, bit
    rates and score of the running calls, each as "min", "mean" and "max". While no call runs, those have no value.

    Args:
        phone: a `Phone`, open or not.
        registry: of prometheus_client; by default the one that its servers show.

    Returns:
        what ends it; it may be called twice.

    Raises:
        ExtraMissing: prometheus_client is not installed.
        ConfigError: the registry has the metrics of a phone already.
    """
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        raise ExtraMissing("Metrics take the extra metrics.", "Install it: pip install 'relaycall[metrics]'.") from None
    registry = REGISTRY if registry is None else registry
    collector = _Collector(phone)
    try:
        registry.register(collector)
    except ValueError:
        raise ConfigError(
            "This registry has the metrics of a phone already.", "Give each phone a registry of its own."
        ) from None

    def stop() -> None:
        nonlocal registry
        if registry is not None:
            registry.unregister(collector)
            registry = None

    return stop


class _Collector:
    """What the registry asks."""

    def __init__(self, phone: MeteredPhone) -> None:
        self._phone = phone

    def describe(self) -> Iterable[Metric]:
        """The metrics without values: the registry wants their names, not to collect them."""
        return _metrics((), Counter())

    def collect(self) -> Iterable[Metric]:
        return _metrics(self._phone.calls, Counter(self._phone.refused))


def _metrics(calls: Sequence[MeteredCall], refused: Counter[str]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    states = Counter(call.state for call in calls)
    by_state = GaugeMetricFamily("relaycall_calls", "Calls that are not over, by state.", labels=["state"])
    for state in CallState:
        if state not in _OVER:
            by_state.add_metric([state], states[state])
    yield by_state
    by_code = CounterMetricFamily(
        "relaycall_refused_messages", "Messages that were not believed or acted on, by error code.", labels=["code"]
    )
    for code, number in sorted(refused.items()):
        by_code.add_metric([code], number)
    yield by_code
    samples = [sample for call in calls if (sample := call.stats()) is not None]
    for name, text, figure in _FIGURES:
        gauge = GaugeMetricFamily(name, text, labels=["of"])
        values = [value for sample in samples if (value := figure(sample)) is not None]
        if values:
            gauge.add_metric(["min"], min(values))
            gauge.add_metric(["mean"], sum(values) / len(values))
            gauge.add_metric(["max"], max(values))
        yield gauge
