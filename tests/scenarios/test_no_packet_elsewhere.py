"""P1: no packet leaves except to the relays. P2: neither side's address reaches the other.

Alice, Bob, two relays (coturn) and a stranger each live in a network namespace of their own, around a router that
forwards everything. The kernels of Alice and Bob count what they send: to the listening ports of the relays, and
elsewhere. Whatever is done to the relays or to the records, elsewhere has to stay at 0; two controls show that it
would not if something leaked.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from relaycall.call.record import AudioPlan, CallRecord, RelayCandidate, encode_record
from relaycall.stun.attributes import MAGIC_COOKIE
from tests.certificates import Authority
from tests.coturn import Coturn
from tests.media.listening import read_samples, tone_share
from tests.netns import Allowed, Network
from tests.scenarios.programs import Program

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PORT, TLS_PORT = 3478, 5349
TRANSPORTS = {"udp": "turn:{}:3478?transport=udp", "tcp": "turn:{}:3478?transport=tcp", "tls": "turns:{}:5349"}
TONES = {"alice": 440, "bob": 660}
OTHER = {"alice": "bob", "bob": "alice"}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network("alice", "bob", "relay-a", "relay-b", "stranger") as made:
        yield made


@dataclass
class Scene:
    """Two relays and two parties, not yet prepared; counting has begun."""

    network: Network
    relays: list[Coturn]
    parties: dict[str, Program]
    folder: Path

    async def connect(self) -> None:
        records = {name: (await party.ask("prepare"))["record"] for name, party in self.parties.items()}
        answers = await asyncio.gather(
            *(party.ask("connect", record=records[OTHER[name]]) for name, party in self.parties.items())
        )
        assert answers == [{}, {}]

    async def hear(self, frames: int = 50, timeout: float = 8.0) -> None:
        answers = await asyncio.gather(
            *(party.ask("hear", frames=frames, timeout=timeout) for party in self.parties.values())
        )
        assert all(answer.get("frames", 0) >= frames for answer in answers), answers

    async def close(self) -> None:
        """Close both, in less than two seconds."""
        answers = await asyncio.gather(*(party.ask("close") for party in self.parties.values()))
        assert all(answer["seconds"] < 2 for answer in answers), answers

    def assert_no_packet_elsewhere(self, *, some_to_relays: bool = True) -> None:
        for name in self.parties:
            counted = self.network.counted(name)
            print(name, counted)
            assert counted["elsewhere"] == 0, f"{name} sent to {self.network.strangers(name)}"
            assert not some_to_relays or counted["relay_a"] + counted["relay_b"] > 0

    def assert_sound(self) -> None:
        """Each recording holds the other side's tone. After `close`."""
        for name in self.parties:
            share = tone_share(read_samples(self.folder / f"{name}.wav"), TONES[OTHER[name]])
            assert share > 0.7, f"{name} heard {share:.2f}"


@asynccontextmanager
async def scene(
    network: Network, folder: Path, transport: str = "udp", *, password: str = "right", relays: tuple[str, ...] = ()
) -> AsyncIterator[Scene]:
    """`password`: what the parties believe it is. `relays`: URIs to use in place of the two coturns."""
    authority = Authority(folder)
    hosts = "relay-a", "relay-b"
    async with AsyncExitStack() as stack:
        started = []
        for host in hosts:
            leaf = authority.leaf(network.ip(host))
            # The class looks for a free TLS port in this namespace, which has not got the address.
            with mock.patch("tests.coturn.free_port", return_value=TLS_PORT):
                relay = Coturn(
                    ip=network.ip(host), port=PORT, username="someone", password="right", cert=leaf.cert, key=leaf.key,
                    prefix=network.prefix(host),
                )  # fmt: skip
            started.append(await stack.enter_async_context(relay))
        uris = relays or [TRANSPORTS[transport].format(network.ip(host)) for host in hosts]
        parties = {}
        for name, order in (("alice", 1), ("bob", -1)):
            settings = {
                "relays": [(uri, "someone", password) for uri in uris[::order]],
                "ca_file": str(authority.ca_file),
                "caller": name == "alice",
                "tone": TONES[name],
                "recording": str(folder / f"{name}.wav"),
                "received": str(folder / f"{name}.received"),
            }
            parties[name] = await stack.enter_async_context(Program("party", settings, network.prefix(name)))
            count(network, name)
        yield Scene(network, started, parties, folder)


