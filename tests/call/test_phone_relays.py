"""Relays that are ready before a call, and a phone that cannot be opened or cannot call: by type, and why."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.call.warm import WarmPool
from relaycall.errors import (
    ConfigError,
    CredentialsError,
    IdentityDamaged,
    IdentityMissing,
    NoRelay,
    RelaycallError,
    RelayRefused,
    RelayRefusedCredentials,
    SignalingRefused,
    SignalingUnreachable,
)
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.own import ENTRY
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from tests.call.phones import (
    House,
    Mouth,
    befriend,
    connect,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.coturn import free_port
from tests.identity.stores import MemoryStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import PASSWORD, USERNAME, embedded_relays, until
from tests.scripted import black_hole


def dead(scheme: str = "turn") -> RelayServer:
    return RelayServer.parse(
        f"{scheme}:127.0.0.1:{free_port('127.0.0.1')}?transport=tcp", username=USERNAME, password=PASSWORD
    )


# --- ready before a call ----------------------------------------------------------------------------------------------


async def warm(home: House, *phones: Phone) -> None:
    """Each has a pool open and measured; and nothing else is allocated."""
    openings = lambda: [phone._warm._opening for phone in phones]  # noqa: E731
    await until(lambda: all(opening is not None and opening.done() for opening in openings()))
    await until(lambda: home.allocations == len(phones))


async def test_a_call_takes_what_is_ready_and_afterwards_there_is_some_again() -> None:
    async with house(1) as home:
        alice, bob = await home.friends(prewarm=True)
        for _ in range(3):
            await warm(home, alice, bob)
            granted = home.granted
            calls = await connect(alice, bob, "bob")
            assert home.granted == granted
            await calls[0].hang_up()
            await ended(calls[1])
        await warm(home, alice, bob)
    assert home.allocations == 0


async def test_a_user_never_has_more_than_the_quota() -> None:
    """One allocation for each user and relay: the relay would refuse a second one, and events would tell."""
    async with embedded_relays(1, user_quota=1) as (embedded, [server]):
        embedded[0]._server._authenticator._users["other"] = PASSWORD
        told: list[RelaycallError] = []
        servers = {"alice": server, "bob": server.with_credentials("other", PASSWORD)}
        phones = []
        for name, relay in servers.items():
            phone = Phone(
                signaling="memory:quota", relays=[relay], name=name, store=MemoryStore(), laboratory=True, prewarm=True
            )
            phone.on("relays", lambda event: told.append(event.error) if event.error else None)
            phones.append(phone)
        async with phones[0], phones[1]:
            await befriend(*phones)
            for _ in range(3):
                await until(lambda: embedded[0].active == 2)
                calls = await connect(*phones, "bob")
                await calls[0].hang_up()
                await ended(calls[1])
        assert told == []
        assert embedded[0].counters.refused == 0


async def test_during_a_call_none_is_ready_for_another() -> None:
    """A second call at the same time has relays of its own, and when it is over none are opened in advance."""
    async with house(1) as home:
        alice, bob = await home.friends(prewarm=True)
        calls = await connect(alice, bob, "bob")
        carol = await home.phone("carol")
        await befriend(alice, carol)
        second = await alice.call("carol", audio=Mouth())
        await next_ring(carol)
        await second.hang_up()
        await asyncio.sleep(0.05)
        assert home.allocations == 2
        assert alice._warm._opening is None
        await calls[0].hang_up()
        await ended(calls[1])
        await warm(home, alice, bob)


async def test_what_a_cancelled_call_took_is_given_back() -> None:
    async with house(1) as home:
        alice, bob = await home.friends(prewarm=True)
        for seconds in (0.0, 0.002, 0.01):
            await warm(home, alice, bob)
            call = await alice.call("bob", audio=Mouth())
            await asyncio.sleep(seconds)
            await call.hang_up()
        await warm(home, alice, bob)


async def test_relays_that_were_away_are_asked_again_for_a_call() -> None:
    async with house(1) as home:
        port = home.servers[0].port
        await home.relays[0].close()
        told: list[object] = []
        alice, bob = await home.phone("alice", prewarm=True), await home.phone("bob")
        alice.on("relays", told.append)
        await befriend(alice, bob)
        await until(lambda: alice._warm._opening is not None and alice._warm._opening.done(), timeout=10)
        async with type(home.relays[0])(users={USERNAME: PASSWORD}, laboratory=True, udp_port=port, tcp_port=None):
            calls = await connect(alice, bob, "bob")
            for call in calls:
                await call.hang_up()


async def test_without_prewarming_nothing_is_asked_before_a_call() -> None:
    async with house(2) as home:
        alice, bob = await home.friends()
        await asyncio.sleep(0.05)
        assert home.granted == 0
        calls = await connect(alice, bob, "bob")
        assert home.granted == 4
        await calls[0].hang_up()
        await ended(calls[1])
        await until(lambda: home.allocations == 0)
        await asyncio.sleep(0.05)
        assert home.granted == 4


async def test_who_gives_up_a_pool_while_it_opens_leaves_nothing() -> None:
    """At every turn of the event loop; also where it has just been opened."""
    async with embedded_relays(1) as (embedded, servers):
        for turns in range(40):
            pools = WarmPool(servers, prewarm=False, laboratory=True)
            taking = asyncio.create_task(pools.take())
            for _ in range(turns):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled():
                await taking.result().close()
            await pools.close()
        await until(lambda: embedded[0].active == 0)


# --- calls without relays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prewarm", [False, True])
async def test_a_caller_without_relays(prewarm: bool) -> None:
    async with house(1) as home:
        wrong = home.servers[0].with_credentials(USERNAME, "wrong")
        alice = await home.phone("alice", relays=[dead(), wrong], prewarm=prewarm)
        bob = await home.phone("bob")
        await befriend(alice, bob)
        mouth = Mouth()
        call = await alice.call("bob", audio=mouth)
        end = await call.ended()
        assert end.reason == "no_relay"
        assert isinstance(end.error, NoRelay)
        assert {type(failure) for failure in end.error.failures} == {RelayRefused, RelayRefusedCredentials}
        assert mouth.closed
        assert bob.calls == ()


async def test_a_callee_without_relays() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", relays=[dead()])
        await befriend(alice, bob)
        outgoing = await alice.call("bob", audio=Mouth())
        incoming = (await next_ring(bob)).accept(audio=Mouth())
        end = await incoming.ended()
        assert isinstance(end.error, NoRelay)
        assert await ended(outgoing) == ["declined"]


async def test_no_credentials_for_the_relays() -> None:
    class Broken:
        async def credentials(self) -> object:
            raise CredentialsError("There are none.")

    async with house(1) as home:
        uri = f"turn:127.0.0.1:{home.servers[0].port}"
        alice, bob = await home.phone("alice", relays=[uri], credentials=Broken()), await home.phone("bob")
        await befriend(alice, bob)
        end = await (await alice.call("bob", audio=Mouth())).ended()
        assert isinstance(end.error, CredentialsError)


async def test_hanging_up_while_a_relay_does_not_answer() -> None:
    with black_hole() as port:
        relay = RelayServer.parse(f"turn:127.0.0.1:{port}", username=USERNAME, password=PASSWORD)
        async with house(1) as home:
            alice, bob = await home.phone("alice", relays=[relay]), await home.phone("bob")
            await befriend(alice, bob)
            call = await alice.call("bob", audio=Mouth())
            await asyncio.sleep(0.1)
            assert call.state is CallState.IDLE
            async with asyncio.timeout(2):
                assert (await call.hang_up()).reason == "hung_up"


@pytest.mark.parametrize("relays", [[], ["not a relay"], ["turn:"], ["http://127.0.0.1"], ["stun:127.0.0.1:3478"]])
async def test_relays_that_are_none(relays: list[str]) -> None:
    with pytest.raises(ConfigError):
        Phone(signaling="memory:x", relays=relays, name="alice", store=MemoryStore())


@pytest.mark.parametrize("rule", [{"strangers": "nobody"}, {"unverified": "maybe"}, {"unverified": None}])
async def test_rules_that_are_none(rule: dict[str, str | None]) -> None:
    with pytest.raises(ConfigError):
        Phone(signaling="memory:x", relays=[dead()], name="alice", store=MemoryStore(), **rule)  # type: ignore[arg-type]


async def test_a_rule_by_its_name_is_that_rule() -> None:
    given = {"strangers": "refuse", "unverified": "refuse"}
    phone = Phone(signaling="memory:x", relays=[dead()], name="alice", store=MemoryStore(), **given)  # type: ignore[arg-type]
    strangers, unverified = phone._policy
    assert strangers is Strangers.REFUSE
    assert unverified is Unverified.REFUSE


# --- a phone that cannot be opened ------------------------------------------------------------------------------------


def phone_at(url: str, store: MemoryStore, **options: object) -> Phone:
    given = {"relays": [dead()], "name": "alice", "store": store, "laboratory": True, "prewarm": False}
    return Phone(signaling=url, **{**given, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ws://127.0.0.1:{port}", SignalingRefused),
        ("http://127.0.0.1:{port}", SignalingRefused),
        ("ws://no-such-host.invalid", SignalingUnreachable),
        ("carrier-pigeon:", ConfigError),
        ("", ConfigError),
        ("memory:", ConfigError),
    ],
)
async def test_signaling_that_cannot_be_used(url: str, error: type[RelaycallError]) -> None:
    store = MemoryStore()
    with pytest.raises(error):
        async with phone_at(url.format(port=free_port("127.0.0.1")), store, prewarm=True):
            pytest.fail("it opened")


async def test_a_phone_without_keys_and_without_a_name() -> None:
    store = MemoryStore()
    with pytest.raises(IdentityMissing):
        async with phone_at("memory:x", store, name=None):
            pytest.fail("it opened")
    assert store.kept == {}


async def test_damaged_keys_stay_as_they_are() -> None:
    store = MemoryStore()
    store.kept[ENTRY] = damaged = Secret("not our keys")
    with pytest.raises(IdentityDamaged):
        async with phone_at("memory:x", store):
            pytest.fail("it opened")
    assert store.kept == {ENTRY: damaged}
    assert store.writes == 0


async def test_keys_are_made_once_and_the_name_is_asked_no_more() -> None:
    store = MemoryStore()
    async with phone_at("memory:x", store) as phone:
        card = phone.card
    async with phone_at("memory:x", store, name=None) as phone:
        assert phone.card == card
    async with phone_at("memory:x", store, name="somebody else") as phone:
        assert phone.card == card


async def test_another_signaling_url_raises_the_serial_of_the_card() -> None:
    store = MemoryStore()
    async with phone_at("memory:x", store) as phone:
        serial = phone.card.serial
    async with phone_at("memory:y", store) as phone:
        assert (phone.card.serial, phone.card.signaling) == (serial + 1, "memory:y")
    async with phone_at("memory:y", store) as phone:
        assert phone.card.serial == serial + 1
    async with phone_at("manual:", store) as phone:
        assert (phone.card.serial, phone.card.signaling) == (serial + 1, "memory:y")


async def test_a_phone_that_failed_to_open_stays_closed() -> None:
    phone = phone_at("memory:", MemoryStore())
    for _ in range(2):
        with pytest.raises(RelaycallError):
            async with phone:
                pytest.fail("it opened")


async def test_a_phone_opens_once() -> None:
    phone = phone_at("memory:x", MemoryStore())
    async with phone:
        card = phone.card
        assert card.name == "alice"
        with pytest.raises(ConfigError):
            await phone.__aenter__()
        assert phone.card == card
    with pytest.raises(ConfigError):
        await phone.__aenter__()


async def test_calls_go_on_when_the_other_hangs_up_before_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callee hangs up the moment it has answered."""
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        incoming = (await next_ring(bob)).accept(audio=Mouth())
        await until(lambda: incoming.state is CallState.CONNECTING)
        await incoming.hang_up()
        assert await ended(outgoing) == ["peer_hung_up"]
        calls = await connect(alice, bob, "bob")
        await connected(*calls)
