"""The sockets to a relay, against plain sockets at the other end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from relaycall.errors import (
    RelayCertificateInvalid,
    RelayError,
    RelayLost,
    RelayNameUnknown,
    RelayNotTurn,
    RelayRefused,
    RelayTlsFailed,
    RelayUnreachable,
)
from relaycall.ice import names, sockets
from relaycall.ice.sockets import RelaySocket, connect, resolve
from relaycall.relays.server import RelayServer, Transport
from relaycall.stun.address import Address
from relaycall.stun.framing import channel_data
from relaycall.stun.message import Class, Message, Method
from tests.certificates import Authority
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import black_hole, listening
from tests.waiting import eventually

IP = "127.0.0.1"
STUN = Message(Method.BINDING, Class.INDICATION, bytes(12)).encode()


class Owner:
    """What a socket tells its owner."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[RelayError] = []

    def take(self, data: bytes, _now: float) -> None:
        self.received.append(data)

    async def loss(self) -> RelayError:
        """The only loss there is, which comes at once."""
        await eventually(lambda: self.lost, timeout=0.5)
        (error,) = self.lost
        return error


def server(port: int, transport: Transport = "udp", context: ssl.SSLContext | None = None) -> RelayServer:
    return RelayServer(IP, port, transport, ssl_context=context)


@asynccontextmanager
async def connected(port: int, owner: Owner, transport: Transport = "udp") -> AsyncIterator[RelaySocket]:
    relay = await connect(server(port, transport), socket.AF_INET, (IP, port), owner.take, owner.lost.append)
    try:
        yield relay
    finally:
        relay.close()


@contextmanager
def bound(kind: socket.SocketKind) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((IP, 0))
        sock.settimeout(2.0)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- UDP --------------------------------------------------------------------------------------------------------------


async def test_icmp_refusal_surfaces_at_once() -> None:
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as gone:
        port = port_of(gone)
    async with connected(port, owner) as relay:
        relay.send(STUN)
        assert type(await owner.loss()) is RelayRefused


async def test_icmp_refusal_of_an_earlier_packet_surfaces_while_sending() -> None:
    """With no turn of the event loop in between, the refusal meets the next send."""
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as gone:
        port = port_of(gone)
    async with connected(port, owner) as relay:
        relay.send(STUN)
        relay.send(STUN)
        assert owner.lost == []  # nobody's send() ends in the middle of their own failure handling
        assert type(await owner.loss()) is RelayRefused


async def test_nothing_is_called_after_close() -> None:
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as gone:
        port = port_of(gone)
    async with connected(port, owner) as relay:
        relay.send(STUN)
        relay.send(STUN)
        relay.close()
        relay.close()
        relay.send(STUN)
        await asyncio.sleep(0.05)
        assert (owner.lost, owner.received) == ([], [])


async def test_closing_while_packets_are_read() -> None:
    received: list[bytes] = []
    lost: list[RelayError] = []

    def take(data: bytes, _now: float) -> None:
        received.append(data)
        relay.close()

    with bound(socket.SOCK_DGRAM) as peer:
        relay = await connect(server(port_of(peer)), socket.AF_INET, peer.getsockname(), take, lost.append)
        relay.send(STUN)
        _, source = peer.recvfrom(2048)
        for _ in range(5):
            peer.sendto(STUN, source)
        await asyncio.sleep(0.02)
    assert received == [STUN]
    assert lost == []


async def test_only_the_relay_is_heard() -> None:
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as peer, bound(socket.SOCK_DGRAM) as stranger:
        async with connected(port_of(peer), owner) as relay:
            relay.send(STUN)
            _, source = peer.recvfrom(2048)
            stranger.sendto(b"stranger", source)
            peer.sendto(b"relay", source)
            await eventually(lambda: owner.received)
            assert owner.received == [b"relay"]


async def test_oversized_datagrams() -> None:
    """What cannot be sent is dropped and counted; what comes too long is cut, and the rest comes as it was."""
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as peer:
        async with connected(port_of(peer), owner) as relay:
            relay.send(bytes(70_000))
            assert relay.dropped == 1
            relay.send(STUN)
            _, source = peer.recvfrom(2048)
            for size in (sockets.RECEIVE_SIZE + 1, 60_000, 0, 100):
                peer.sendto(bytes(size), source)
            await eventually(lambda: len(owner.received) == 4)
            assert [len(data) for data in owner.received] == [sockets.RECEIVE_SIZE, sockets.RECEIVE_SIZE, 0, 100]
            assert owner.lost == []


