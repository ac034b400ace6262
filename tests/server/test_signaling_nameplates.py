"""Nameplates on the signaling server: for whom, how often, and what it does not tell."""

from __future__ import annotations

import base64
import logging

import aiohttp
import pytest

from relaycall.errors import NameplateUnknown, SignalingBusy, SignalingRateLimited, SignalingTimeout
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_limits import Limits
from relaycall.server.signaling_store import MemoryStore
from relaycall.signaling import frames as f
from relaycall.signaling.frames import NameplateAction, NameplateOutcome
from relaycall.signaling.nameplates import NAMEPLATE_LIFETIME, Nameplates
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rendezvous import Rendezvous
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.server.signaling_clients import envelope, raw_client

ALLOCATE, CLAIM, RELEASE = NameplateAction
each_scheme = pytest.mark.parametrize("scheme", ["ws", "http"])
PLENTY = Limits(nameplate_burst=1000, address_nameplate_burst=1000)


def client_of(server: SignalingServer, scheme: str = "ws") -> Rendezvous:
    client = open_signaling(server.url(scheme))
    assert isinstance(client, Rendezvous)
    return client


async def post(server: SignalingServer, frame: bytes, token: bytes, path: str = "nameplate") -> tuple[int, bytes, str]:
    headers = {"Authorization": f"Bearer {base64.urlsafe_b64encode(token).decode()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{server.url('http')}/v1/{path}", data=frame) as response,
    ):
        shown = sorted((name, value) for name, value in response.headers.items() if name != "Date")
        return response.status, await response.read(), repr(shown)


# --- for whom --------------------------------------------------------------------------------------------------------


async def test_who_has_proved_no_mailbox_gets_nothing() -> None:
    async with SignalingServer() as server:
        for action in NameplateAction:
            request = f.NameplateRequest(1, action, 7 if action is CLAIM else 0).encode()
            async with raw_client(server) as client:
                await client.challenged()
                await client.socket.send_bytes(request)
                assert await client.closed_with() == f.CloseCode.MALFORMED
            for token in (b"", bytes(88)):
                assert (await post(server, request, token))[:2] == (401, bytes(16))


async def test_only_a_claim_that_is_repeated_is_answered_again() -> None:
    """By the number that the client gave it, and to that client alone."""
    async with (
        SignalingServer(limits=PLENTY) as server,
        raw_client(server) as ours,
        raw_client(server) as one,
        raw_client(server) as other,
    ):
        for client in (ours, one, other):
            await client.claim()
        number = (await ours.nameplate(ALLOCATE)).nameplate
        for _ in range(2):
            assert (await one.nameplate(CLAIM, number, 8)).mailbox == ours.mailbox
            assert (await one.nameplate(CLAIM, number, 9)).outcome is NameplateOutcome.UNKNOWN
            assert (await other.nameplate(CLAIM, number, 8)).outcome is NameplateOutcome.UNKNOWN


@each_scheme
async def test_a_number_ends_after_ten_minutes(scheme: str) -> None:
    now = 100.0
    store = MemoryStore(clock=lambda: now)
    async with SignalingServer(store=store) as server, client_of(server, scheme) as ours:
        early = await ours.allocate_nameplate()
        now += NAMEPLATE_LIFETIME - 0.1
        assert await ours.claim_nameplate(early) == ours.mailbox
        late = await ours.allocate_nameplate()
        now += NAMEPLATE_LIFETIME
        with pytest.raises(NameplateUnknown):
            await ours.claim_nameplate(late)


async def test_a_request_in_the_wrong_place_is_refused() -> None:
    async with SignalingServer() as server, raw_client(server) as client:
        token = (await client.claim()).token
        request = f.NameplateRequest(1, ALLOCATE, 0).encode()
        for path, frame in (
            ("receive", request),
            ("acknowledge", request),
            ("nameplate", f.Acknowledge(bytes(32)).encode()),
            ("nameplate", request + b"\0"),
            ("nameplate", b""),
        ):
            assert (await post(server, frame, token, path))[0] == 400


# --- how often -------------------------------------------------------------------------------------------------------


async def test_one_connection_asks_so_often_and_is_told_when_to_retry() -> None:
    limits = Limits(nameplate_rate=0.1, nameplate_burst=3)
    async with SignalingServer(limits=limits) as server, raw_client(server) as one, raw_client(server) as other:
        await one.claim()
        await other.claim()
        number = (await other.nameplate(ALLOCATE)).nameplate
        guesses = [await one.nameplate(CLAIM, 5000 + guess) for guess in range(3)]
        assert {guess.outcome for guess in guesses} == {NameplateOutcome.UNKNOWN}
        for answer in (await one.nameplate(CLAIM, number), await one.nameplate(ALLOCATE)):
            assert answer.outcome is NameplateOutcome.RATE_LIMITED
            assert 0 < answer.retry_ms <= 10_000
            assert (answer.nameplate, answer.mailbox) == (0, bytes(32))
        assert (await one.nameplate(RELEASE)).outcome is NameplateOutcome.DONE
        assert (await one.send(2, one.mailbox)).verdict is f.Verdict.TAKEN
        assert (await other.nameplate(CLAIM, number)).mailbox == other.mailbox  # it was not used up


