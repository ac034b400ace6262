"""What `relaycall.testing` gives to the tests of others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from relaycall.call.call import Call
from relaycall.call.events import RelayChanged
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.errors import ConfigError
from relaycall.media.audio import SilenceSource, ToneSource
from relaycall.media.tracks import HeardTrack
from relaycall.relays.server import RelayServer
from relaycall.signaling.manual import ManualTransport
from relaycall.testing import Conditions, LossyProxy, embedded_relay, local_pair, lossy_link
from tests.leaks import nothing_left_behind  # noqa: F401
from tests.waiting import eventually


async def hears(alice: Phone, bob: Phone) -> Call:
    """A call in which Alice hears Bob's tone."""
    bob.on("incoming", lambda ring: ring.accept(audio=ToneSource(440)))
    call = await alice.call("bob", audio=SilenceSource(), sink=(heard := HeardTrack()))
    assert await call.connected()
    while max(memoryview(bytes((await heard.recv()).planes[0])).cast("h")) < 1000:
        pass
    return call


async def test_the_two_have_verified_each_other_and_can_talk() -> None:
    async with local_pair() as (alice, bob):
        for phone, other in ((alice, "bob"), (bob, "alice")):
            assert phone.contacts.names == (other,)
            assert phone.contacts.get(other).verified
        call = await hears(alice, bob)
        assert call.media is not None
        assert len(call.media.connection.path_stats()) == 4, "two relays of each"
    assert call.state is CallState.ENDED


async def test_pairs_are_apart() -> None:
    async with local_pair() as one, local_pair() as other:
        assert len({phone.card.identity for phone in (*one, *other)}) == 4
        assert len({phone.card.signaling for phone in (*one, *other)}) == 2


async def test_with_signaling_of_ones_own() -> None:
    async with local_pair(signaling="manual:") as phones:
        assert all(isinstance(phone.signaling, ManualTransport) for phone in phones)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.slow
async def test_all_goes_over_the_link(transport: Any) -> None:
    async with (
        embedded_relay(transport) as relay,
        lossy_link(relay, seed=7) as (link, through),
        local_pair(relays=[through]) as (alice, bob),
    ):
        assert through.transport == relay.transport == transport
        assert through.port != relay.port
        link.set("both", delay=0.02, loss=0.05)
        await hears(alice, bob)
        if transport == "udp":
            assert link.counts["up", "passed"] > link.counts["up", "lost"]
            await eventually(lambda: link.counts["up", "lost"] and link.counts["down", "lost"])


@pytest.mark.slow
async def test_a_black_hole_is_a_relay_that_is_gone() -> None:
    async with (
        embedded_relay() as one,
        embedded_relay() as other,
        lossy_link(one) as (first, through_first),
        lossy_link(other) as (second, through_second),
        local_pair(relays=[through_first, through_second]) as (alice, bob),
    ):
        call = await hears(alice, bob)
        moves: list[RelayChanged] = []
        call.on("relay_changed", moves.append)
        assert call.media is not None
        (used,) = [path.relay for path in call.media.connection.path_stats() if path.selected]
        link, left = (first, through_second) if used == through_first.name else (second, through_first)
        link.set("both", black_hole=True)
        await eventually(lambda: any((move.old, move.new) == (used, left.name) for move in moves))


@pytest.mark.parametrize(
    "wrong",
    [{"delay": -0.1}, {"jitter": float("nan")}, {"loss": 1.1}, {"burst_leave": -1}, {"delay": float("inf")}],
    ids=str,
)
def test_conditions_that_cannot_be(wrong: dict[str, float]) -> None:
    link = LossyProxy("127.0.0.1", 1)
    with pytest.raises(ConfigError):
        Conditions(**wrong)
    with pytest.raises(ConfigError):
        link.set("both", **wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "conditions"), [("sideways", {}), ("both", {"lose": 0.1})])
def test_a_link_knows_no_others(direction: Any, conditions: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        LossyProxy("127.0.0.1", 1).set(direction, **conditions)


@pytest.mark.parametrize("host", ["relay.example.org", "2001:db8::1"])
async def test_a_link_leads_to_an_address(host: str) -> None:
    with pytest.raises(ConfigError, match="IPv4"):
        async with lossy_link(RelayServer(host, 3478)):
            pass


def test_it_needs_no_pytest() -> None:
    script = "import sys, relaycall.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
