"""Two connections over embedded relays: a path, its loss and its replacement, and every way to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from relaycall.errors import CallClosed, NoPath, NoRelay, RecordRefused, RelayError, RelayForbiddenPeer, RelayLost
from relaycall.ice import queue
from relaycall.ice.candidate import Candidate
from relaycall.ice.connection import MAX_PACKET, Connection
from relaycall.ice.events import ConnectionEvent, PathLost, PathSelected, RelayGone
from relaycall.relays.server import Transport
from relaycall.stun.address import Address
from relaycall.stun.message import Message, Method
from tests.ice.connecting import IP, PACKET, Site, at, server, within
from tests.leaks import no_leaks, nothing_left_behind  # noqa: F401 - the latter for every test here
from tests.scripted import PASSWORD, USERNAME, black_hole, granted, listening, turn
from tests.waiting import eventually

CANDIDATE = Candidate("1", 1, "udp", 100, "9.9.9.9", 50_000)


# --- a path -----------------------------------------------------------------------------------------------------------


async def test_connect_send_receive(site: Site) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay, "tcp")])
    assert alice.selected() == [server(relay).name]
    assert bob.selected() == [server(relay, "tcp").name]
    await alice.send(PACKET)
    assert await bob.recv() == PACKET
    bob.send_packet(PACKET[::-1] + b"\x80")
    bob.send_packet(PACKET)
    assert await alice.recv() == PACKET
    assert alice.dropped["not_media"] == 1  # neither SRTP nor DTLS nor STUN
    for side in (alice, bob):
        (path,) = side.path_stats()
        assert path.selected
        assert path.healthy
        assert path.rtt_ms > 0
        assert all(rtt > 0 for rtt in side.relay_rtts.values())
        assert side.error is None
        assert IP not in repr(side)
        assert side.get_default_candidate(1) == side.local_candidates[0]
        assert side.get_default_candidate(2) is None
        assert {candidate.type for candidate in side.local_candidates} == {"relay"}
        assert {candidate.related_address for candidate in side.local_candidates} == {None}


async def test_a_receiver_gets_packets_instead_of_recv(site: Site) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay)])
    received: list[bytes] = []
    bob.set_receiver(received.append)
    alice.send_packet(PACKET)
    alice.send_packet(b"\x16 DTLS")
    await eventually(lambda: len(received) == 2)
    assert received == [PACKET, b"\x16 DTLS"]
    bob.set_receiver(None)
    alice.send_packet(PACKET)
    assert await bob.recv() == PACKET
    assert len(received) == 2


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_receiver_that_raises_harms_nobody(
    transport: Transport, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Least of all the socket below, to which an OSError or an end of the stream would mean something."""
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay, transport)])
    received: list[bytes] = []

    def receiver(packet: bytes) -> None:
        received.append(packet)
        raise ConnectionRefusedError("a bug of the owner's")

    bob.set_receiver(receiver)
    for _ in range(3):
        alice.send_packet(PACKET)
    await eventually(lambda: len(received) == 3)
    await asyncio.sleep(0.05)
    assert bob.dropped["receiver"] == 3
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "a receiver failed; further failures are only counted"
    ]
    assert not [event for event in bob.events if not isinstance(event, PathSelected)]
    assert not bob.failures


async def test_an_event_handler_that_raises_harms_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay)], connect=False)

    def handler(_event: ConnectionEvent) -> None:
        raise RuntimeError("a bug of the owner's")

    alice.on_event = handler
    await asyncio.gather(alice.connect(), bob.connect())
    alice.send_packet(PACKET)
    assert await bob.recv() == PACKET
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.message == "an event handler failed"
    assert record.exc_info
    assert "a bug of the owner's" in caplog.text


