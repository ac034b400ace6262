"""What people are shown of what is told."""

from __future__ import annotations

import pytest

from relaycall.cli.screen import PeopleScreen
from relaycall.errors import RelayLost, RelayRefused, RelaysLost

LOST = RelayLost("turn:relay.example.org")


def test_a_relay_that_is_lost_is_shown_once_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PeopleScreen()
    for _ in range(2):
        for event in ("relay_lost", "relay"):
            screen.say(event, LOST.sentence, relay=LOST.relay)
    assert capsys.readouterr().err.count(LOST.sentence) == 2
    screen.failed(RelaysLost([LOST, RelayRefused("turn:other.example.org")]))
    shown = capsys.readouterr().err
    assert LOST.sentence not in shown
    assert "turn:other.example.org" in shown  # which nobody has told yet
    screen.say("ended", "The call is over.")
    screen.failed(RelaysLost([LOST]))
    assert LOST.sentence in capsys.readouterr().err
