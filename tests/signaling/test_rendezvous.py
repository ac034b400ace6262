"""Nameplates over a way that loses things, and from servers that are away, old or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from relaycall.errors import (
    MalformedMessage,
    NameplateUnknown,
    NotSignaling,
    SignalingBusy,
    SignalingClosed,
    SignalingError,
    SignalingRateLimited,
    SignalingTimeout,
)
from relaycall.server import signaling_requests, signaling_socket
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_gate import Gate
from relaycall.server.signaling_store import MemoryStore
from relaycall.signaling import frames as f
from relaycall.signaling.base import SignalingState
from relaycall.signaling.memory import MemoryTransport
from relaycall.signaling.nameplates import Nameplates
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rendezvous import NAMEPLATE_TIMEOUT, Rendezvous, check_outcome
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.signaling.forwarder import Forwarder
from tests.waiting import eventually

each_scheme = pytest.mark.parametrize("scheme", ["ws", "http"])
ENVELOPE = bytes(4096)


@asynccontextmanager
async def connected(scheme: str) -> AsyncIterator[tuple[Rendezvous, Forwarder, Nameplates]]:
    """A client, the way it has to a server, and that server's nameplates."""
    store = MemoryStore()
    async with (
        SignalingServer(store=store) as server,
        Forwarder(server.port) as way,
        open_signaling(f"{scheme}://127.0.0.1:{way.port}") as client,
    ):
        assert isinstance(client, Rendezvous)
        yield client, way, store.nameplates


def now() -> float:
    return asyncio.get_running_loop().time()


async def lose_the_answer(way: Forwarder, has_arrived: Callable[[], object]) -> None:
    """The server gets what was asked, and its answer is lost with the connection."""
    await eventually(has_arrived)
    await asyncio.sleep(0.05)
    way.is_open = False
    way.cut()
    await asyncio.sleep(0.05)
    way.is_mute, way.is_open = False, True


@each_scheme
async def test_an_allocation_whose_answer_is_lost_is_made_once(scheme: str) -> None:
    async with connected(scheme) as (client, way, nameplates):
        way.is_mute = True
        asking = asyncio.ensure_future(client.allocate_nameplate())
        await lose_the_answer(way, lambda: len(nameplates))
        assert not asking.done()
        assert nameplates.claim(await asking, b"", now()) == client.mailbox
        assert len(nameplates) == 1


@each_scheme
async def test_a_claim_whose_answer_is_lost_still_tells_the_mailbox(scheme: str) -> None:
    mailbox = b"m" * 32
    async with connected(scheme) as (client, way, nameplates):
        number = nameplates.allocate(mailbox, 0.0, now())
        assert number is not None
        way.is_mute = True
        asking = asyncio.ensure_future(client.claim_nameplate(number))
        await lose_the_answer(way, lambda: nameplates._nameplates[number].claim)
        assert not asking.done()
        assert await asking == mailbox
        with pytest.raises(NameplateUnknown):
            await client.claim_nameplate(number)


@each_scheme
@pytest.mark.slow
async def test_while_the_server_is_away_each_waits_for_its_timeout_and_no_longer(scheme: str) -> None:
    async with connected(scheme) as (client, way, nameplates):
        number = nameplates.allocate(b"m" * 32, 0.0, now())
        assert number is not None
        way.is_open = False
        way.cut()
        await eventually(lambda: client.state is SignalingState.RECONNECTING)
        for ask in (
            lambda: client.allocate_nameplate(timeout=0.2),
            lambda: client.claim_nameplate(number, timeout=0.2),
            lambda: client.release_nameplate(timeout=0.2),
        ):
            start = now()
            with pytest.raises(SignalingTimeout):
                await ask()
            assert 0.15 < now() - start < 2
        way.is_open = True
        await eventually(lambda: client.state is SignalingState.OPEN, timeout=15)
        await client.send(client.mailbox, ENVELOPE)
        assert len(nameplates) == 1  # what timed out is not asked later
        assert nameplates.claim(number, b"", now()) == b"m" * 32


