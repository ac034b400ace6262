"""User names and passwords for relays: given, kept, and minted; the minted ones are taken by real relays."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import pickle
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaycall.errors import ConfigError, RelayRefusedCredentials, SecretMissing
from relaycall.ice.allocation import allocate
from relaycall.redact import Secret
from relaycall.relays.credentials import CredentialsSource, FromStore, RelayCredentials, Static, TimeLimited
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from relaycall.store.login import StoredLogin, encode_login
from relaycall.store.vault import VaultStore
from tests.coturn import Coturn
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

SHARED = Secret("shared-canary")
NOW = 1_800_000_000.5


async def test_static() -> None:
    for password in ("canary", Secret("canary")):
        source: CredentialsSource = Static("user", password)
        assert await source.credentials() == RelayCredentials("user", Secret("canary"), None)


async def test_from_the_store(tmp_path: Path) -> None:
    store = VaultStore(tmp_path / "store" / "vault", Secret("passphrase"))
    source: CredentialsSource = FromStore("work", store)
    with pytest.raises(SecretMissing, match="work"):
        await source.credentials()
    await store.set("work", encode_login(StoredLogin("user", Secret("one"))))
    assert await source.credentials() == RelayCredentials("user", Secret("one"))
    await store.set("work", encode_login(StoredLogin("user", Secret("two"))))
    assert (await source.credentials()).password == Secret("two")  # read each time
    await store.set("work", Secret("alone"))
    with pytest.raises(SecretMissing, match="no user name"):
        await source.credentials()
    with pytest.raises(ConfigError):
        FromStore("no such")


@pytest.mark.slow
async def test_from_the_store_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("RELAYCALL_VAULT_PASSPHRASE", "passphrase")
    store = VaultStore(tmp_path / "relaycall" / "vault", Secret("passphrase"))
    await store.set("work", encode_login(StoredLogin("user", Secret("one"))))
    assert await FromStore("work").credentials() == RelayCredentials("user", Secret("one"))


async def test_time_limited() -> None:
    made = await TimeLimited(SHARED, ttl=3600, clock=lambda: NOW).credentials()
    assert re.fullmatch(r"1800003600:[0-9a-f]{16}", made.username)
    assert made.expires_at == 1_800_003_600.0
    expected = base64.b64encode(hmac.new(b"shared-canary", made.username.encode(), hashlib.sha1).digest()).decode()
    assert made.password == Secret(expected)
    assert TimeLimited(SHARED, clock=lambda: NOW).mint().expires_at == 1_800_086_400.0


async def test_time_limited_ones_cannot_be_linked() -> None:
    source: CredentialsSource = TimeLimited(SHARED, clock=lambda: NOW)
    assert len({(await source.credentials()).username for _ in range(50)}) == 50


@pytest.mark.parametrize("ttl", [0, 0.5, -1, float("nan"), float("inf"), 10**9])
def test_a_time_that_is_none(ttl: float) -> None:
    with pytest.raises(ConfigError):
        TimeLimited(SHARED, ttl=ttl)
    with pytest.raises(ConfigError):
        TimeLimited(Secret(""))


# --- against relays ---------------------------------------------------------------------------------------------------

Try = Callable[[RelayCredentials], Awaitable[None]]


async def check_against(server: RelayServer, secret: Secret) -> None:
    """Good ones are taken; expired ones and those of another secret are refused."""

    async def take(source: TimeLimited) -> None:
        made = await source.credentials()
        allocation = await allocate(server.with_credentials(made.username, made.password), laboratory=True)
        await allocation.close()

    await take(TimeLimited(secret, ttl=600))
    for wrong in (TimeLimited(secret, ttl=600, clock=lambda: 1_500_000_000), TimeLimited(Secret("another"))):
        with pytest.raises(RelayRefusedCredentials):
            await take(wrong)


async def test_the_embedded_relay_takes_time_limited_ones() -> None:
    async with Relay(auth_secret=SHARED.reveal(), laboratory=True) as relay:
        await check_against(RelayServer.parse(relay.uri("udp")), SHARED)


@pytest.mark.interop
async def test_coturn_takes_time_limited_ones() -> None:
    extra = ["--use-auth-secret", f"--static-auth-secret={SHARED.reveal()}"]
    async with Coturn(ip="127.0.0.9", extra=extra) as relay:
        await check_against(RelayServer.parse(relay.uri("udp")), SHARED)


@pytest.mark.interop
async def test_renewed_on_a_relay_before_they_expire() -> None:
    """Make before break: the second allocation stands, with the next credentials, while the first still does."""
    extra = ["--use-auth-secret", f"--static-auth-secret={SHARED.reveal()}"]
    source = TimeLimited(SHARED, ttl=60)
    async with Coturn(ip="127.0.0.10", extra=extra) as relay:
        server = RelayServer.parse(relay.uri("udp"))
        held = []
        for _ in range(2):
            made = await source.credentials()
            held.append(await allocate(server.with_credentials(made.username, made.password), laboratory=True))
        assert held[0].relayed != held[1].relayed
        assert [allocation.error for allocation in held] == [None, None]
        for allocation in held:
            await allocation.close()


# --- what nothing shows ----------------------------------------------------------------------------------------------


def test_nothing_shows_them() -> None:
    made = TimeLimited(SHARED, clock=lambda: NOW).mint()
    sources = [Static("user-canary", "canary"), FromStore("work"), TimeLimited(SHARED)]
    given = RelayCredentials("user-canary", Secret("canary"))
    for one in [*sources, given, made, *(vars(source) for source in sources)]:
        assert "canary" not in f"{one!r} {one}"
        assert made.username not in repr(one)
    for one in (sources[0], sources[2], given):
        with pytest.raises(TypeError):
            pickle.dumps(one)
        with pytest.raises(TypeError):
            copy.deepcopy(one)
