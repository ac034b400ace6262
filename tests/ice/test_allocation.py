"""One allocation: made, used, lost, given back. Against the embedded relay, and scripts where it is too honest."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from relaycall.errors import (
    RelayBusy,
    RelayError,
    RelayForbiddenPeer,
    RelayForgot,
    RelayLost,
    RelayNotTurn,
    RelayRefused,
    RelayRefusedCredentials,
    RelayTimeout,
)
from relaycall.ice import allocation as module
from relaycall.ice import gathering, names
from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.server import RelayServer, Transport
from relaycall.server.turn import Relay
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode
from tests.certificates import Authority
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import KEY, PASSWORD, USERNAME, black_hole, error, granted, listening, success, turn
from tests.waiting import eventually

IP = "127.0.0.1"
PEER = Address(IP, 40_000)
Lookup = Callable[..., None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def relay(authority: Authority | None = None, **options: bool) -> AsyncIterator[Relay]:
    context = authority.leaf(IP).server_context() if authority else None
    tls_port = 0 if authority else None
    options.setdefault("laboratory", True)
    async with Relay(users={USERNAME: PASSWORD}, tls_port=tls_port, ssl_context=context, **options) as running:  # type: ignore[arg-type]
        yield running


def at(port: int | None, transport: Transport = "udp", context: ssl.SSLContext | None = None) -> RelayServer:
    assert port
    return RelayServer(IP, port, transport, ssl_context=context).with_credentials(USERNAME, PASSWORD)


def of(running: Relay, transport: Transport = "udp", authority: Authority | None = None) -> RelayServer:
    port = {"udp": running.udp_port, "tcp": running.tcp_port, "tls": running.tls_port}[transport]
    return at(port, transport, authority.client_context() if authority else None)


@asynccontextmanager
async def allocated(server: RelayServer) -> AsyncIterator[Allocation]:
    allocation = await allocate(server, laboratory=True)
    try:
        yield allocation
    finally:
        await allocation.close()


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> Lookup:
    """Sets the addresses that the name of a relay has."""

    def answer(*ports: int | None) -> None:
        async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (IP, port)) for port in ports]

        monkeypatch.setattr(names, "getaddrinfo", getaddrinfo)

    return answer


# --- made and given back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_made_and_given_back(transport: Transport, authority: Authority) -> None:
    async with relay(authority) as running:
        allocation = await allocate(of(running, transport, authority), laboratory=True)
        assert running.active == 1
        assert allocation.alive
        assert allocation.relayed.host == IP
        assert 60 <= allocation.lifetime <= 3600
        assert 0 < allocation.rtt < 1
        started = time.monotonic()
        await allocation.close()
        assert running.active == 0
        assert time.monotonic() - started < 0.5
        assert not allocation.alive
        await allocation.close()
        allocation.send(PEER, b"nothing happens")
        allocation.add_peer(PEER)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_an_abort_gives_it_back_too(transport: Transport, authority: Authority) -> None:
    async with relay(authority) as running:
        allocation = await allocate(of(running, transport, authority), laboratory=True)
        allocation.abort()
        allocation.abort()
        await eventually(lambda: running.active == 0, timeout=0.5)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_cancelled_at_whatever_step_it_is_given_back(transport: Transport, authority: Authority) -> None:
    async with relay(authority) as running:
        server = of(running, transport, authority)
        for turns in range(40):
            task = asyncio.ensure_future(allocate(server, laboratory=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancelled(task)
        for turns in range(5):
            await eventually(lambda: running.active == 0, timeout=0.5)
            task = asyncio.ensure_future(allocate(server, laboratory=True))
            while not running.active:  # noqa: ASYNC110 - granted, and the answer on its way
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancelled(task)
        await eventually(lambda: running.active == 0, timeout=0.5)


async def cancelled(task: asyncio.Task[Allocation]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await task.result().close()


async def test_given_up_between_question_and_answer() -> None:
    """The relay may have granted it by then: it is told to delete what it may have."""
    heard: list[Message] = []

    def silent(request: Message, _source: Address, _key: bytes) -> None:
        heard.append(request)

    async with listening(turn(silent)) as port:
        task = asyncio.ensure_future(allocate(at(port), laboratory=True))
        await eventually(lambda: heard)
        task.cancel()
        await eventually(lambda: heard[-1].method is Method.REFRESH)
    assert heard[-1].get(a.LIFETIME) == 0
    assert heard[-1].verify(KEY)


def silent_once_granted(request: Message, source: Address, key: bytes) -> bytes | None:
    return granted()(request, source, key) if request.method is Method.ALLOCATE else None


@pytest.mark.slow
async def test_close_does_not_wait_for_a_relay_that_is_silent() -> None:
    script = turn(silent_once_granted)
    async with listening(script) as udp, listening(script, "tcp") as tcp:
        both = [await allocate(server, laboratory=True) for server in (at(udp), at(tcp, "tcp"))]
        started = time.monotonic()
        await asyncio.gather(*(allocation.close() for allocation in both))
        assert time.monotonic() - started < 1.5


async def test_a_cancelled_close_closes() -> None:
    async with listening(turn(silent_once_granted)) as port:
        allocation = await allocate(at(port), laboratory=True)
        closing = asyncio.ensure_future(allocation.close())
        await asyncio.sleep(0.01)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()


# --- what it is for ---------------------------------------------------------------------------------------------------


async def test_packets_pass_between_two() -> None:
    async with relay() as running, allocated(of(running)) as one, allocated(of(running, "tcp")) as other:
        received: list[tuple[Address, bytes]] = []
        other.on_packet = lambda peer, data, _now: received.append((peer, data))
        one.add_peer(other.relayed)
        other.add_peer(one.relayed)
        await asyncio.sleep(0.02)
        for size in (0, 1, 5, 1400):
            one.send(other.relayed, bytes(size))
        await eventually(lambda: len(received) == 4)
        assert received == [(one.relayed, bytes(size)) for size in (0, 1, 5, 1400)]
        other.remove_peer(one.relayed)
        one.send(other.relayed, b"not wanted any more")
        one.send(PEER, b"not a peer")
        await eventually(lambda: other.dropped["channel_data"] + other.dropped["unknown_peer"] == 1)
        assert len(received) == 4
        assert USERNAME not in repr(one)
        assert one.relayed.host not in repr(one).replace(one.server.name, "")


async def test_a_peer_the_relay_forbids() -> None:
    refused: list[tuple[Address, RelayError]] = []
    async with relay(laboratory=False) as running, allocated(of(running)) as allocation:
        allocation.on_peer_refused = lambda peer, error: refused.append((peer, error))
        allocation.add_peer(PEER)
        allocation.send(PEER, b"dropped by the relay")
        await eventually(lambda: refused)
        ((peer, why),) = refused
        assert peer == PEER
        assert type(why) is RelayForbiddenPeer
        allocation.send(PEER, b"dropped here")
        assert allocation.alive


async def test_where_it_is_reached_and_from_where() -> None:
    async with relay() as running, allocated(of(running)) as over_udp, allocated(of(running, "tcp")) as over_tcp:
        assert over_udp.sockaddr == (socket.AF_INET, (IP, running.udp_port))
        assert over_tcp.sockaddr == (socket.AF_INET, (IP, running.tcp_port))
        for allocation in (over_udp, over_tcp):
            assert allocation.local is not None
            assert allocation.local.host == IP
            assert allocation.local.port not in (running.udp_port, running.tcp_port, allocation.relayed.port)


async def test_before_it_is_connected_nothing_is_known() -> None:
    allocation = Allocation(at(9), 1, laboratory=True)
    assert (allocation.local, allocation.sockaddr) == (None, None)
    assert allocation.heard_at == float("-inf")
    assert not allocation.alive
    allocation.abort()


async def test_when_the_relay_was_heard() -> None:
    loop = asyncio.get_running_loop()
    async with relay() as running, allocated(of(running)) as one, allocated(of(running)) as other:
        before = loop.time()
        assert one.heard_at <= before
        one.verify()
        await eventually(lambda: one.heard_at > before)
        for sender, receiver in ((one, other), (other, one)):
            sender.add_peer(receiver.relayed)
        await asyncio.sleep(0.02)
        before = loop.time()
        other.send(one.relayed, b"\x80 media")  # packets of the peer's come through the relay as well
        await eventually(lambda: one.heard_at > before)
        assert other.heard_at < before


async def test_a_check_from_another_port_of_the_peers_relay_is_told() -> None:
    strangers: list[tuple[Address, bytes]] = []
    packets: list[bytes] = []
    async with (
        relay() as running,
        allocated(of(running)) as one,
        allocated(of(running)) as known,
        allocated(of(running)) as stranger,
    ):
        one.on_stranger = lambda source, data: strangers.append((source, data))
        one.on_packet = lambda _peer, data, _now: packets.append(data)
        one.add_peer(known.relayed)
        stranger.add_peer(one.relayed)
        await asyncio.sleep(0.02)
        stranger.send(one.relayed, b"\x80 media")
        stranger.send(one.relayed, b"\x00\x01 like STUN")
        await eventually(lambda: strangers)
        assert strangers == [(stranger.relayed, b"\x00\x01 like STUN")]
        assert one.dropped["unknown_peer"] == 1
        one.on_stranger = None
        stranger.send(one.relayed, b"\x00\x01 again")
        stranger.send(one.relayed, b"\x80 media again")
        await eventually(lambda: one.dropped["unknown_peer"] == 2)
        assert not packets
        one.on_stranger = lambda *_: strangers.clear()
        one.abort()
        assert one.on_stranger is None


# --- lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_stream_that_ends_is_known_at_once(transport: Transport, authority: Authority) -> None:
    lost: list[RelayError] = []
    async with relay(authority) as running, allocated(of(running, transport, authority)) as allocation:
        allocation.on_lost = lost.append
        await running.close()
        await eventually(lambda: lost, timeout=0.5)
        assert [type(why) for why in lost] == [RelayLost]
        assert allocation.error is lost[0]
        assert not allocation.alive


@pytest.mark.slow
async def test_an_icmp_refusal_is_a_suspicion_first_and_a_loss_two_seconds_later() -> None:
    lost: list[RelayError] = []
    suspected: list[RelayError] = []
    async with relay() as running, allocated(of(running)) as allocation:
        allocation.on_lost, allocation.on_suspected = lost.append, suspected.append
        allocation.add_peer(PEER)
        await running.close()
        started = time.monotonic()
        for _ in range(10):
            allocation.send(PEER, b"refused")
            await asyncio.sleep(0.005)
        assert [type(why) for why in suspected] == [RelayRefused]
        assert not lost
        await eventually(lambda: lost)
        assert 1.5 < time.monotonic() - started < 3.0
        assert [type(why) for why in lost] == [RelayLost]


async def test_asked_and_unknown_it_is_lost_at_once() -> None:
    lost: list[RelayError] = []

    def forgetful(request: Message, source: Address, key: bytes) -> bytes | None:
        return granted()(request, source, key) if request.method is Method.ALLOCATE else error(request, 437, key)

    async with listening(turn(forgetful)) as port, allocated(at(port)) as allocation:
        allocation.on_lost = lost.append
        allocation.verify()
        await eventually(lambda: lost, timeout=1.0)
        assert [type(why) for why in lost] == [RelayForgot]
        assert allocation.error is lost[0]
        allocation.verify()  # nothing is left to ask about
        assert len(lost) == 1


@pytest.mark.slow
async def test_asked_often_it_is_one_question() -> None:
    """And a relay that is merely silent is not given up while it may answer yet."""
    asked: list[Message] = []

    def silent(request: Message, source: Address, key: bytes) -> bytes | None:
        if request.method is Method.REFRESH:
            asked.append(request)
            return None
        return granted()(request, source, key)

    async with listening(turn(silent), "tcp") as port, allocated(at(port, "tcp")) as allocation:
        for _ in range(5):
            allocation.verify()
        await eventually(lambda: asked)
        await asyncio.sleep(0.1)
        assert len(asked) == 1
        assert allocation.alive


# --- one relay, several addresses -------------------------------------------------------------------------------------


async def test_of_two_that_win_together_one_is_given_back(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 0.0)
    async with relay() as one, relay() as other:
        lookup(one.udp_port, other.udp_port)
        async with allocated(of(one)):
            await eventually(lambda: one.active + other.active == 1, timeout=0.5)
            assert one.counters.allocations + other.counters.allocations == 2, "only one of them won"


async def test_the_reason_is_of_the_address_that_answered(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 0.02)
    async with relay() as running:
        with black_hole() as silent, black_hole("tcp") as silent_stream:
            with black_hole() as refusing:
                pass
            for ports, transport in (
                ((refusing, running.udp_port), "udp"),
                ((silent, running.udp_port), "udp"),
                ((running.udp_port, silent), "udp"),
                ((silent_stream, running.tcp_port), "tcp"),
            ):
                lookup(*ports)
                wrong = of(running, transport).with_credentials(USERNAME, "wrong")  # type: ignore[arg-type]
                with pytest.raises(RelayRefusedCredentials):
                    await allocate(wrong, laboratory=True, timeout=0.2)


async def test_a_lookup_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(*_: object, **__: object) -> list[tuple[object, ...]]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(names, "getaddrinfo", lookup)
    with pytest.raises(RelayTimeout, match="looked up"):
        await allocate(at(9), timeout=0.1)


async def test_whatever_else_goes_wrong_is_a_relay_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "connect", broken)
    with pytest.raises(RelayError) as caught:
        await allocate(at(9), timeout=1.0)
    assert type(caught.value) is RelayError
    assert caught.value.relay == at(9).name


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_a_mismatch_is_tried_again_on_a_new_socket() -> None:
    sources: list[Address] = []

    def answer(request: Message, source: Address, key: bytes) -> bytes | None:
        if request.method is Method.ALLOCATE:
            sources.append(source)
            if len(sources) < 3:
                return error(request, 437, key)
        return granted()(request, source, key)

    async with listening(turn(answer)) as port, allocated(at(port)):
        assert len(set(sources)) == len(sources) == 3


async def test_a_mismatch_is_tried_three_times() -> None:
    sources: list[Address] = []

    def answer(request: Message, source: Address, key: bytes) -> bytes:
        sources.append(source)
        return error(request, 437, key)

    async with listening(turn(answer)) as port:
        with pytest.raises(RelayBusy):
            await allocate(at(port), laboratory=True)
    assert len(set(sources)) == len(sources) == 3


@pytest.mark.parametrize("ending", [b"220 mail.example.org ESMTP\r\n", b""], ids=["a banner", "the end"])
async def test_what_comes_right_behind_the_tls_handshake(ending: bytes, authority: Authority) -> None:
    """In one segment with the handshake's last message, as TLS 1.2 allows: the owner is not ready yet."""
    context = authority.leaf(IP).server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)

    def script(data: bytes, _source: Address) -> list[bytes | None]:
        incoming.write(data)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return [outgoing.read()]
        if ending:
            tls.write(ending)
        else:
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
        return [outgoing.read(), None]

    async with listening(script, "tcp") as port:
        with pytest.raises(RelayNotTurn):
            await allocate(at(port, "tls", authority.client_context()), laboratory=True)


