"""What a probe finds out about a relay: against the embedded one, scripts, and a way that loses packets on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from relaycall import errors
from relaycall.errors import ConfigError, CredentialsError, NoRelay, RelayError
from relaycall.ice import allocation as allocation_module
from relaycall.ice import names
from relaycall.redact import Secret
from relaycall.relays import loopback
from relaycall.relays.probe import ProbeEvent, probe
from relaycall.relays.probe_result import USABLE, ProbeResult, Verdict, judged
from relaycall.relays.ranking import Ranking
from relaycall.relays.selecting import select_relays
from relaycall.relays.server import RelayServer, Transport
from relaycall.server.turn import Relay
from relaycall.stun import attributes
from relaycall.stun.message import Message, Method, decode
from tests.certificates import Authority
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import PASSWORD, USERNAME, black_hole, error, granted, listening, turn
from tests.waiting import eventually

IP = "127.0.0.1"


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """With packets that do not come back: on loopback they would have."""
    monkeypatch.setattr(loopback, "PATIENCE", 0.05)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def relay(**options: Any) -> AsyncIterator[Relay]:
    everything: dict[str, Any] = {"users": {USERNAME: PASSWORD}, "laboratory": True} | options
    async with Relay(**everything) as running:
        yield running


def at(port: int | None, transport: Transport = "udp", **options: Any) -> RelayServer:
    assert port
    return RelayServer(IP, port, transport, USERNAME, Secret(PASSWORD), **options)


async def probed(server: RelayServer, **options: Any) -> ProbeResult:
    (result,) = await probe([server], laboratory=True, **options)
    return result


# --- relays that work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_relay_that_works(transport: Transport, authority: Authority) -> None:
    async with relay(tls_port=0, ssl_context=authority.leaf(IP).server_context()) as running:
        port = {"udp": running.udp_port, "tcp": running.tcp_port, "tls": running.tls_port}[transport]
        result = await probed(at(port, transport, ssl_context=authority.client_context()))
        assert running.active == 0
    assert result.verdict is Verdict.OK
    assert result.usable
    assert (result.family, result.loss, result.lifetime, result.times_given) == ("ipv4", 0.0, 600, 1)
    assert result.network == "127.0.0.0/24"
    assert result.rtt_min_ms is not None
    assert result.rtt_ms is not None
    assert result.jitter_ms is not None
    assert result.allocate_ms is not None
    assert 0 < result.rtt_min_ms <= result.rtt_ms < 500
    assert 0 <= result.jitter_ms < 500
    assert result.rtt_min_ms < result.allocate_ms < 1000


async def test_the_packets_pass_the_relay_all_of_them_and_of_one_size() -> None:
    passed: list[int] = []

    def sizes(_client: int, to_client: bool, data: bytes) -> bool:
        if not to_client and is_data(data):
            message = None if data[0] >= 0x40 else decode(data)
            passed.append(len(data) - 4 if message is None else len(message.get(attributes.DATA) or b""))
        return True

    async with relay() as running, way(running, sizes) as port:
        assert (await probed(at(port), packets=7)).verdict is Verdict.OK
    assert passed == [160] * 7


async def test_each_address_family_of_a_name_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with relay() as running:

        async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
            v4 = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (IP, running.udp_port))
            v6 = (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", running.udp_port, 0, 0))
            return [v6, v4]

        monkeypatch.setattr(names, "getaddrinfo", getaddrinfo)
        server = RelayServer.parse("turn:relay.test", username=USERNAME, password=PASSWORD)
        results = await probe([server], laboratory=True)
    assert [(result.family, result.verdict) for result in results] == [("ipv4", "ok"), ("ipv6", "relay_refused")]


# --- relays that do not -----------------------------------------------------------------------------------------------


async def test_wrong_and_missing_credentials() -> None:
    async with relay() as running:
        assert (await probed(at(running.udp_port).with_credentials("x", "y"))).verdict is Verdict.REFUSED_CREDENTIALS
        result = await probed(RelayServer(IP, running.udp_port or 0))
        assert result.verdict is Verdict.NEEDS_CREDENTIALS
        assert result.rtt_ms is not None  # it answers all the same
        assert not result.usable


async def test_quota_and_capacity() -> None:
    async with relay(user_quota=0) as running:
        assert (await probed(at(running.udp_port))).verdict is Verdict.QUOTA
    async with relay(total_quota=0) as running:
        assert (await probed(at(running.udp_port))).verdict is Verdict.CAPACITY


async def test_nobody_there_and_a_name_that_is_unknown() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((IP, 0))
        port = sock.getsockname()[1]
    assert (await probed(at(port))).verdict is Verdict.REFUSED
    result = await probed(RelayServer.parse("turn:nowhere.invalid"))
    assert (result.verdict, result.family) == (Verdict.NAME_UNKNOWN, None)
    assert "nowhere.invalid" in result.sentence
    assert result.next_step


async def test_a_certificate_of_nobody_known(authority: Authority) -> None:
    async with relay(tls_port=0, ssl_context=authority.leaf(IP).server_context()) as running:
        result = await probed(at(running.tls_port, "tls"))
        assert result.verdict is Verdict.CERTIFICATE
        pinned = at(running.tls_port, "tls", ssl_context=authority.client_context(), tls_name="other.test")
        assert (await probed(pinned)).verdict is Verdict.CERTIFICATE_NAME


async def test_one_that_answers_and_refuses_allocations() -> None:
    def refuse(request: Message, _source: object, key: bytes) -> bytes | None:
        return error(request, 403, key) if request.method is Method.ALLOCATE else None

    async with listening(turn(refuse)) as port:
        result = await probed(at(port))
    assert result.verdict is Verdict.FORBIDDEN
    assert result.rtt_ms is not None
    assert isinstance(result.error, errors.RelayForbidden)


@pytest.mark.slow
async def test_one_that_answers_late_says_how_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that takes four seconds for each answer, with the five seconds there are made shorter."""
    monkeypatch.setitem(cast(dict[str, Any], allocation_module.allocate.__kwdefaults__), "timeout", 0.6)
    async with relay() as running, way(running, delay=0.25) as port:
        result = await probed(at(port))
        assert result.verdict is Verdict.TIMEOUT
        assert result.rtt_ms is not None
        assert 500 <= result.rtt_ms < 600
        assert "it answers after 0.5 s" in result.sentence
        await eventually(lambda: running.active == 0, timeout=2)