@each_scheme
async def test_one_address_asks_so_often_whatever_its_connections(scheme: str) -> None:
    limits = Limits(address_nameplate_rate=0.1, address_nameplate_burst=4)
    async with SignalingServer(limits=limits) as server:
        for guess in range(4):
            async with client_of(server, scheme) as client:
                with pytest.raises(NameplateUnknown):
                    await client.claim_nameplate(5000 + guess)
        async with client_of(server, scheme) as client:
            for asking in (client.claim_nameplate(5005), client.allocate_nameplate()):
                with pytest.raises(SignalingRateLimited) as limited:
                    await asking
                assert 0 < limited.value.retry_after <= 10
            await client.release_nameplate()
            await client.send(client.mailbox, envelope(1))  # other things are not concerned


async def test_another_address_is_not_concerned() -> None:
    limits = Limits(address_nameplate_rate=0.01, address_nameplate_burst=1)
    async with SignalingServer(limits=limits, trusted_header="X-Forwarded-For", names=["127.0.0.1"]) as server:
        found = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            async with raw_client(server, headers={"X-Forwarded-For": address}) as client:
                await client.claim()
                found.append((await client.nameplate(CLAIM, 7)).outcome)
        assert found == [NameplateOutcome.UNKNOWN, NameplateOutcome.RATE_LIMITED, NameplateOutcome.UNKNOWN]


async def test_they_count_as_requests_of_the_address_too() -> None:
    limits = Limits(address_rate=0.01, address_burst=3)
    async with SignalingServer(limits=limits) as server, raw_client(server) as client:
        await client.claim()
        found = [(await client.nameplate(RELEASE)).outcome for _ in range(3)]
        assert found == [NameplateOutcome.DONE, NameplateOutcome.DONE, NameplateOutcome.RATE_LIMITED]


@each_scheme
async def test_a_server_with_none_left_says_so(scheme: str) -> None:
    store = MemoryStore(nameplates=Nameplates(digits=1))
    for number in range(9):
        await store.allocate_nameplate(bytes([number]) * 32)
    async with SignalingServer(store=store) as server, client_of(server, scheme) as client:
        with pytest.raises(SignalingBusy):
            await client.allocate_nameplate()
        assert await client.claim_nameplate(5)
        with pytest.raises(SignalingBusy):
            await client.allocate_nameplate()  # the number waits for a repeated claim


# --- what it does not tell -------------------------------------------------------------------------------------------


@each_scheme
async def test_all_replies_look_the_same_from_outside(scheme: str) -> None:
    store = MemoryStore(nameplates=Nameplates(digits=1))
    number = await store.allocate_nameplate(b"m" * 32)
    assert number is not None
    limits = Limits(address_nameplate_burst=5)
    async with SignalingServer(store=store, limits=limits) as server, raw_client(server) as client:
        token = (await client.claim()).token
        looks = set()
        asked = [
            (ALLOCATE, 0, NameplateOutcome.DONE),
            (RELEASE, 0, NameplateOutcome.DONE),
            (CLAIM, number, NameplateOutcome.DONE),
            (CLAIM, number, NameplateOutcome.UNKNOWN),
            (CLAIM, 5000, NameplateOutcome.UNKNOWN),
            (ALLOCATE, 0, NameplateOutcome.BUSY),
            (CLAIM, 5000, NameplateOutcome.RATE_LIMITED),
        ]
        for count, (action, nameplate, outcome) in enumerate(asked):
            if outcome is NameplateOutcome.BUSY:
                for taken in range(9):
                    await store.allocate_nameplate(bytes([taken]) * 32)
            request = f.NameplateRequest(count, action, nameplate)
            if scheme == "http":
                status, body, headers = await post(server, request.encode(), token)
                looks.add((status, len(body), headers))
            else:
                await client.socket.send_bytes(request.encode())
                message = await client.socket.receive(timeout=10)
                body = message.data
                looks.add((message.type, len(body), ""))
            answer = f.decode_server(body)
            assert isinstance(answer, f.NameplateAnswer)
            assert (answer.number, answer.outcome) == (request.number, outcome)
        assert len(looks) == 1


async def test_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryStore):
        async def claim_nameplate(self, nameplate: int, claim: bytes) -> bytes | None:
            raise ValueError(f"canary {nameplate} {claim!r}")

    caplog.set_level(logging.DEBUG)
    for store in (MemoryStore(), Failing()):
        async with SignalingServer(store=store) as server, raw_client(server) as client:
            token = (await client.claim()).token
            number = (await client.nameplate(ALLOCATE)).nameplate
            await post(server, f.NameplateRequest(1, CLAIM, number).encode(), token)
            mailbox = client.mailbox
    assert "A request failed: ValueError" in caplog.text
    for secret in ("127.0.0.1", "canary", mailbox.hex(), repr(mailbox)):
        assert secret not in caplog.text


@each_scheme
async def test_a_store_that_fails_is_a_timeout_and_then_it_works_again(scheme: str) -> None:
    class Failing(MemoryStore):
        is_down = True

        async def allocate_nameplate(self, mailbox: bytes) -> int | None:
            if self.is_down:
                raise ConnectionRefusedError
            return await super().allocate_nameplate(mailbox)

    store = Failing()
    async with SignalingServer(store=store, limits=PLENTY) as server, client_of(server, scheme) as client:
        with pytest.raises(SignalingTimeout):
            await client.allocate_nameplate(timeout=0.3)
        store.is_down = False
        assert await client.allocate_nameplate()
