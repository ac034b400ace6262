"""Metrics for Prometheus: what a scrape shows, and what it never does."""

from __future__ import annotations

import re
import sys
import threading
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from relaycall.call import watch
from relaycall.call.metrics import export_metrics
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.errors import ConfigError, ExtraMissing
from relaycall.quality.sample import Sample
from tests.call.phones import connect, ended, house, nobody_else_writes  # noqa: F401 - for every test here
from tests.identity.stores import MemoryStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until

FIGURES = [
    "rtt_seconds",
    "loss_ratio",
    "loss_sent_ratio",
    "jitter_seconds",
    "sent_bits_per_second",
    "received_bits_per_second",
    "score",
]


@dataclass
class FakeCall:
    """A call as far as metrics know it, and things that they must not tell."""

    state: CallState
    sample: Sample | None = None
    contact: str = "canary-bob"
    call_id: str = "canary-call-id"

    def stats(self) -> Sample | None:
        return self.sample


@dataclass
class FakePhone:
    calls: list[FakeCall] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def running(**figures: float | str | None) -> FakeCall:
    return FakeCall(CallState.CONNECTED, Sample(at=1.0, **figures))  # type: ignore[arg-type]


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """What is scraped: each value by its name and labels."""
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_an_idle_phone(registry: CollectorRegistry) -> None:
    export_metrics(FakePhone(), registry)
    states = ["calling", "ringing", "accepted", "connecting", "connected", "reconnecting"]
    assert shown(registry) == {f'relaycall_calls{{state="{state}"}}': 0.0 for state in states}


def test_calls_by_state(registry: CollectorRegistry) -> None:
    phone = FakePhone([FakeCall(CallState.RINGING), running(), running()])
    export_metrics(phone, registry)
    assert shown(registry)['relaycall_calls{state="ringing"}'] == 1
    assert shown(registry)['relaycall_calls{state="connected"}'] == 2
    phone.calls.pop()
    assert shown(registry)['relaycall_calls{state="connected"}'] == 1


def test_figures_of_the_running_calls(registry: CollectorRegistry) -> None:
    one = {"rtt_ms": 40.0, "loss": 0.01, "loss_sent": 0.02, "jitter_ms": 2.0, "score": 4.0}
    two = {"rtt_ms": 120.0, "loss": 0.03, "loss_sent": None, "jitter_ms": 6.0, "score": 3.0}
    rates = {"bitrate_sent": 40000, "bitrate_received": 500000}
    export_metrics(FakePhone([running(**one, **rates), running(**two, **rates), FakeCall(CallState.CALLING)]), registry)
    values = shown(registry)
    expected = {
        "rtt_seconds": (0.04, 0.08, 0.12),
        "loss_ratio": (0.01, 0.02, 0.03),
        "loss_sent_ratio": (0.02, 0.02, 0.02),
        "jitter_seconds": (0.002, 0.004, 0.006),
        "sent_bits_per_second": (40000, 40000, 40000),
        "received_bits_per_second": (500000, 500000, 500000),
        "score": (3.0, 3.5, 4.0),
    }
    assert list(expected) == FIGURES
    for name, three in expected.items():
        found = [values[f'relaycall_{name}{{of="{of}"}}'] for of in ("min", "mean", "max")]
        assert found == pytest.approx(three), name


def test_what_is_unknown_of_every_call_has_no_value(registry: CollectorRegistry) -> None:
    export_metrics(FakePhone([running(rtt_ms=None, loss_sent=None)]), registry)
    names = {re.split(r"[{ ]", line)[0] for line in shown(registry)}
    assert names == {"relaycall_calls"} | {f"relaycall_{name}" for name in FIGURES} - {
        "relaycall_rtt_seconds",
        "relaycall_loss_sent_ratio",
    }


def test_refused_messages_by_code(registry: CollectorRegistry) -> None:
    phone = FakePhone(refused=Counter(message_replayed=2))
    export_metrics(phone, registry)
    phone.refused["signature_refused"] += 1
    values = shown(registry)
    assert values['relaycall_refused_messages_total{code="message_replayed"}'] == 2
    assert values['relaycall_refused_messages_total{code="signature_refused"}'] == 1


def test_nobody_and_no_relay_is_named(registry: CollectorRegistry) -> None:
    export_metrics(FakePhone([running(relay="canary-relay.example.org"), running(relay="canary-2")]), registry)
    text = generate_latest(registry).decode()
    assert "relaycall_score" in text
    assert "canary" not in text
    assert set(re.findall(r'(\w+)="', text)) == {"state", "of"}


def test_two_phones_need_two_registries(registry: CollectorRegistry) -> None:
    stop = export_metrics(FakePhone(), registry)
    with pytest.raises(ConfigError, match="registry"):
        export_metrics(FakePhone(), registry)
    export_metrics(FakePhone(), CollectorRegistry())
    stop()
    export_metrics(FakePhone([running()]), registry)
    stop()  # once more, which ends nothing of the other phone's
    assert shown(registry)['relaycall_calls{state="connected"}'] == 1


def test_the_registry_of_the_process_is_the_default() -> None:
    from prometheus_client import REGISTRY

    stop = export_metrics(FakePhone([running(score=2.5)]))
    try:
        assert shown(REGISTRY)['relaycall_score{of="min"}'] == 2.5
    finally:
        stop()
    assert not [name for name in shown(REGISTRY) if name.startswith("relaycall")]


def test_to_register_asks_nothing_of_the_phone(registry: CollectorRegistry) -> None:
    phone = FakePhone([FakeCall(CallState.CONNECTED)])
    phone.calls[0].stats = lambda: pytest.fail("asked")  # type: ignore[method-assign]
    export_metrics(phone, registry)


def test_it_is_scraped_in_another_thread_while_calls_come_and_go(registry: CollectorRegistry) -> None:
    phone = FakePhone([running()])
    export_metrics(phone, registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        ended = threading.Event()

        def come_and_go() -> None:
            while not ended.is_set():
                phone.calls = [running(), running()]
                phone.refused["message_replayed"] += 1
                phone.calls = []

        churn = threading.Thread(target=come_and_go)
        churn.start()
        try:
            for _ in range(20):
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
                    assert b"relaycall_calls" in answer.read()
        finally:
            ended.set()
            churn.join()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_real_phone(registry: CollectorRegistry) -> None:
    phone = Phone(signaling="memory:metrics", relays=["turn:relay.example.org"], store=MemoryStore())
    export_metrics(phone, registry)
    phone.refused["card_refused"] += 3
    values = shown(registry)
    assert values['relaycall_refused_messages_total{code="card_refused"}'] == 3
    assert values['relaycall_calls{state="connected"}'] == 0


async def test_a_real_call(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.1)
    async with house() as home:
        alice, bob = await home.friends()
        export_metrics(alice, registry)
        outgoing, incoming = await connect(alice, bob, "bob")
        await until(lambda: outgoing.stats() is not None, what="a sample")
        text = generate_latest(registry).decode()
        values = shown(registry)
        assert values['relaycall_calls{state="connected"}'] == 1
        assert 1 <= values['relaycall_score{of="mean"}'] <= 4.5
        assert values['relaycall_received_bits_per_second{of="max"}'] > 0
        for canary in ("alice", "bob", "127.0.0.", outgoing.id.hex(), *(server.host for server in home.servers)):
            assert canary not in text
        await outgoing.hang_up()
        await ended(incoming)
        assert shown(registry)['relaycall_calls{state="connected"}'] == 0
        assert 'relaycall_score{of="mean"}' not in shown(registry)


def test_without_the_package_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'relaycall\[metrics\]'"):
        export_metrics(FakePhone())
