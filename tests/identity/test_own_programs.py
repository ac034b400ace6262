"""Two programs of ours that change our keys in one store: nothing that one of them was given is lost."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from relaycall.errors import ConfigError, IdentityMissing, StoreError
from relaycall.identity import own as own_module
from relaycall.identity.own import (
    ENTRY,
    OwnKeys,
    change_own,
    create_own,
    load_own,
    refresh_own,
    rotate_identity,
)
from relaycall.redact import Secret
from relaycall.store.vault import VaultStore
from tests.identity.own_rig import NOW, URL, WEEK, MemoryStore, quick  # noqa: F401 - for every test here
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

ROOT = Path(__file__).parents[2]


async def test_a_program_that_runs_for_long_takes_over_what_another_did() -> None:
    store = MemoryStore()
    running = await create_own(store, "Ada", URL, NOW)
    other = await load_own(store, NOW + WEEK)
    refreshed = await refresh_own(store, running, NOW + WEEK)
    assert refreshed.same_as(other)
    renamed = await change_own(store, NOW + WEEK, name="A")
    assert (await refresh_own(store, refreshed, NOW + WEEK)).same_as(renamed)
    replaced = await rotate_identity(store, NOW + WEEK)
    assert (await refresh_own(store, refreshed, NOW + WEEK)).same_as(replaced)


async def test_what_another_program_overwrote_is_put_back() -> None:
    """And so it is after an older copy of the store was restored."""
    store = MemoryStore()
    await create_own(store, "Ada", URL, NOW)
    copy = dict(store.kept)
    running = await change_own(store, NOW + WEEK, name="A")
    store.kept = copy
    refreshed = await refresh_own(store, running, NOW + WEEK + 60)
    assert refreshed.same_as(running)
    assert OwnKeys.decode(store.kept[ENTRY]).same_as(running)


async def test_another_identity_restored_is_left_as_it_is() -> None:
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    copy = dict(store.kept)
    running = await rotate_identity(store, NOW)
    store.kept = copy
    assert (await refresh_own(store, running, NOW)).same_as(made)
    assert OwnKeys.decode(store.kept[ENTRY]).same_as(made)


async def test_an_entry_that_went_away_does_not_come_back() -> None:
    store = MemoryStore()
    running = await create_own(store, "Ada", URL, NOW)
    await store.remove(ENTRY)
    with pytest.raises(IdentityMissing):
        await refresh_own(store, running, NOW + WEEK)
    assert store.kept == {}


@pytest.mark.parametrize("seed", range(12))
async def test_two_at_the_same_moment(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of their readings and writings: nothing that one of them was given is lost."""
    monkeypatch.setattr(own_module, "SETTLE", 0.03)
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    chance = random.Random(seed)
    store.pause = lambda: chance.uniform(0, 0.007)
    actions: list[Awaitable[OwnKeys]] = [
        load_own(store, NOW + WEEK),
        refresh_own(store, made, NOW + WEEK),
        change_own(store, NOW + WEEK, name="A"),
    ]
    results = await asyncio.gather(*actions)
    kept = OwnKeys.decode(store.kept[ENTRY])
    assert kept.identity.public == made.identity.public
    for result in results:
        assert {one.id for one in result.prekeys} <= {one.id for one in kept.prekeys}
    assert (kept.name, kept.serial) == ("A", 2)


async def test_two_make_keys_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_module, "SETTLE", 0.03)
    store = MemoryStore()
    store.pause = lambda: 0.005
    results = await asyncio.gather(
        create_own(store, "A", URL, NOW), create_own(store, "B", URL, NOW), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, ConfigError)]
    made = [result for result in results if isinstance(result, OwnKeys)]
    assert len(refused) == len(made) == 1
    assert OwnKeys.decode(store.kept[ENTRY]).same_as(made[0])


async def test_other_keys_win_over_a_new_prekey_of_the_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_module, "SETTLE", 0.03)
    store = MemoryStore()
    made = await create_own(store, "Ada", URL, NOW)
    pauses = iter([0.0, 0.01, 0.0, 0.02])  # both read, then new keys are written, then the old with a new prekey
    store.pause = lambda: next(pauses, 0.0)
    replaced, loaded = await asyncio.gather(rotate_identity(store, NOW + WEEK), load_own(store, NOW + WEEK))
    assert replaced.identity.public != made.identity.public
    assert OwnKeys.decode(store.kept[ENTRY]).same_as(replaced)
    assert loaded.same_as(replaced)


async def test_a_store_that_does_not_keep() -> None:
    class Forgetful(MemoryStore):
        async def set(self, name: str, secret: Secret) -> None:
            if name not in self.kept:
                await super().set(name, secret)

    store = Forgetful()
    await create_own(store, "Ada", URL, NOW)
    with pytest.raises(StoreError, match="does not keep"):
        await load_own(store, NOW + WEEK)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from relaycall.identity.own import load_own
from relaycall.redact import Secret
from relaycall.store.vault import VaultStore
store = VaultStore(Path(sys.argv[1]), Secret("passphrase"))
async def main():
    await store.names()  # derives the key
    print("ready", flush=True)
    sys.stdin.readline()
    own = await load_own(store, float(sys.argv[2]))
    print(" ".join(one.id.hex() for one in own.prekeys))
asyncio.run(main())
"""


@pytest.mark.slow
async def test_three_programs_and_one_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_module, "SETTLE", 0.0)
    store = VaultStore(tmp_path / "vault", Secret("passphrase"))
    await create_own(store, "Ada", URL, NOW)
    programs = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(store.path), str(NOW + WEEK)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdout is not None
        assert await program.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(program.communicate(b"\n") for program in programs))
    assert [program.returncode for program in programs] == [0, 0, 0]
    kept = {one.id.hex() for one in (await load_own(store, NOW + WEEK)).prekeys}
    for output, _ in told:
        ids = output.decode().split()
        assert len(ids) >= 2
        assert set(ids) <= kept
