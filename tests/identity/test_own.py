"""Our own keys in a store: made, loaded, changed, and overwritten when they are due."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path

import keyring
import pytest

from relaycall.errors import ConfigError, IdentityMissing, StoreLocked
from relaycall.identity.card import decode_card
from relaycall.identity.keys import Identity
from relaycall.identity.own import (
    ENTRY,
    MAX_NAME_AND_URL,
    OwnKeys,
    change_own,
    create_own,
    load_own,
    refresh_own,
    rotate_identity,
)
from relaycall.identity.prekeys import Prekey, Prekeys, SignedPrekey
from relaycall.redact import Secret
from relaycall.store import Store
from relaycall.store.keyring_store import KeyringStore
from relaycall.store.vault import VaultStore
from tests.identity.own_rig import NOW, URL, WEEK, MemoryStore, quick  # noqa: F401 - for every test here
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store import backends
from tests.store.secret_service import SecretService

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["memory", "vault", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "vault":
        return VaultStore(tmp_path / "vault", Secret("passphrase"))
    if request.param == "keyring":
        keyring.set_keyring(backends.Memory())
        return KeyringStore()
    return MemoryStore()


async def entry_of(store: Store) -> bytes:
    entry = await store.get(ENTRY)
    assert entry is not None
    return base64.b64decode(entry.reveal())


# --- made, loaded, changed -------------------------------------------------------------------------------------------


async def test_made_and_loaded(store: Store) -> None:
    made = await create_own(store, "Ada", URL, NOW)
    loaded = await load_own(store, NOW + 1)
    assert loaded.same_as(made)
    assert loaded.identity.public == made.identity.public
    assert (loaded.name, loaded.signaling, loaded.serial, loaded.created) == ("Ada", URL, 1, int(NOW))
    assert await store.names() == (ENTRY,)
    assert loaded.card() == made.card()
    assert decode_card(loaded.card().encode()).identity == made.identity.public
    signed = SignedPrekey.decode(loaded.signed_prekey().encode())
    assert signed.verify(made.identity.public, NOW) == made.prekeys.current.public


async def test_none_are_made_by_looking(store: Store) -> None:
    for call in (load_own(store, NOW), change_own(store, NOW, name="Ada"), rotate_identity(store, NOW)):
        with pytest.raises(IdentityMissing):
            await call
    assert await store.names() == ()


async def test_there_are_keys_already(store: Store) -> None:
    made = await create_own(store, "Ada", URL, NOW)
    with pytest.raises(ConfigError, match="already"):
        await create_own(store, "Eve", URL, NOW)
    assert (await load_own(store, NOW)).same_as(made)


async def test_another_name_and_another_server(store: Store) -> None:
    made = await create_own(store, "Ada", URL, NOW)
    renamed = await change_own(store, NOW + 60, name="Ada L.")
    moved = await change_own(store, NOW + 120, signaling="https://other.example.org")
    assert (renamed.name, renamed.signaling, renamed.serial, renamed.created) == ("Ada L.", URL, 2, int(NOW) + 60)
    assert (moved.name, moved.signaling, moved.serial) == ("Ada L.", "https://other.example.org", 3)
    assert moved.identity.public == made.identity.public
    assert moved.prekeys == made.prekeys
    assert (await load_own(store, NOW)).same_as(moved)


async def test_other_keys_on_purpose(store: Store) -> None:
    made = await create_own(store, "Ada", URL, NOW)
    other = await rotate_identity(store, NOW + 60)
    assert (other.name, other.signaling, other.serial, other.created) == ("Ada", URL, 2, int(NOW) + 60)
    assert other.card().mailbox != made.card().mailbox
    for key in ("signing", "agreement"):
        assert getattr(other.identity.public, key) != getattr(made.identity.public, key)
    assert (await load_own(store, NOW)).same_as(other)
    kept = await entry_of(store)
    for secret in (made.identity.reveal()[:32], made.identity.reveal()[32:64], made.prekeys.current.seed):
        assert secret not in kept


@pytest.mark.parametrize(
    ("name", "url", "rule"),
    [
        ("", URL, "1 to 64"),
        ("a\u202eb", URL, "cannot be seen"),
        ("Ada", "none", "is not one"),
        ("🦊" * 60, "w:" + "x" * 39, "together"),
    ],
)
async def test_what_cannot_stand_in_a_card(name: str, url: str, rule: str) -> None:
    store = MemoryStore()
    with pytest.raises(ConfigError, match=rule):
        await create_own(store, name, url, NOW)
    assert store.written == []
    made = await create_own(store, "Ada", URL, NOW)
    with pytest.raises(ConfigError, match=rule):
        await change_own(store, NOW, name=name, signaling=url)
    assert (await load_own(store, NOW)).same_as(made)


@pytest.mark.parametrize(("name", "url"), [("🦊" * 60, "w:" + "x" * 38), ("x" * 64, "w:" + "x" * 198)])
async def test_the_longest_name_and_url(name: str, url: str) -> None:
    store = MemoryStore()
    await create_own(store, name, url, NOW)
    loaded = await load_own(store, NOW + WEEK)
    assert (loaded.card().name, loaded.card().signaling) == (name, url)
    assert len(store.kept[ENTRY].reveal()) <= 1280


async def test_serials_run_out() -> None:
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    last = OwnKeys(made.identity, made.prekeys, "Ada", URL, 2**32 - 1, 1)
    store.kept[ENTRY] = last.encode()
    for call in (change_own(store, NOW, name="A"), rotate_identity(store, NOW)):
        with pytest.raises(ConfigError, match="range"):
            await call
    assert store.kept[ENTRY] == last.encode()


# --- the size of the entry -------------------------------------------------------------------------------------------


def test_the_largest_entry_fits_what_windows_keeps() -> None:
    """2560 bytes, in UTF-16."""
    full = Prekeys(
        tuple(Prekey(bytes([n]) * 64, bytes(32), 2**40) for n in range(4)), tuple(bytes([n]) * 32 for n in range(4))
    )
    largest = OwnKeys(Identity(bytes(96)), full, "x" * 64, "w" * (MAX_NAME_AND_URL - 64), 2**32 - 1, 2**40 - 1)
    text = largest.encode().reveal()
    assert text.isascii()
    assert 1240 < len(text) <= 1280
    assert len(text.encode("utf-16-le")) <= 2560


# --- rotation --------------------------------------------------------------------------------------------------------


async def test_a_stolen_device(store: Store) -> None:
    """After rotation and two weeks, the old prekey is nowhere in the entry, and what was sealed to it stays shut."""
    made = await create_own(store, "Ada", URL, NOW)
    old = made.prekeys.current
    assert old.seed in await entry_of(store)
    second = await load_own(store, NOW + WEEK)
    assert old.seed in await entry_of(store)
    assert second.prekeys.find(old.id)
    third = await load_own(store, NOW + 2 * WEEK)
    kept = await entry_of(store)
    for secret in (old.seed, old.seed[:32], old.seed[32:], old.x25519):
        assert secret not in kept
    assert third.prekeys.find(old.id) is None
    assert third.prekeys.retired == (old.id,)
    assert third.identity.public == made.identity.public
    assert third.card() == made.card()  # the card does not change with the prekeys


async def test_a_new_prekey_is_kept_before_it_is_told() -> None:
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    store.failure = StoreLocked()
    before = dict(store.kept)
    for call in (load_own(store, NOW + WEEK), refresh_own(store, made, NOW + WEEK), rotate_identity(store, NOW)):
        with pytest.raises(StoreLocked):
            await call
    assert store.kept == before
    assert (await load_own(store, NOW + WEEK - 1)).same_as(made)  # nothing is due: nothing is written
    store.failure = None
    rotated = await refresh_own(store, made, NOW + WEEK)
    assert OwnKeys.decode(store.kept[ENTRY]).same_as(rotated)
    assert rotated.prekeys.current != made.prekeys.current


async def test_nothing_is_written_when_nothing_is_due() -> None:
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    writes = len(store.written)
    await load_own(store, NOW + 60)
    await refresh_own(store, made, NOW + 60)
    assert len(store.written) == writes


async def test_a_clock_that_is_wrong() -> None:
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    for now in (NOW - 3600, NOW + 3600, 0.0, NOW - 365 * 86400):
        loaded = await load_own(store, now)
        assert loaded.prekeys.find(made.prekeys.current.id)
    assert (await load_own(store, NOW + 60)).prekeys.current == made.prekeys.current


# --- a real keyring --------------------------------------------------------------------------------------------------

IN_KEYRING = """
import asyncio
from relaycall.identity.own import create_own, load_own, rotate_identity
from relaycall.store import open_store
from relaycall.store.keyring_store import KeyringStore
async def main():
    store = await open_store()
    assert isinstance(store, KeyringStore)
    made = await create_own(store, "Ada", "wss://signal.example.org", 1_700_000_000)
    assert (await load_own(await open_store(), 1_700_000_060)).same_as(made)
    later = await load_own(store, 1_700_000_000 + 7 * 86400)
    assert len(later.prekeys.kept) == 2
    latest = await load_own(store, 1_700_000_000 + 14 * 86400)
    assert latest.prekeys.retired == (made.prekeys.current.id,)
    assert await store.names() == ("identity/me",)
asyncio.run(main())
"""


@pytest.mark.interop
async def test_in_the_keyring_of_a_desktop(tmp_path: Path) -> None:
    with SecretService(tmp_path) as service:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", IN_KEYRING),
            env=service.env,
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await program.communicate()
        assert program.returncode == 0, errors.decode()