async def test_packets_nobody_reads_are_dropped_from_the_front(site: Site) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay)])
    count = queue.SIZE + 10
    for number in range(count):
        alice.send_packet(b"\x80" + number.to_bytes(2, "big"))
        if number % 50 == 0:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    first = await bob.recv()
    assert int.from_bytes(first[1:], "big") == count - queue.SIZE
    assert bob.dropped["queue"] == 10
    received: list[bytes] = []
    bob.set_receiver(received.append)  # it gets those that wait
    assert [int.from_bytes(packet[1:], "big") for packet in received] == list(range(count - queue.SIZE + 1, count))


async def test_too_long_packets_are_dropped_and_counted(site: Site) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay, "tcp")], [server(relay)])
    for size in (MAX_PACKET + 1, 65_535, 65_536, 70_000):  # beyond 65535 the length would spill into the channel
        alice.send_packet(bytes((128,)) + bytes(size - 1))
    alice.send_packet(bytes((128,)) + bytes(MAX_PACKET - 1))
    assert len(await bob.recv()) == MAX_PACKET
    assert alice.dropped["too_long"] == 4


async def test_without_a_path_packets_are_dropped_and_counted(site: Site) -> None:
    alice, _ = await site.pair([server(await site.relay())], [server(await site.relay())], connect=False)
    alice.send_packet(PACKET)
    await alice.send(PACKET)
    assert alice.dropped["no_path"] == 2


async def test_peers_that_do_not_answer(site: Site) -> None:
    relay = await site.relay()
    alice, _ = await site.pair([server(relay)], [server(relay)], connect=False)
    async with within(0.5):
        with pytest.raises(NoPath):
            await alice.connect(timeout=0.2)


async def test_connecting_without_credentials_or_relays(site: Site) -> None:
    alice = site.connection(server(await site.relay()))
    with pytest.raises(CallClosed):
        await alice.connect()
    await alice.gather_candidates()
    with pytest.raises(RecordRefused):
        await alice.connect()


async def test_gathering_twice_allocates_once(site: Site) -> None:
    relay = await site.relay()
    alice = site.connection(server(relay))
    await asyncio.gather(alice.gather_candidates(), alice.gather_candidates())
    await alice.gather_candidates()
    assert relay.active == relay.counters.allocations == 1


async def test_gathering_again_after_a_failure(site: Site) -> None:
    relay = await site.relay()
    dead = server(relay).with_credentials(USERNAME, "wrong")
    alice = site.connection(dead)
    for _ in range(2):
        with pytest.raises(NoRelay):
            await alice.gather_candidates()
    assert len(alice.failures) == 1
    alice._servers = (server(relay),)
    await alice.gather_candidates()
    assert alice.failures == []


# --- relays that go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_lost_relay_is_an_event_and_packets_go_on(transport: Transport, site: Site) -> None:
    first, second, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(first, transport), server(second, transport)], [server(far)])
    await eventually(lambda: all(path.healthy for path in alice.path_stats() + bob.path_stats()))
    await eventually(lambda: alice.selected()[-1] == server(first, transport).name)
    received: list[bytes] = []
    bob.set_receiver(received.append)
    seen = len(alice.events)
    await first.close()
    sent = 0
    async with within(1.0):
        while not received:
            alice.send_packet(PACKET)
            sent += 1
            await asyncio.sleep(0.02)
    assert sent <= 5
    assert alice.selected()[-1] == server(second, transport).name
    echoed: list[bytes] = []
    alice.set_receiver(echoed.append)
    bob.send_packet(PACKET)
    await eventually(lambda: echoed)
    await eventually(lambda: any(isinstance(event, RelayGone) for event in alice.events))
    (gone,) = (event for event in alice.events[seen:] if isinstance(event, RelayGone))
    assert type(gone.error) is RelayLost
    assert gone.error.relay == server(first, transport).name
    assert alice.failures == [gone.error]
    assert not any(isinstance(event, PathLost | RelayGone) for event in bob.events)
    assert [candidate.port for candidate in alice.local_candidates] == [
        candidate.port for candidate in bob.remote_candidates[1:]
    ]
    assert len(alice.path_stats()) == 1


