"""What the demo judges: everything it promises is looked at, and tells with its own exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaycall.cli.demo_report import Party, SetUp, Summary
from relaycall.errors import MediaError

RELAY, SIGNALING = "127.0.0.1:3478", "127.0.0.1:8443"
PARTY = Party(
    relays={"turn:relay": 1.0},
    path="turn:relay",
    path_rtt_ms=2.0,
    candidate_types=["relay"],
    frames_sent=100,
    frames_received=100,
    packet_sizes=[108],
    spoken_words="one-two-three-four",
    dropped={},
)


def summary(**changed: object) -> Summary:
    """Of a call that held, but for what is changed at Bob's."""
    places = {party: [RELAY, SIGNALING] for party in ("alice", "bob")}
    return Summary(PARTY, replace(PARTY, **changed), SetUp(80.0, 40.0), "heard.wav", True, destinations=places)


def judged(found: Summary, sink_error: MediaError | None = None) -> tuple[int, int]:
    found.judge({RELAY, SIGNALING}, sink_error)
    return found.exit_code, len(found.problems)


def test_a_call_that_held() -> None:
    found = summary()
    assert judged(found) == (0, 0)
    assert found.as_json()["ok"] is True
    assert found.as_json()["sealed_setup_ms"] == 80.0
    assert found.as_json()["setup_ms"] == 40.0


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"candidate_types": ["host", "relay"]}, 5),
        ({"packet_sizes": [108, 109]}, 5),
        ({"spoken_words": "one-two-three-five"}, 5),
        ({"spoken_words": ""}, 5),
        ({"frames_received": 94}, 3),
        ({"frames_sent": 0}, 3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_did_not_hold(changed: dict[str, object], code: int) -> None:
    assert judged(summary(**changed)) == (code, 1)


def test_no_words_on_either_side() -> None:
    found = summary(spoken_words="")
    found.alice = found.bob
    assert judged(found) == (5, 1)


def test_a_socket_that_went_elsewhere() -> None:
    found = summary()
    found.destinations["bob"].append("192.0.2.1:443")
    assert judged(found) == (5, 1)


def test_a_recording_that_failed() -> None:
    assert judged(summary(), MediaError("The disk is full.")) == (6, 1)


def test_the_worst_comes_first() -> None:
    assert judged(summary(frames_received=0, packet_sizes=[1, 2]), MediaError("The disk is full.")) == (5, 3)
