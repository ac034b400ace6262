"""What the demo judges: everything it promises is looked at, and tells with its own exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaycall.cli.demo_report import Network, Party, SetUp, Summary, TableReporter
from relaycall.cli.demo_video import PartyVideo
from relaycall.errors import MediaError

RELAY, SIGNALING = "127.0.0.1:3478", "127.0.0.1:8443"
PARTY = Party(
    relays={"turn:relay": 1.0},
    path="turn:relay",
    path_rtt_ms=2.0,
    candidate_types=["relay"],
    frames_sent=100,
    frames_received=100,
    frames_heard=98,
    frames_concealed=2,
    voice_bit_s=[32000],
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
        ({"packet_sizes": [109]}, 5),
        ({"packet_sizes": [88, 108]}, 5),
        ({"packet_sizes": []}, 5),
        ({"spoken_words": "one-two-three-five"}, 5),
        ({"spoken_words": ""}, 5),
        ({"frames_received": 94}, 3),
        ({"frames_sent": 0}, 3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_did_not_hold(changed: dict[str, object], code: int) -> None:
    assert judged(summary(**changed)) == (code, 1)


def test_a_voice_that_gave_way_has_a_size_for_each_step() -> None:
    assert judged(summary(voice_bit_s=[16000, 24000, 32000], packet_sizes=[68, 88, 108])) == (0, 0)


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


@pytest.mark.parametrize(
    ("lost_up", "received", "code"),
    [(0.2, 77, 0), (0.2, 75, 3), (0.0, 94, 3), (1.0, 0, 3)],
    ids=["what it did not lose", "more than it lost", "nothing was lost there", "nothing can be said"],
)
def test_what_the_network_lost_is_not_held_against_the_call(lost_up: float, received: int, code: int) -> None:
    """Alice's hundred frames go up, Bob's come down."""
    found = summary(frames_received=received)
    found.network = Network("3g", 1, lost_up, 0.0)
    assert judged(found)[0] == code


def test_what_is_lost_in_one_direction_excuses_nothing_in_the_other() -> None:
    found = summary(frames_received=77)
    found.network = Network("3g", 1, 0.0, 0.2)
    assert judged(found)[0] == 3


@pytest.mark.parametrize(("round_trip_ms", "code"), [(600.0, 0), (20.0, 3)])
def test_what_is_on_its_way_is_not_missing(round_trip_ms: float, code: int) -> None:
    """Ten of a hundred frames have not arrived yet: half a round trip of a satellite has fifteen."""
    found = summary(frames_received=90)
    found.alice = replace(PARTY, path_rtt_ms=round_trip_ms)
    assert judged(found)[0] == code


def test_what_came_through_of_video_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = summary()
    TableReporter().summary(found)
    assert "video" not in capsys.readouterr().out
    assert found.as_json()["alice"]["video"] is None
    shown = PartyVideo(110, 97, 360, 300, 20, 210_400)
    found.alice, found.bob = (replace(PARTY, video=shown) for _ in range(2))
    assert found.as_json()["bob"]["video"]["frames_seen"] == 97
    TableReporter().summary(found)
    text = " ".join(capsys.readouterr().out.split())
    for words in ("110", "97", "360 rows, 210 kbit/s", "20 of 320"):
        assert words in text


def test_a_network_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = summary(frames_concealed=7)
    found.network = Network("3g", 5, 0.25, 0.5)
    found.similarity = 0.5
    judged(found)
    said = found.as_json()
    assert said["network"] == {"profile": "3g", "seed": 5, "lost_up": 0.25, "lost_down": 0.5}
    assert said["concealed"] == 7
    TableReporter().summary(found)
    text = " ".join(capsys.readouterr().out.split())
    assert "network 3g, seed 5. It lost 25.0% of what she sent and 50.0% of what came." in text
    assert "held back" in text


def test_without_a_network_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = summary()
    found.similarity = 0.5
    assert found.as_json()["network"] is None
    TableReporter().summary(found)
    assert "network" not in capsys.readouterr().out.replace("Neither", "")