async def test_the_loss_of_all_relays_ends_a_connect_with_the_reasons(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, _ = await site.pair([server(near, "tcp")], [server(far)], connect=False)
    connecting = asyncio.ensure_future(alice.connect())
    await asyncio.sleep(0.05)
    await near.close()
    async with within(0.5):
        with pytest.raises(NoRelay) as caught:
            await connecting
    assert [type(failure) for failure in caught.value.failures] == [RelayLost]
    assert await alice.ended() is caught.value
    assert alice.error is caught.value
    with pytest.raises(NoRelay):
        await alice.connect()
    with pytest.raises(CallClosed):
        alice.send_packet(PACKET)
    with pytest.raises(CallClosed):
        await alice.recv()
    async with within(0.1):
        await alice.close()
    assert alice.error is caught.value


async def test_the_loss_of_all_relays_ends_a_call(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, _ = await site.pair([server(near, "tcp")], [server(far)])
    receiving = asyncio.ensure_future(alice.recv())
    await near.close()
    async with within(0.5):
        assert isinstance(await alice.ended(), NoRelay)
        with pytest.raises(CallClosed):
            await receiving
    from aioice import ConnectionClosed

    assert isinstance(await alice.get_event(), ConnectionClosed)
    assert [type(event) for event in alice.events] == [PathSelected, RelayGone, PathLost]


async def test_without_any_path_left_packets_are_dropped_until_there_is_one(site: Site) -> None:
    """The relay that is left forbids the peer's: the connection stands, and says that it carries nothing."""
    first, far = await site.relay(), await site.relay()
    strict = await site.relay(laboratory=False)
    alice, bob = await site.pair([server(first, "tcp"), server(strict)], [server(far)])
    await eventually(lambda: alice.failures)
    assert type(alice.failures[0]) is RelayForbiddenPeer
    await first.close()
    await eventually(lambda: isinstance(alice.events[-1], PathLost))
    alice.send_packet(PACKET)
    assert alice.dropped["no_path"] == 1
    assert alice.error is None
    assert alice.path_stats() == []
    assert len(bob.path_stats()) == 2


async def test_a_forbidden_peer_ends_the_connect(site: Site) -> None:
    strict, far = await site.relay(laboratory=False), await site.relay()
    alice, _ = await site.pair([server(strict)], [server(far)], connect=False)
    async with within(0.5):
        with pytest.raises(RelayForbiddenPeer) as caught:
            await alice.connect()
    assert caught.value.relay == server(strict).name
    assert await alice.ended() is caught.value


# --- the peer's candidates --------------------------------------------------------------------------------------------


async def connection(laboratory: bool = False) -> Connection:
    return Connection([], ice_controlling=True, laboratory=laboratory)


@pytest.mark.parametrize(
    "other", [{"type": "host"}, {"type": "srflx"}, {"type": "prflx"}, {"component": 2}, {"transport": "tcp"}]
)
async def test_candidates_of_other_kinds_are_dropped_and_counted(other: dict[str, object]) -> None:
    alice = await connection()
    await alice.add_remote_candidate(replace(CANDIDATE, **other))  # type: ignore[arg-type]
    await alice.add_remote_candidate(None)
    assert alice.remote_candidates == []
    assert alice.dropped["candidate"] == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.251",
        "::1",
        "fe80::1",
        "fc00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "name.local",
        "",
    ],
)
async def test_candidates_that_no_public_relay_can_have_are_refused(host: str) -> None:
    alice = await connection()
    with pytest.raises(RecordRefused) as caught:
        await alice.add_remote_candidate(replace(CANDIDATE, host=host))
    assert not host or host not in str(caught.value)
    assert alice.remote_candidates == []


