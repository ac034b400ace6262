"""An entry that cannot be read, and a store that does not open: said, and left as they are."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import keyring
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import IdentityDamaged, StoreLocked, VaultRefused
from relaycall.identity import own as own_module
from relaycall.identity.keys import Identity
from relaycall.identity.own import (
    ENTRY,
    OwnKeys,
    change_own,
    create_own,
    load_own,
    refresh_own,
    rotate_identity,
)
from relaycall.identity.prekeys import Prekeys
from relaycall.redact import Secret
from relaycall.store.keyring_store import KeyringStore
from relaycall.store.vault import VaultStore
from tests.identity.own_rig import NOW, URL, WEEK, MemoryStore, quick  # noqa: F401 - for every test here
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store import backends
from tests.store.shown import shown

GOOD = OwnKeys(Identity(bytes(range(96))), Prekeys.make(NOW, bytes(range(96))), "Ada", URL, 1, 5).encode().reveal()


def _repacked(change: Callable[[bytes], bytes]) -> str:
    """The entry with another array under a fitting checksum."""
    array = change(base64.b64decode(GOOD)[8:])
    return base64.b64encode(own_module._checksum(array) + array).decode()


DAMAGED = {
    "empty": "",
    "short": GOOD[:-4],
    "long": GOOD + "AAAA",
    "too long": "A" * 4000,
    "not base64": GOOD[:-1] + "!",
    "a line end": GOOD + "\n",
    "beyond ASCII": GOOD[:-1] + "\u00e4",
    "half a character": GOOD[:-1] + "\ud800",
    "another version": _repacked(lambda array: array.replace(b"\x97\1", b"\x97\2", 1)),
    "another encoding": _repacked(lambda array: array.replace(b"\xa3Ada", b"\xd9\3Ada")),
    "no ring": _repacked(lambda array: array[: array.index(b"\xc4\x6b")] + b"\xc4\0"),
    "a damaged ring": _repacked(lambda array: array[:-1] + b"\1"),
    "one more": _repacked(lambda array: b"\x98" + array[1:] + b"\xc0"),
    "nested": _repacked(lambda _: b"\x91" * 900),
}


def test_the_entry_is_right_without_the_damage() -> None:
    assert OwnKeys.decode(Secret(GOOD)).name == "Ada"
    assert OwnKeys.decode(Secret(_repacked(lambda array: array))).name == "Ada"
    assert all(text != GOOD for text in DAMAGED.values())
    assert _repacked(lambda array: array.replace(b"\x97\1", b"\x97\2", 1)) != GOOD


@pytest.mark.parametrize("kind", DAMAGED)
async def test_damaged(kind: str) -> None:
    """Said, and left as it is, by each function."""
    store = MemoryStore()
    store.kept[ENTRY] = Secret(DAMAGED[kind])
    running = OwnKeys.decode(Secret(GOOD))
    for call in (
        load_own(store, NOW),
        refresh_own(store, running, NOW + WEEK),
        create_own(store, "Ada", URL, NOW),
        change_own(store, NOW, name="A"),
        rotate_identity(store, NOW),
    ):
        with pytest.raises(IdentityDamaged):
            await call
    assert store.kept == {ENTRY: Secret(DAMAGED[kind])}
    assert store.written == []


@given(
    st.integers(0, len(GOOD) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
def test_each_character_counts(at: int, character: str) -> None:
    changed = GOOD[:at] + character + GOOD[at + 1 :]
    if changed != GOOD:
        with pytest.raises(IdentityDamaged):
            OwnKeys.decode(Secret(changed))


@given(st.text(max_size=1400) | st.binary(max_size=1000).map(lambda data: base64.b64encode(data).decode()))
def test_any_text(text: str) -> None:
    with pytest.raises(IdentityDamaged):
        OwnKeys.decode(Secret(text))


@given(st.binary(max_size=900))
def test_any_array_with_its_checksum(array: bytes) -> None:
    with pytest.raises(IdentityDamaged):
        OwnKeys.decode(Secret(_repacked(lambda _: array)))


async def test_locked_and_refused_stores_say_so_themselves(tmp_path: Path) -> None:
    keyring.set_keyring(backends.Locked())
    with pytest.raises(StoreLocked):
        await load_own(KeyringStore(), NOW)
    await create_own(VaultStore(tmp_path / "vault", Secret("one")), "Ada", URL, NOW)
    before = (tmp_path / "vault").read_bytes()
    for call in (load_own, rotate_identity):
        with pytest.raises(VaultRefused):
            await call(VaultStore(tmp_path / "vault", Secret("other")), NOW)
    with pytest.raises(VaultRefused):
        await create_own(VaultStore(tmp_path / "vault", Secret("other")), "Ada", URL, NOW)
    assert (tmp_path / "vault").read_bytes() == before


async def test_nothing_secret_is_shown() -> None:
    own = OwnKeys.decode(Secret(GOOD))
    assert "Ada" not in repr(own)
    assert "example" not in repr(own)
    store = MemoryStore()
    store.kept[ENTRY] = own.encode()
    store.failure = StoreLocked()
    with pytest.raises(StoreLocked) as locked:
        await load_own(store, NOW + WEEK)
    with pytest.raises(IdentityDamaged) as damaged:
        OwnKeys.decode(Secret(DAMAGED["a damaged ring"]))
    ring = own.prekeys.current
    told = shown(locked.value) + shown(damaged.value) + repr(own)
    for secret in (own.identity.reveal(), ring.seed, ring.x25519):
        assert secret.hex()[:16] not in told
        assert repr(secret)[2:18] not in told
    assert GOOD[:16] not in told