async def test_each_packet_has_its_own_time() -> None:
    """Those read at one go too: a round trip can be shorter than the handling of a packet."""
    times: list[float] = []

    def take(_data: bytes, now: float) -> None:
        times.append(now)
        time.sleep(0.01)

    with bound(socket.SOCK_DGRAM) as peer:
        relay = await connect(server(port_of(peer)), socket.AF_INET, peer.getsockname(), take, lambda _: None)
        relay.send(STUN)
        _, source = peer.recvfrom(2048)
        for _ in range(3):
            peer.sendto(STUN, source)
        await eventually(lambda: len(times) == 3)
        relay.close()
    assert times[1] - times[0] > 0.005
    assert times[2] - times[1] > 0.005


async def test_a_flood_leaves_the_event_loop_its_turns() -> None:
    owner = Owner()
    with bound(socket.SOCK_DGRAM) as peer:
        async with connected(port_of(peer), owner) as relay:
            relay.send(STUN)
            _, source = peer.recvfrom(2048)
            for _ in range(3 * sockets.BATCH):
                peer.sendto(b"flood", source)
            counts = []
            while len(owner.received) < 3 * sockets.BATCH:
                await asyncio.sleep(0)
                counts.append(len(owner.received))
            assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) <= sockets.BATCH


# --- streams ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def stream(owner: Owner) -> AsyncIterator[tuple[RelaySocket, socket.socket]]:
    """A TCP connection, and the other end of it."""
    with bound(socket.SOCK_STREAM) as listener:
        async with connected(port_of(listener), owner, "tcp") as relay:
            peer, _ = listener.accept()
            with peer:
                yield relay, peer


async def test_a_tcp_port_without_a_listener() -> None:
    with bound(socket.SOCK_STREAM) as gone:
        port = port_of(gone)
    for transport in ("tcp", "tls"):
        with pytest.raises(RelayRefused):
            async with connected(port, Owner(), transport):
                pass


async def test_tcp_reset_surfaces_at_once() -> None:
    owner = Owner()
    async with stream(owner) as (_, peer):
        reset(peer)
        error = await owner.loss()
        assert type(error) is RelayLost
        assert "reset" in error.sentence


async def test_end_of_stream_surfaces_at_once() -> None:
    owner = Owner()
    async with stream(owner) as (_, peer):
        peer.close()
        error = await owner.loss()
        assert type(error) is RelayLost
        assert "closed" in error.sentence


async def test_end_of_stream_surfaces_though_much_waits_to_be_written() -> None:
    """A relay that reads no more and then ends its side: asyncio alone would wait for the rest to be written."""
    owner = Owner()
    async with stream(owner) as (relay, peer):
        for _ in range(20_000):
            relay.send(bytes(1024))
            if relay.dropped:
                break
        peer.shutdown(socket.SHUT_WR)
        assert type(await owner.loss()) is RelayLost


async def test_a_stalled_stream_drops_instead_of_growing() -> None:
    owner = Owner()
    async with stream(owner) as (relay, peer):
        for sent in range(1, 20_000):  # noqa: B007 - used below
            relay.send(channel_data(0x4000, bytes(1020)))
            if relay.dropped:
                break
        for _ in range(1000):
            relay.send(channel_data(0x4000, bytes(1020)))
        assert relay.dropped == 1001
        waiting = relay._transport.get_write_buffer_size()  # type: ignore[attr-defined]
        assert waiting <= sockets.WRITE_LIMIT + 1024
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        got = 0
        while got < (sent - 1) * 1024:  # what was not dropped is whole
            got += len(await loop.sock_recv(peer, 1 << 20))
        relay.send(STUN)  # and it goes on
        assert await loop.sock_recv(peer, 100) == STUN
        assert owner.lost == []


async def test_a_stalled_tls_stream_drops_instead_of_growing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    owner = Owner()
    context = authority.client_context()
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stalled.wait()
        writer.transport.abort()

    listener = await asyncio.start_server(serve, IP, 0, ssl=authority.leaf(IP).server_context())
    port = listener.sockets[0].getsockname()[1]
    relay = await connect(server(port, "tls", context), socket.AF_INET, (IP, port), owner.take, owner.lost.append)
    try:
        for _ in range(20_000):
            relay.send(bytes(1024))
            if relay.dropped:
                break
            await asyncio.sleep(0)
        assert relay.dropped
        for _ in range(1000):
            relay.send(bytes(1024))
        below = relay._transport._ssl_protocol._transport  # type: ignore[attr-defined]
        waiting = relay._transport.get_write_buffer_size() + below.get_write_buffer_size()  # type: ignore[attr-defined]
        assert waiting < 4 * sockets.WRITE_LIMIT
    finally:
        relay.close()
        stalled.set()
        listener.close()