def test_they_wait_ten_seconds_by_default() -> None:
    assert NAMEPLATE_TIMEOUT == 10.0


@each_scheme
async def test_closing_lets_go_who_waits(scheme: str) -> None:
    async with connected(scheme) as (client, way, _):
        way.is_mute = True
        asking = asyncio.ensure_future(client.allocate_nameplate())
        await asyncio.sleep(0.05)
        start = now()
        await client.close()
        with pytest.raises(SignalingClosed):
            await asking
        assert now() - start < 2


async def test_before_it_is_opened_nothing_is_asked() -> None:
    for url in ("ws://127.0.0.1:1", "http://127.0.0.1:1", "memory:unopened"):
        client = open_signaling(url)
        assert isinstance(client, Rendezvous)
        for asking in (client.allocate_nameplate(), client.claim_nameplate(1), client.release_nameplate()):
            with pytest.raises(SignalingClosed):
                await asking


@each_scheme
async def test_a_server_that_knows_no_nameplates_is_a_timeout(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_as_before(data: bytes) -> f.ClientFrame:
        if data[:1] in (b"\5", b"\6", b"\7"):
            raise MalformedMessage("A signaling frame of the client is malformed.")
        return f.decode_client(data)

    for module in (signaling_socket, signaling_requests):
        monkeypatch.setattr(module, "decode_client", decode_as_before)
    async with connected(scheme) as (client, _, _):
        with pytest.raises(SignalingTimeout):
            await client.allocate_nameplate(timeout=0.3)
        await client.send(client.mailbox, ENVELOPE)


def answering(change: Callable[[f.NameplateAnswer], f.ServerFrame], asked: list[int]) -> Callable[..., object]:
    """In place of the gate's; notes the number of each request."""

    async def nameplate(self: Gate, request: f.NameplateRequest, holder: object) -> f.ServerFrame:
        asked.append(request.number)
        return change(f.NameplateAnswer(request.number, f.NameplateOutcome.DONE, 0, 0, bytes(32)))

    return nameplate


WRONG: dict[str, tuple[Callable[[f.NameplateAnswer], f.ServerFrame], type[SignalingError]]] = {
    "no nameplate": (lambda answer: answer, NotSignaling),
    "to another request": (lambda answer: answer._replace(number=answer.number + 1), SignalingTimeout),
    "of another kind": (lambda answer: f.Answer(answer.number, f.Verdict.TAKEN, 0), SignalingTimeout),
}


@each_scheme
@pytest.mark.parametrize(("change", "error"), WRONG.values(), ids=WRONG.keys())
async def test_an_answer_that_is_none(
    scheme: str,
    change: Callable[[f.NameplateAnswer], f.ServerFrame],
    error: type[SignalingError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Gate, "nameplate", answering(change, asked))
    async with connected(scheme) as (client, _, _):
        with pytest.raises(error):
            await client.allocate_nameplate(timeout=0.3)
        await client.send(client.mailbox, ENVELOPE)
    assert 1 <= len(asked) < 40  # it is asked again after a reconnect and its wait, not without end


async def test_in_memory_there_are_only_so_many_too() -> None:
    async with MemoryTransport("memory:few") as client:
        client._place.nameplates = Nameplates(digits=1)
        for number in range(9):
            client._place.nameplates.allocate(bytes([number]) * 32, 0.5, now())
        with pytest.raises(SignalingBusy):
            await client.allocate_nameplate()


def test_outcomes_and_their_errors() -> None:
    outcome = f.NameplateOutcome
    check_outcome("host:1", outcome.DONE, 0.0)
    for refusal, error in ((outcome.UNKNOWN, NameplateUnknown), (outcome.BUSY, SignalingBusy)):
        with pytest.raises(error, match="host:1"):
            check_outcome("host:1", refusal, 0.0)
    with pytest.raises(SignalingRateLimited) as limited:
        check_outcome("host:1", outcome.RATE_LIMITED, 2.5)
    assert limited.value.retry_after == 2.5