@pytest.mark.slow
async def test_one_that_answers_after_four_seconds() -> None:
    async with relay() as running, way(running, delay=2.0) as port:
        started = time.monotonic()
        result = await probed(at(port))
        assert time.monotonic() - started < 5
        assert result.verdict is Verdict.TIMEOUT
        assert "it answers after 4.0 s" in result.sentence
        await eventually(lambda: running.active == 0, timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_black_hole(transport: Transport) -> None:
    with black_hole("udp" if transport == "udp" else "tcp") as port:
        started = time.monotonic()
        assert (await probed(at(port, transport))).verdict is Verdict.TIMEOUT
        assert time.monotonic() - started < 5


# --- forwarding -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def way(
    running: Relay, passes: Callable[[int, bool, bytes], bool] = lambda *_: True, *, delay: float = 0.0, copies: int = 1
) -> AsyncIterator[int]:
    """A way to the relay over UDP on which a packet passes if `passes(client number, towards the client, packet)`."""
    loop = asyncio.get_running_loop()
    sockets: dict[Any, socket.socket] = {}

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((IP, 0))
        return sock

    def send(sock: socket.socket, data: bytes, to: Any) -> None:
        with contextlib.suppress(OSError):
            sock.sendto(data, to)

    def answered(client: Any, number: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data = sockets[client].recv(2048)
                if passes(number, True, data):
                    for _ in range(copies):
                        loop.call_later(delay, send, listener, data, client)

    def received() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, client = listener.recvfrom(2048)
                if client not in sockets:
                    sockets[client] = bound()
                    loop.add_reader(sockets[client], answered, client, len(sockets) - 1)
                number = list(sockets).index(client)
                if passes(number, False, data):
                    loop.call_later(delay, send, sockets[client], data, (IP, running.udp_port))

    listener = bound()
    loop.add_reader(listener, received)
    try:
        yield listener.getsockname()[1]
    finally:
        await asyncio.sleep(2 * delay)
        for sock in (listener, *sockets.values()):
            loop.remove_reader(sock)
            sock.close()


def is_data(data: bytes) -> bool:
    return data[0] >= 0x40 or decode(data).method in (Method.SEND, Method.DATA)


async def test_one_that_allocates_and_forwards_nothing() -> None:
    async with relay() as running, way(running, lambda _, __, data: not is_data(data)) as port:
        result = await probed(at(port), packets=3)
        assert running.active == 0
    assert result.verdict is Verdict.NO_FORWARDING
    assert not result.usable
    assert result.loss == 1.0
    assert "forwards nothing" in result.sentence
    assert isinstance(result.error, RelayError)


async def test_one_that_says_yes_to_everything_and_forwards_nothing() -> None:
    granting = turn(granted())
    async with listening(lambda data, source: [] if data[0] >= 0x40 else granting(data, source)) as port:
        assert (await probed(at(port), packets=2)).verdict is Verdict.NO_FORWARDING
        (strict,) = await probe([at(port)], packets=2)
    assert strict.verdict is Verdict.LIED  # its relayed address is not a public one


async def test_one_that_forwards_one_way() -> None:
    """The first client's packets pass, and nothing reaches it."""
    blocked = lambda client, to_client, data: not (client == 0 and to_client and is_data(data))  # noqa: E731
    async with relay() as running, way(running, blocked) as port:
        result = await probed(at(port), packets=3)
        assert running.active == 0
    assert result.verdict is Verdict.ONE_WAY
    assert not result.usable
    assert "one way only" in result.sentence


async def test_one_that_loses_packets() -> None:
    count = 0

    def every_third(_client: int, to_client: bool, data: bytes) -> bool:
        nonlocal count
        count += to_client and is_data(data)
        return not (to_client and is_data(data) and count % 3 == 0)

    async with relay() as running, way(running, every_third) as port:
        result = await probed(at(port))
    assert result.verdict is Verdict.LOSSY
    assert result.usable
    assert result.loss == pytest.approx(0.3)


async def test_one_lost_packet_of_ten_may_be_chance() -> None:
    lost: list[bytes] = []

    def first(_client: int, to_client: bool, data: bytes) -> bool:
        if to_client and is_data(data) and not lost:
            lost.append(data)
            return False
        return True

    async with relay() as running, way(running, first) as port:
        result = await probed(at(port))
    assert result.verdict is Verdict.OK
    assert result.loss == pytest.approx(0.1)


async def test_doubled_and_altered_packets_are_not_counted() -> None:
    async with relay() as running, way(running, copies=2) as port:
        result = await probed(at(port), packets=4)
    assert (result.verdict, result.loss) == (Verdict.OK, 0.0)
    altered: Callable[[bytes], bytes] = lambda data: data[:-1] + bytes([data[-1] ^ 1])  # noqa: E731
    async with relay() as running:
        original = allocation_module.Allocation.send

        def send(self: Any, peer: Any, data: bytes) -> None:
            original(self, peer, altered(data))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(allocation_module.Allocation, "send", send)
            result = await probed(at(running.udp_port), packets=4)
    assert result.verdict is Verdict.NO_FORWARDING


async def test_one_that_forbids_itself_is_usable_and_says_so() -> None:
    async with relay(laboratory=False) as running:  # which denies peers on loopback
        result = await probed(at(running.udp_port))
        assert running.active == 0
    assert result.verdict is Verdict.UNCHECKED
    assert result.usable
    assert result.loss is None
    assert result.rtt_ms is not None
    assert "forwarding was not checked" in result.sentence


async def test_one_allocation_per_user_is_enough() -> None:
    async with relay(user_quota=1) as running:
        assert (await probed(at(running.udp_port))).verdict is Verdict.OK
    async with relay(user_quota=1, laboratory=False) as running:
        assert (await probed(at(running.udp_port))).verdict is Verdict.UNCHECKED
    async with relay(user_quota=1) as running, way(running, lambda _, __, data: not is_data(data)) as port:
        assert (await probed(at(port), packets=2)).verdict is Verdict.NO_FORWARDING


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relays", [[], ()])
async def test_none_configured(relays: Any) -> None:
    with pytest.raises(ConfigError, match="No relay is configured"):
        await probe(relays)
    with pytest.raises(ConfigError):
        await select_relays(relays)


@pytest.mark.parametrize("options", [{"packets": 0}, {"limit": 0}, {"interval": -1}])
async def test_numbers_out_of_range(options: Any) -> None:
    with pytest.raises(ConfigError):
        await probe([RelayServer.parse("turn:relay.test")], **options)


async def test_the_same_relay_twice_is_probed_and_listed_once() -> None:
    async with relay() as running:
        first = at(running.udp_port, region="here")
        twice = [first, at(running.tcp_port, "tcp"), at(running.udp_port)]
        results = await probe(twice, laboratory=True)
        assert running.counters.allocations == 2
    assert [(result.server.name, result.times_given) for result in results] == [
        (first.name, 2),
        (at(running.tcp_port, "tcp").name, 1),
    ]
    assert results[0].server.region == "here"


async def test_one_name_written_in_two_ways_is_one_relay() -> None:
    results = await probe([RelayServer.parse("turn:Nowhere.invalid."), RelayServer.parse("turn:nowhere.INVALID")])
    assert [result.times_given for result in results] == [2]
    assert results[0].server.host == "Nowhere.invalid."  # as it was written first


async def test_200_relays_at_most_so_many_at_a_time() -> None:
    most = 0
    async with relay() as running:

        def watch(_event: ProbeEvent) -> None:
            nonlocal most
            most = max(most, running.active)

        servers = [at(running.udp_port, tls_name=f"r{number}.test") for number in range(200)]
        results = await probe(servers, packets=2, limit=20, laboratory=True, on_progress=watch)
        assert running.active == 0
    assert [result.verdict for result in results] == [Verdict.OK] * 200
    assert [result.server for result in results] == servers
    assert 5 < most <= 20


async def test_when_the_time_is_over_the_others_count_as_silent() -> None:
    with black_hole() as port:
        async with relay() as running:
            silent = at(port)
            started = time.monotonic()
            results = await probe([silent, at(running.udp_port)], timeout=0.5, laboratory=True)
            assert time.monotonic() - started < 1
            results += await probe([at(running.udp_port), silent], grace=0.1, laboratory=True)
            assert time.monotonic() - started < 1.5
    assert [result.verdict for result in results] == ["relay_timeout", "ok", "ok", "relay_timeout"]


async def test_cancelled_at_whatever_moment_nothing_stays_allocated() -> None:
    async with relay() as running:
        for milliseconds in range(0, 60, 3):
            servers = [at(running.udp_port), at(running.tcp_port, "tcp")]
            task = asyncio.ensure_future(probe(servers, packets=5, laboratory=True))
            await asyncio.sleep(milliseconds / 1000)
            task.cancel()
            await asyncio.wait([task])
            await eventually(lambda: running.active == 0, timeout=1)


async def test_progress_is_told_as_it_happens() -> None:
    events: list[ProbeEvent] = []
    async with relay() as running:
        await probed(at(running.udp_port), on_progress=events.append)
    assert [event.stage for event in events] == ["answered", "allocated", "finished"]
    assert all(event.rtt_ms is not None and event.rtt_ms > 0 for event in events)
    assert events[-1].result is not None
    assert events[-1].result.verdict is Verdict.OK


async def test_a_handler_that_fails_does_not_end_the_probe(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: ProbeEvent) -> None:
        raise ZeroDivisionError

    async with relay() as running:
        assert (await probed(at(running.udp_port), on_progress=fail)).usable
    assert "a progress handler failed" in caplog.text


async def test_a_relay_that_answers_binding_only_with_an_error_is_timed_all_the_same() -> None:
    def script(data: bytes, _source: object) -> list[bytes]:
        request = decode(data)
        return [error(request, 400)] if request.method is Method.BINDING else []

    events: list[ProbeEvent] = []
    async with listening(script) as port:
        await probe([at(port)], timeout=0.3, on_progress=events.append)
    assert [event.stage for event in events] == ["answered"]


# --- choosing ---------------------------------------------------------------------------------------------------------


async def test_select_relays_measures_and_chooses() -> None:
    async with relay() as near, relay() as far, way(far, delay=0.02) as port:
        with black_hole() as hole:
            servers = [at(hole), at(port, operator="other"), at(near.udp_port)]
            chosen = await select_relays(servers, grace=0.5, laboratory=True)
    assert (chosen.primary, chosen.backup) == (servers[2], servers[1])
    assert chosen.latency_ms < 20
    assert [result.verdict for result in chosen.table] == ["ok", "ok", "relay_timeout"]


async def test_select_relays_keeps_what_it_chose_before() -> None:
    async with relay() as one, relay() as other:
        servers = [at(one.udp_port), at(other.udp_port)]
        ranking = Ranking()
        chosen = await select_relays(servers, ranking=ranking, laboratory=True)
        assert ranking.selection is chosen


async def test_select_relays_without_any_that_works_says_why_for_each() -> None:
    async with relay() as running:
        servers = [at(running.udp_port).with_credentials("x", "y"), RelayServer.parse("turn:nowhere.invalid")]
        with pytest.raises(NoRelay) as refused:
            await select_relays(servers, laboratory=True)
    assert [failure.code for failure in refused.value.failures] == ["relay_credentials", "relay_name_unknown"]


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_nothing_shows_the_credentials() -> None:
    async with relay() as running:
        good, bad = await probe(
            [at(running.udp_port), at(running.tcp_port, "tcp").with_credentials(USERNAME, "canary-wrong")],
            laboratory=True,
        )
    shown = (
        f"{good!r} {bad!r} {good.sentence} {bad.sentence} {json.dumps([good.as_json(), bad.as_json()])} {bad.error!r}"
    )
    assert USERNAME not in shown
    assert PASSWORD not in shown
    assert "canary-wrong" not in shown


def test_every_error_of_a_relay_is_a_verdict() -> None:
    codes = {
        value.code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, RelayError) and not issubclass(value, CredentialsError)
    }
    own = {"ok", "unchecked", "lossy", "one_way", "no_forwarding"}
    assert {str(verdict) for verdict in Verdict} == codes | own


@pytest.mark.parametrize(
    "verdict", [Verdict.OK, Verdict.UNCHECKED, Verdict.LOSSY, Verdict.ONE_WAY, Verdict.NO_FORWARDING]
)
def test_every_verdict_says_what_to_do(verdict: Verdict) -> None:
    result = judged(RelayServer.parse("turn:relay.test"), verdict)
    assert "turn:relay.test" in result.sentence
    assert result.sentence.endswith(".")
    assert bool(result.next_step) == (verdict is not Verdict.OK)
    assert (result.error is None) == (verdict in USABLE)
