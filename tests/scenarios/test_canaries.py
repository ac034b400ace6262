"""P2: our address and our secrets are in nothing that the far end, a log, an error or a repr can show.

The two parties of each call have addresses of their own on loopback, apart from the relays'. Everything is recorded
with every logger at DEBUG, and searched for those addresses, the user name and password of the relays, the ICE
passwords and the keys.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import av.logging
import pytest

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.call.record import decode_record, derive_call_key
from relaycall.errors import ConfigError, NoPath, NoRelay, RecordRefused, RelaycallError, RelaysLost
from relaycall.ice import holdings
from relaycall.ice.allocation import Allocation
from relaycall.media.audio import ToneSource
from relaycall.media.srtp import derive_keys
from relaycall.relays.server import RelayServer
from tests.coturn import free_port
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import PASSWORD, USERNAME, embedded_relays, heard, session
from tests.scenarios.canaries import Canaries, bind_sockets, shown_by, shown_by_objects
from tests.scripted import black_hole, listening

ALICE, BOB = "127.0.0.21", "127.0.0.22"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    before = av.logging.get_level()
    av.logging.set_level(av.logging.DEBUG)
    yield
    av.logging.set_level(before)


@pytest.fixture(autouse=True)
def parties(monkeypatch: pytest.MonkeyPatch) -> dict[str, Canaries]:
    bind_sockets(monkeypatch)
    secrets: dict[str, str | bytes] = {"user name": USERNAME, "password": PASSWORD}
    return {name: Canaries(host, secrets=dict(secrets)) for name, host in (("alice", ALICE), ("bob", BOB))}


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytearray]:
    """Every byte that came from the relays, by the address it came to."""
    found: dict[str, bytearray] = {}
    take = Allocation._receive

    def keep(allocation: Allocation, data: bytes, now: float) -> None:
        assert allocation._socket is not None
        found.setdefault(allocation._socket.local.host, bytearray()).extend(data)
        take(allocation, data, now)

    monkeypatch.setattr(Allocation, "_receive", keep)
    return found


@pytest.fixture
def call_keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    found: list[bytes] = []

    def keep(caller: Any, callee: Any) -> bytes:
        found.append(derive_call_key(caller, callee))
        return found[-1]

    monkeypatch.setattr("relaycall.call.media_call.derive_call_key", keep)
    return found


def assert_shows_nothing(text: str, parties: dict[str, Canaries], what: str) -> None:
    for name, canaries in parties.items():
        for line in text.splitlines():
            assert canaries.in_text(line) == [], f"{what} shows this of {name}: {line}"


def assert_objects_show_nothing(parties: dict[str, Canaries]) -> None:
    shown = shown_by_objects()
    assert "relaycall.call.media_call.MediaCall" in shown
    for kind, text in shown.items():
        assert_shows_nothing(text, parties, kind)


def make(relays: list[RelayServer], *, caller: bool) -> MediaCall:
    return MediaCall(relays, caller=caller, source=ToneSource(), options=MediaOptions(laboratory=True))


@pytest.mark.parametrize("transport", ["udp", pytest.param("tls", marks=pytest.mark.slow)])
async def test_a_call(
    transport: str,
    parties: dict[str, Canaries],
    received: dict[str, bytearray],
    call_keys: list[bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holdings, "RELAYLESS", 2.0)
    async with (
        embedded_relays(2, transport) as (embedded, relays),
        make(relays, caller=True) as alice,
        make(relays[::-1], caller=False) as bob,
    ):
        calls = {"alice": alice, "bob": bob}
        records = {name: await parties[name].sends(call.prepare()) for name, call in calls.items()}
        for name, record in records.items():
            opened = decode_record(record, laboratory=True)
            parties[name].secrets |= {"ICE password": opened.pwd, "key": opened.key}
        await asyncio.gather(
            parties["alice"].sends(calls["alice"].connect(records["bob"])),
            parties["bob"].sends(calls["bob"].connect(records["alice"])),
        )
        await heard(*calls.values(), frames=20)
        assert len(call_keys) == 2
        keys = derive_keys(call_keys[0], caller=True)
        for canaries in parties.values():
            assert len(canaries.ports) == 2
            canaries.secrets |= {"call key": call_keys[0], "SRTP key": keys.send, "other SRTP key": keys.receive}

        for name, other in (("alice", "bob"), ("bob", "alice")):
            mine, theirs = parties[name], parties[other]
            # The record is sealed for the other side, and holds the ICE password and the key for it.
            assert mine.address_in(records[name]) == []
            assert mine.secrets_in(records[name], but=("ICE password", "key")) == []
            packets = bytes(received[theirs.host])
            assert len(packets) > 20 * 108
            assert mine.address_in(packets) == []
            assert mine.secrets_in(packets) == []
            assert theirs.address_in(packets), "the search finds nothing: the relay does tell a client its own address"

        for call in calls.values():
            connection = call.connection
            shown = [
                call,
                connection,
                session(call),
                session(call).stats(),
                connection.path_stats(),
                connection.dropped,
            ]
            shown += [connection.local_candidates, connection.remote_candidates, connection.relay_rtts, relays]
            shown += [
                connection._held.allocations,
                connection._agent.pairs,
                [decode_record(r, laboratory=True) for r in records.values()],
            ]
            for found in shown:
                assert_shows_nothing(f"{found!r} {found}", parties, type(found).__name__)
        assert_objects_show_nothing(parties)

        for relay in embedded:
            await relay.close()
        async with asyncio.timeout(15):
            ended = [(await call.ended()).error for call in calls.values()]
    for error in ended:
        assert isinstance(error, RelaysLost)
        assert_shows_nothing(shown_by(error), parties, "the error that ended the call")
    assert "was lost" in caplog.text
    assert_shows_nothing(caplog.text, parties, "the log")


async def failing(what: str, stack: AsyncExitStack) -> list[RelayServer]:
    """Relays that fail in a certain way."""

    def server(uri: str, context: ssl.SSLContext | None = None) -> RelayServer:
        return RelayServer.parse(uri, username=USERNAME, password=PASSWORD, ssl_context=context)

    if what == "nobody listens":
        return [server(f"turn:127.0.0.1:{free_port('127.0.0.1')}?transport={kind}") for kind in ("udp", "tcp")]
    if what in ("no TURN over udp", "no TURN over tcp"):
        transport = what[-3:]
        port = await stack.enter_async_context(listening(lambda *_: [b"hello!"], transport))
        return [server(f"turn:127.0.0.1:{port}?transport={transport}")]
    if what == "no answer":
        return [server(f"turn:127.0.0.1:{stack.enter_context(black_hole('udp'))}")]
    if what == "the connection is ended":
        return [
            server(
                f"turn:127.0.0.1:{await stack.enter_async_context(listening(lambda *_: [None], 'tcp'))}?transport=tcp"
            )
        ]
    if what == "an unknown name":
        return [server("turn:relay.invalid")]
    transport = "tls" if "TLS" in what or "certificate" in what else "udp"
    _, relays = await stack.enter_async_context(embedded_relays(1, transport))
    if what == "a certificate nobody knows":
        return [server(relays[0].name)]
    if what == "a certificate of another name":
        return [
            RelayServer("localhost", relays[0].port, "tls", USERNAME, relays[0].password, None, relays[0].ssl_context)
        ]
    if what == "TLS to a port without":
        port = await stack.enter_async_context(listening(lambda *_: [b"hello!"], "tcp"))
        return [server(f"turns:127.0.0.1:{port}", relays[0].ssl_context)]
    assert what == "wrong credentials"
    return [
        relays[0].with_credentials(f"{USERNAME}-2", PASSWORD),
        relays[0].with_credentials(USERNAME, f"{PASSWORD}-2"),
    ]


@pytest.mark.parametrize(
    "what",
    [
        "nobody listens",
        pytest.param("no TURN over udp", marks=pytest.mark.slow),
        "no TURN over tcp",
        pytest.param("no answer", marks=pytest.mark.slow),
        "the connection is ended",
        "an unknown name",
        "a certificate nobody knows",
        "a certificate of another name",
        "TLS to a port without",
        "wrong credentials",
    ],
)
async def test_a_call_that_has_no_relay(
    what: str, parties: dict[str, Canaries], caplog: pytest.LogCaptureFixture
) -> None:
    alice = parties["alice"]
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(make(await failing(what, stack), caller=True))
        with pytest.raises(NoRelay) as found:
            await alice.sends(call.prepare())
        assert bool(alice.ports) is (what != "an unknown name")
        assert_objects_show_nothing(parties)
    assert found.value.failures
    for error in (found.value, *found.value.failures):
        assert_shows_nothing(shown_by(error), parties, type(error).__name__)
    assert_shows_nothing(caplog.text, parties, "the log")


async def test_a_call_that_finds_no_path(parties: dict[str, Canaries], caplog: pytest.LogCaptureFixture) -> None:
    async with (
        embedded_relays(1) as (_, relays),
        make(relays, caller=True) as alice,
        make(relays, caller=False) as bob,
    ):
        mine = await parties["alice"].sends(alice.prepare())
        theirs = await parties["bob"].sends(bob.prepare())
        for canaries, record in zip(parties.values(), (mine, theirs), strict=True):
            opened = decode_record(record, laboratory=True)
            canaries.secrets |= {"ICE password": opened.pwd, "key": opened.key}
        errors: list[RelaycallError] = []
        for record, expected in ((mine, RecordRefused), (theirs[:-1], RecordRefused), (theirs, NoPath)):
            with pytest.raises(expected) as found:
                await parties["alice"].sends(alice.connect(record, timeout=0.2))
            errors.append(found.value)
        assert_objects_show_nothing(parties)
    for error in errors:
        assert_shows_nothing(shown_by(error), parties, type(error).__name__)
    assert_shows_nothing(caplog.text, parties, "the log")


@pytest.mark.parametrize(
    "uri",
    [
        f"turn:{USERNAME}:{PASSWORD}@relay.example.org",
        f"turn://{USERNAME}:{PASSWORD}@relay.example.org",
        f"turn:relay.example.org?password={PASSWORD}",
        f"turn:relay.example.org:{PASSWORD}",
        f"{USERNAME}:{PASSWORD}",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str, parties: dict[str, Canaries]) -> None:
    with pytest.raises(ConfigError) as found:
        RelayServer.parse(uri)
    error = found.value.with_traceback(None)  # whose source lines are this file's
    assert_shows_nothing(shown_by(error), parties, "the error")


def test_control_the_search_finds_what_is_there() -> None:
    canaries = Canaries("127.0.0.21", {40123}, {"text": "word-of-mouth", "bytes": bytes(range(32))})
    assert canaries.in_text("nothing, 127.0.0.211x? 140123 or 401234") == ["host"]  # a longer address holds it
    for text in (
        "from ('127.0.0.21', 5)",
        "port 40123",
        "a word-of-mouth",
        "000102030405060708090a0b",
        "AAECAwQFBgcICQoL",
    ):
        assert canaries.in_text(text), text
    assert canaries.in_text(repr(bytes(range(32))))
    assert canaries.secrets_in(b".." + bytes(range(32))) == ["bytes"]
    assert canaries.address_in(b"\x7f\x00\x00\x15")
    assert canaries.address_in(bytes((0x7F ^ 0x21, 0x12, 0xA4, 0x15 ^ 0x42)))