def count(network: Network, host: str, port: int = PORT) -> None:
    network.count(
        host,
        [
            Allowed("relay_a", network.ip("relay-a"), udp=(port,), tcp=(port, TLS_PORT)),
            Allowed("relay_b", network.ip("relay-b"), udp=(port,), tcp=(port, TLS_PORT)),
        ],
    )


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call(network: Network, tmp_path: Path, transport: str) -> None:
    async with scene(network, tmp_path, transport) as call:
        await call.connect()
        await call.hear()
        await call.close()
        call.assert_no_packet_elsewhere()
        call.assert_sound()
        for name, other in OTHER.items():
            received = (tmp_path / f"{name}.received").read_bytes()
            assert not shows(received, network.ip(other)), f"{other}'s address reached {name}"
            # That the search finds what is there: the relay tells a party its own address, and where peers reach it.
            assert shows(received, network.ip(name))
            assert shows(received, network.ip("relay-a"))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_relay_dies_during_the_call(network: Network, tmp_path: Path, transport: str, how: str) -> None:
    """The relay Alice prefers; the call goes on over the other."""
    async with scene(network, tmp_path, transport) as call:
        await call.connect()
        await call.hear()
        call.relays[0].kill() if how == "killed" else call.relays[0].freeze()
        await asyncio.sleep(0.5)
        await call.hear()
        await call.close()
        call.assert_no_packet_elsewhere()
        call.assert_sound()


@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_both_relays_die_during_the_call(network: Network, tmp_path: Path, transport: str) -> None:
    async with scene(network, tmp_path, transport) as call:
        await call.connect()
        await call.hear()
        for relay in call.relays:
            relay.kill()
        answers = await asyncio.gather(*(party.ask("ended", timeout=16) for party in call.parties.values()))
        assert answers == [{"error": "relays_lost", "causes": ["relay_lost", "relay_lost"]}] * 2
        await call.close()
        call.assert_no_packet_elsewhere()