async def test_messages_are_cut_out_of_the_stream_and_padded_into_it() -> None:
    owner = Owner()
    async with stream(owner) as (relay, peer):
        odd = channel_data(0x4001, b"12345")
        for piece in (STUN[:7], STUN[7:] + odd[:3], odd[3:] + bytes(3) + STUN):
            peer.sendall(piece)
            await asyncio.sleep(0.01)
        assert owner.received == [STUN, odd, STUN]
        relay.send(odd)
        relay.send(STUN)
        assert peer.recv(100) == odd + bytes(3) + STUN


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",  # 'H' could start ChannelData, of 21584 bytes
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example.org ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",  # a TLS alert
        channel_data(0x4000, b"before anything else was said"),
        bytes(64),
        b"\xff" * 64,
    ],
)
async def test_garbage_as_the_first_word(garbage: bytes) -> None:
    owner = Owner()
    async with stream(owner) as (relay, peer):
        peer.sendall(garbage)
        assert type(await owner.loss()) is RelayNotTurn
        assert owner.received == []
        relay.send(STUN)
        assert relay.dropped == 1
        peer.sendall(STUN)
        await asyncio.sleep(0.02)
        assert owner.received == []


async def test_garbage_later_on() -> None:
    owner = Owner()
    async with stream(owner) as (_, peer):
        peer.sendall(STUN + channel_data(0x4000, b"1234") + b"\x80garbage" + STUN)
        assert type(await owner.loss()) is RelayNotTurn


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weaken", ["no verification", "no name check"])
async def test_a_context_that_does_not_verify_is_refused(weaken: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.client_context()
    context.check_hostname = False
    if weaken == "no verification":
        context.verify_mode = ssl.CERT_NONE
    accepted: list[bytes] = []

    def script(data: bytes, _source: Address) -> list[bytes]:
        accepted.append(data)
        return []

    async with listening(script, "tls", context=authority.leaf("relay.test").server_context()) as port:
        with pytest.raises(RelayCertificateInvalid, match="does not verify"):
            await connect(server(port, "tls", context), socket.AF_INET, (IP, port), Owner().take, lambda _: None)
    assert accepted == []


async def test_the_default_context_verifies(tmp_path: Path) -> None:
    owner = Owner()
    async with listening(lambda *_: [], "tls", context=Authority(tmp_path).leaf(IP).server_context()) as port:
        with pytest.raises(RelayCertificateInvalid):
            await connect(server(port, "tls"), socket.AF_INET, (IP, port), owner.take, owner.lost.append)
        await asyncio.sleep(0.02)
    assert owner.lost == []  # it was told once


async def test_a_reset_in_the_tls_handshake(tmp_path: Path) -> None:
    context = Authority(tmp_path).client_context()
    with bound(socket.SOCK_STREAM) as listener:
        port = port_of(listener)
        connecting = asyncio.ensure_future(
            connect(server(port, "tls", context), socket.AF_INET, (IP, port), Owner().take, lambda _: None)
        )
        await asyncio.sleep(0.02)
        peer, _ = listener.accept()
        reset(peer)
        with pytest.raises(RelayTlsFailed):
            await connecting


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_no_route() -> None:
    with pytest.raises(RelayUnreachable):  # no packet leaves: the kernel has no such scope
        await connect(server(9), socket.AF_INET6, ("fe80::1", 9, 0, 0), Owner().take, lambda _: None)


async def test_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        with pytest.raises(RelayUnreachable):
            await connect(server(9), socket.AF_INET, (IP, 9), Owner().take, lambda _: None)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_cancelling_a_connect_leaves_nothing(transport: Transport, tmp_path: Path) -> None:
    context = Authority(tmp_path).client_context()
    owner = Owner()
    with black_hole("tcp") as port:
        target = server(port, transport, context)
        for turns in range(12):
            connecting = asyncio.ensure_future(
                connect(target, socket.AF_INET, (IP, port), owner.take, owner.lost.append)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                connecting.result().close()
        await asyncio.sleep(0.02)
    assert owner.lost == []


async def test_addresses_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(family: int, address: str) -> tuple[object, ...]:
        return family, socket.SOCK_DGRAM, 17, "", (address, 9)

    async def lookup(*_: object, **__: object) -> list[tuple[object, ...]]:
        six = [entry(socket.AF_INET6, f"2001:db8::{index}") for index in range(5)]
        return [*six, entry(socket.AF_INET, "192.0.2.1"), entry(socket.AF_INET, "192.0.2.2")]

    monkeypatch.setattr(names, "getaddrinfo", lookup)
    found = [address[0] for _, address in await resolve(server(9))]
    assert found == ["2001:db8::0", "192.0.2.1", "2001:db8::1", "192.0.2.2"]


@pytest.mark.parametrize("host", ["a" * 64, "nobody.invalid"])
async def test_unknown_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "nobody.invalid":

        async def lookup(*_: object, **__: object) -> list[tuple[object, ...]]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(names, "getaddrinfo", lookup)
    started = time.monotonic()
    with pytest.raises(RelayNameUnknown):
        await resolve(RelayServer(host, 9))
    assert time.monotonic() - started < 1.0