@pytest.mark.parametrize("port", [-1, 0, 53, 1023, 65_536])
async def test_candidates_on_reserved_ports_are_refused_in_a_laboratory_too(port: int) -> None:
    alice = await connection(laboratory=True)
    with pytest.raises(RecordRefused):
        await alice.add_remote_candidate(replace(CANDIDATE, port=port))


async def test_a_fifth_candidate_is_refused() -> None:
    alice = await connection()
    four = [replace(CANDIDATE, port=50_000 + number) for number in range(4)]
    for candidate in four * 2:  # the same again is no other
        await alice.add_remote_candidate(candidate)
    with pytest.raises(RecordRefused, match="more than 4"):
        await alice.add_remote_candidate(replace(CANDIDATE, port=60_000))
    assert [candidate.port for candidate in alice.remote_candidates] == [candidate.port for candidate in four]


async def test_a_laboratory_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    await connection()
    assert not caplog.records
    alice = await connection(laboratory=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "laboratory" in record.message
    await alice.add_remote_candidate(replace(CANDIDATE, host=IP))
    assert len(alice.remote_candidates) == 1


# --- the end ----------------------------------------------------------------------------------------------------------


async def assert_closed(side: Connection) -> None:
    for use in (side.recv, side.gather_candidates, side.connect, lambda: side.send(PACKET)):
        with pytest.raises(CallClosed):
            await use()
    with pytest.raises(CallClosed):
        side.send_packet(PACKET)
    await side.add_remote_candidate(CANDIDATE)
    assert side.path_stats() == []
    assert side.error is None
    assert await side.ended() is None


async def test_close_deletes_what_is_on_the_relays(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near), server(near, "tcp")], [server(far)])
    assert (near.active, far.active) == (2, 1)
    receiving = asyncio.ensure_future(bob.recv())
    bob.send_packet(PACKET)
    await asyncio.sleep(0.02)  # it arrives, and nobody takes it
    async with within(0.5):
        await asyncio.gather(alice.close(), bob.close())
    assert near.active == far.active == 0
    with pytest.raises(CallClosed):
        await receiving
    await assert_closed(alice)
    await assert_closed(bob)


async def test_close_twice_and_at_the_same_time(site: Site) -> None:
    relay = await site.relay()
    alice, _ = await site.pair([server(relay)], [server(relay)])
    async with within(0.5):
        await asyncio.gather(*(alice.close() for _ in range(5)))
        await alice.close()
    assert relay.active == 1  # the other side's
    await assert_closed(alice)


async def test_close_before_anything(site: Site) -> None:
    alice = site.connection(server(await site.relay()))
    await alice.close()
    await assert_closed(alice)


async def test_close_during_gathering(site: Site) -> None:
    """Nothing goes on behind it: neither the wait for the silent relay, nor what the other one granted."""
    relay = await site.relay()
    with black_hole() as silent, black_hole("tcp") as silent_stream:
        async with no_leaks():
            alice = site.connection(server(relay), at(silent), at(silent_stream, "tcp"), at(silent_stream, "tls"))
            gathering = asyncio.ensure_future(alice.gather_candidates())
            await eventually(lambda: relay.active == 1)
            await asyncio.sleep(0.02)
            async with within(0.2):
                await alice.close()
            with pytest.raises(CallClosed):
                await gathering
            await eventually(lambda: relay.active == 0, timeout=0.5)
            await assert_closed(alice)


async def test_close_during_connect(site: Site) -> None:
    relay = await site.relay()
    alice, _ = await site.pair([server(relay)], [server(relay)], connect=False)
    connecting = asyncio.ensure_future(alice.connect())
    await asyncio.sleep(0.05)
    async with within(0.5):
        await alice.close()
    with pytest.raises(CallClosed):
        await connecting
    await assert_closed(alice)