# --- no calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_both_relays_are_dead_from_the_start(network: Network, tmp_path: Path, transport: str) -> None:
    async with scene(network, tmp_path, transport) as call:
        for relay in call.relays:
            relay.kill()
        await refused(call, ["relay_refused"] * 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_both_relays_are_frozen_from_the_start(network: Network, tmp_path: Path, transport: str) -> None:
    async with scene(network, tmp_path, transport) as call:
        for relay in call.relays:
            relay.freeze()
        await refused(call, ["relay_timeout"] * 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_password_is_wrong(network: Network, tmp_path: Path, transport: str) -> None:
    async with scene(network, tmp_path, transport, password="wrong") as call:
        await refused(call, ["relay_credentials"] * 2)


@pytest.mark.parametrize(("verdict", "cause"), [("drop", "relay_timeout"), ("reject", "relay_refused")])
@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_the_relays_ports_are_firewalled(
    network: Network, tmp_path: Path, transport: str, verdict: str, cause: str
) -> None:
    verb = "reject with tcp reset" if verdict == "reject" and transport == "tls" else verdict
    rule = f"udp dport {PORT} {verb}" if transport == "udp" else f"tcp dport {TLS_PORT} {verb}"
    async with scene(network, tmp_path, transport) as call:
        with firewalled(network, rule):
            await refused(call, [cause] * 2)


async def refused(call: Scene, causes: list[str]) -> None:
    answers = await asyncio.gather(*(party.ask("prepare") for party in call.parties.values()))
    assert answers == [{"error": "no_relay", "causes": causes}] * 2
    await call.close()
    call.assert_no_packet_elsewhere()


class firewalled:  # noqa: N801 - used like a function
    """A rule for what comes in at both relays."""

    def __init__(self, network: Network, rule: str) -> None:
        self._network, self._rule = network, rule

    def __enter__(self) -> None:
        chain = f"chain i {{ type filter hook input priority 0; {self._rule}; }}"
        for host in ("relay-a", "relay-b"):
            self._network.nft(host, f"table inet firewall {{ {chain}; }}")

    def __exit__(self, *_: object) -> None:
        for host in ("relay-a", "relay-b"):
            self._network.nft(host, "delete table inet firewall")


# --- records and relays that lead astray ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["alice", "bob", "stranger", "all three and loopback"])
async def test_a_record_whose_candidates_point_elsewhere(network: Network, tmp_path: Path, where: str) -> None:
    """At Alice herself, at Bob, at a third host: her relay may be asked to send there, her sockets never do."""
    hosts = [network.ip(host) for host in (("alice", "bob", "stranger") if "all" in where else (where,))]
    hosts += ["127.0.0.1"] * ("all" in where)
    malicious = CallRecord(
        ufrag="Mall",
        pwd="mallory/mallory/mallory1",
        candidates=tuple(RelayCandidate(host, 5000, 1) for host in hosts),
        audio=AudioPlan(ssrc=77),
        key=secrets.token_bytes(32),
    )
    async with scene(network, tmp_path) as call:
        alice = call.parties["alice"]
        assert "record" in await alice.ask("prepare")
        answer = await alice.ask("connect", record=base64.b64encode(encode_record(malicious)).decode(), timeout=2)
        assert answer["error"] in ("no_path", "relay_forbidden_peer")
        await call.close()
        call.assert_no_packet_elsewhere(some_to_relays=False)
        counted = network.counted("alice")
        assert counted["relay_a"] > 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_relay_that_redirects_is_not_followed(network: Network, tmp_path: Path, transport: str) -> None:
    """The other server is there, and would take the same credentials."""
    settings = {"ip": network.ip("relay-a"), "transport": transport, "elsewhere": (network.ip("stranger"), PORT)}
    stranger = Coturn(
        ip=network.ip("stranger"), port=PORT, username="someone", password="right", prefix=network.prefix("stranger")
    )
    async with stranger, Program("redirecting_relay", settings, network.prefix("relay-a")) as relay:
        port = (await relay.ask("start"))["port"]
        uri = f"turn:{network.ip('relay-a')}:{port}?transport={transport}"
        async with scene(network, tmp_path, relays=(uri,)) as call:
            for name in call.parties:
                count(network, name, port)
            await refused(call, ["relay_redirect"])
            assert (await relay.ask("asked"))["requests"] >= 2


# --- controls: the counters see what they are there for ---------------------------------------------------------------


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
async def test_control_one_leaked_packet_is_counted(network: Network, tmp_path: Path, family: str) -> None:
    host = network.ip("stranger") if family == "IPv4" else network.ip6("stranger")
    async with scene(network, tmp_path) as call:
        await call.connect()
        await call.hear(10)
        assert await call.parties["bob"].ask("leak", host=host, port=9) == {}
        assert network.counted("alice")["elsewhere"] == 0
        assert network.counted("bob")["elsewhere"] == 1
        assert network.strangers("bob") == [host]
        # To another port of a relay, and to itself, count as well.
        await call.parties["bob"].ask("leak", host=network.ip("relay-a"), port=PORT + 1)
        await call.parties["bob"].ask("leak", host=network.ip("bob"), port=9)
        await call.parties["bob"].ask("leak", host="127.0.0.1", port=9)
        assert network.counted("bob")["elsewhere"] >= 4
        await call.close()


async def test_control_plain_aiortc_sends_elsewhere(network: Network, tmp_path: Path) -> None:
    async with scene(network, tmp_path) as idle, AsyncExitStack() as stack:
        settings = {"relays": [(TRANSPORTS["udp"].format(network.ip("relay-a")), "someone", "right")]}
        alice, bob = [
            await stack.enter_async_context(Program("plain_aiortc", settings, network.prefix(name)))
            for name in idle.parties
        ]
        offer = await alice.ask("offer")
        answer = await bob.ask("answer", sdp=offer["sdp"])
        await alice.ask("accept", sdp=answer["sdp"])
        assert [await peer.ask("opened") for peer in (alice, bob)] == [{}, {}]
        for name, other in OTHER.items():
            counted: dict[str, Any] = network.counted(name)
            print(name, counted, network.strangers(name))
            assert counted["elsewhere"] > 0
            assert network.ip(other) in network.strangers(name)
        await asyncio.gather(alice.ask("close"), bob.ask("close"))


def shows(data: bytes, ip: str) -> bool:
    """Whether an IPv4 address is in there: its bytes, the bytes as STUN masks them (XOR), or text."""
    packed = ipaddress.IPv4Address(ip).packed
    masked = (int.from_bytes(packed, "big") ^ MAGIC_COOKIE).to_bytes(4, "big")
    return packed in data or masked in data or ip.encode() in data


def test_control_the_search_finds_every_form() -> None:
    assert shows(b"..\x0a\x4d\x01\x02..", "10.77.1.2")
    assert shows(
        bytes(byte ^ mask for byte, mask in zip(b"\x0a\x4d\x01\x02", b"\x21\x12\xa4\x42", strict=True)), "10.77.1.2"
    )
    assert shows(b"candidate 10.77.1.2 5000", "10.77.1.2")
    assert not shows(b"candidate 10.77.1.3 5000", "10.77.1.2")
