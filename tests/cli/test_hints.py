"""What the command line knows to do about an error."""

from __future__ import annotations

import pytest

from relaycall.cli.hints import LABORATORY, next_step_of
from relaycall.errors import NoRelay, RelayLied, RelayRefused

NOT_PUBLIC = "its relayed address is not a public one"


@pytest.mark.parametrize(
    "relay", ["turn:127.0.0.1:3478?transport=udp", "turn:[::1]:3478", "turn:10.0.0.5", "turn:localhost"]
)
def test_a_private_relay_is_pointed_to_the_laboratory(relay: str) -> None:
    error = RelayLied(relay, NOT_PUBLIC)
    assert next_step_of(error) == LABORATORY
    assert next_step_of(NoRelay([RelayRefused(relay), error])) == LABORATORY


@pytest.mark.parametrize(
    "error",
    [
        RelayLied("turn:8.8.8.8", NOT_PUBLIC),
        RelayLied("turn:relay.example.org", NOT_PUBLIC),
        RelayLied("nonsense", NOT_PUBLIC),
        RelayLied("turn:127.0.0.1", "it did not authenticate its answer"),
        RelayRefused("turn:127.0.0.1"),
    ],
)
def test_no_other_relay_is(error: RelayLied | RelayRefused) -> None:
    assert next_step_of(error) == error.next_step
    assert next_step_of(NoRelay([error])) == error.next_step