async def test_a_relay_lost_while_others_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Granted, then gone within the moment that slower relays get: it is among the failures, not the allocations."""
    monkeypatch.setattr(gathering, "GRACE", 0.2)

    def brief(data: bytes, source: Address) -> list[bytes | None]:
        request = decode(data)
        replies: list[bytes | None] = list(turn(granted())(data, source))
        return [*replies, None] if request.get(a.MESSAGE_INTEGRITY) else replies

    async with listening(brief, "tcp") as port:
        with black_hole() as silent:
            stop = asyncio.get_running_loop().create_future()
            allocations, failures = await gathering.gather([at(port, "tcp"), at(silent)], [1], True, stop)
    assert allocations == {}
    assert [type(why) for why in failures] == [RelayLost, RelayTimeout]


async def test_a_grant_with_a_success_for_something_else() -> None:
    """Responses to questions nobody asked change nothing."""

    def answer(request: Message, source: Address, key: bytes) -> bytes:
        stray = Message(Method.REFRESH, Class.SUCCESS, bytes(12), [a.LIFETIME(0)]).encode(key)
        return stray if request.method is Method.ALLOCATE else success(request, key)

    async with listening(turn(answer)) as port:
        with pytest.raises(RelayTimeout):
            await allocate(replace(at(port)), laboratory=True, timeout=0.5)