async def test_once_closing_it_carries_nothing(site: Site) -> None:
    """Answers that come while it closes choose no path any more, in whatever turn of the event loop it began."""
    relay = await site.relay()
    for turns in range(40):
        alice, bob = await site.pair([server(relay)], [server(relay)], connect=False)
        connecting = [asyncio.ensure_future(side.connect()) for side in (alice, bob)]
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.ensure_future(alice.close())
        await asyncio.sleep(0)
        while not closing.done():
            with pytest.raises(CallClosed):
                alice.send_packet(PACKET)
            await asyncio.sleep(0)
        await bob.close()
        await asyncio.gather(*connecting, return_exceptions=True)


async def test_close_from_an_event_handler(site: Site) -> None:
    relay = await site.relay()
    alice, bob = await site.pair([server(relay)], [server(relay)], connect=False)
    closing: list[asyncio.Task[None]] = []
    alice.on_event = lambda _: closing.append(asyncio.ensure_future(alice.close()))
    results = await asyncio.gather(alice.connect(), bob.connect(timeout=1.0), return_exceptions=True)
    assert results[0] is None or isinstance(results[0], CallClosed)
    await eventually(lambda: closing)
    await closing[0]
    await assert_closed(alice)


@pytest.mark.slow
async def test_close_over_relays_that_are_silent(site: Site) -> None:
    def once_granted(request: Message, source: Address, key: bytes) -> bytes | None:
        return granted()(request, source, key) if request.method is Method.ALLOCATE else None

    script = turn(once_granted)
    async with listening(script) as udp, listening(script, "tcp") as tcp:
        alice = site.connection(at(udp), at(tcp, "tcp"))
        await alice.gather_candidates()
        async with within(2.0):
            await alice.close()


async def test_cancelling_at_whatever_step_leaves_nothing(site: Site) -> None:
    """Gathering, connecting, closing: cancelled after each number of turns of the event loop."""
    relay = await site.relay()

    async def stop_after(turns: int, doing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(doing)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def gather_and_stop(turns: int, side: Connection) -> None:
        await stop_after(turns, side.gather_candidates())

    async def connect_and_stop(turns: int, side: Connection) -> None:
        await side.gather_candidates()
        side.remote_username, side.remote_password = "them", "their password of 22 characters"
        await side.add_remote_candidate(replace(CANDIDATE, host=IP))
        await stop_after(turns, side.connect())

    async def close_and_stop(turns: int, side: Connection) -> None:
        await side.gather_candidates()
        await stop_after(turns, side.close())

    steps: list[Callable[[int, Connection], Awaitable[None]]] = [gather_and_stop, connect_and_stop, close_and_stop]
    for step in steps:
        for turns in range(1, 30):
            side = site.connection(server(relay), server(relay, "tcp"))
            await step(turns, side)
            if step is not close_and_stop:
                await side.close()
        await eventually(lambda: relay.active == 0, timeout=0.5)


async def test_cancelling_the_wait_for_a_silent_relay_leaves_nothing(site: Site) -> None:
    with black_hole() as silent, black_hole("tcp") as silent_stream:
        async with no_leaks():
            alice = site.connection(at(silent), at(silent_stream, "tcp"), at(silent_stream, "tls"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(alice.gather_candidates(), 0.1)


async def test_errors_tell_no_address_and_no_secret(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    near = await site.relay()
    alice, bob = await site.pair([server(near, "tcp")], [server(near)])
    address = f"{IP}:{alice.local_candidates[0].port}"
    await near.close()
    failure = await alice.ended()
    shown = (
        f"{failure} {failure!r} {alice!r} {alice.events} {alice.path_stats()} {alice.local_candidates} {caplog.text}"
    )
    shown += f"{bob!r} {bob.remote_candidates} {bob.events}"
    assert isinstance(failure, NoRelay)
    assert all(isinstance(why, RelayError) for why in failure.failures)
    for secret in (USERNAME, PASSWORD, address, alice.local_username, alice.local_password):
        assert secret not in shown
    assert IP not in shown.replace(server(near, "tcp").name, "").replace(server(near).name, "")
