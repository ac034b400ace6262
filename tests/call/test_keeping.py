"""What a call keeps of itself does not grow because of the other side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from relaycall.call.events import PeerChanged
from relaycall.call.keeping import MAX_PEER_HOSTS, Keeper
from relaycall.call.media_call import MediaCall
from relaycall.ice.candidate import Candidate
from relaycall.relays.server import RelayServer


@dataclass
class Path:
    remote_candidates: list[Candidate] = field(default_factory=list)


@dataclass
class Media:
    """As much of a call's media as is looked at."""

    relays: list[tuple[RelayServer, str]]
    connection: Path = field(default_factory=Path)
    session: object = "there"

    def named(self, *hosts: str) -> MediaCall:
        """The other side's relays are these now."""
        self.connection.remote_candidates = [Candidate(str(n), 1, "udp", 1, host, 3478) for n, host in enumerate(hosts)]
        return cast(Any, self)


def test_a_peer_that_names_ever_new_relays_is_kept_in_bounds() -> None:
    keeper, media = Keeper(0.0), Media([(RelayServer.parse("turn:192.0.2.1", username="u", password="p"), "192.0.2.1")])
    for number in range(1000):
        host = f"2001:db8::{number:x}"
        keeper.happened(PeerChanged(muted=bool(number % 2), video=False), media.named(host), float(number))
    assert list(keeper._peer_hosts) == [f"2001:db8::{number:x}" for number in range(MAX_PEER_HOSTS)]


def test_a_relay_that_both_sides_use_is_seen_however_many_were_named_before() -> None:
    keeper, media = Keeper(0.0), Media([(RelayServer.parse("turn:192.0.2.1", username="u", password="p"), "192.0.2.1")])
    for number in range(100):
        keeper.happened(PeerChanged(muted=False, video=False), media.named(f"2001:db8::{number:x}"), float(number))
    keeper.happened(PeerChanged(muted=True, video=False), media.named("192.0.2.1"), 101.0)
    assert keeper._fact(*media.relays[0]).shared
