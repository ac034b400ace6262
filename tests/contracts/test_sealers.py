"""The contract of sealers, over every sealer of this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaycall.identity.contract import CONTRACT, INTRODUCTION_CONTRACT
from relaycall.identity.ratchet import RatchetSealer
from relaycall.identity.rig import Person, Rig
from relaycall.identity.sealer import CARRIED_AGE, EnvelopeSealer, Sealer
from relaycall.redact import Secret
from relaycall.store import Store, vault
from relaycall.store.vault import VaultStore
from relaycall.store.vault_format import LOWEST
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

Case = Callable[[Rig], Awaitable[None]]


class EnvelopeRig(Rig):
    def sealer(self, person: Person) -> Sealer:
        return EnvelopeSealer(person, person.contacts, clock=person.clock)


class CarriedRig(Rig):
    max_age = CARRIED_AGE

    def sealer(self, person: Person) -> Sealer:
        return EnvelopeSealer(person, person.contacts, carried=True, clock=person.clock)


class RatchetRig(Rig):
    any_order = True

    def sealer(self, person: Person) -> Sealer:
        return RatchetSealer(person, person.contacts, person.store, clock=person.clock)


class VaultRig(Rig):
    """A rig whose people keep everything in vaults."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._count = 0

    def new_store(self) -> Store:
        self._count += 1
        return VaultStore(self._folder / str(self._count) / "vault", Secret("passphrase"))


class EnvelopeVaultRig(VaultRig, EnvelopeRig):
    pass


class RatchetVaultRig(VaultRig, RatchetRig):
    pass


def each(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.__name__)


@each(*CONTRACT, *INTRODUCTION_CONTRACT)
async def test_envelope_sealer(case: Case) -> None:
    await case(EnvelopeRig())


@each(*CONTRACT)
async def test_carried_sealer(case: Case) -> None:
    await case(CarriedRig())


@each(*CONTRACT, *INTRODUCTION_CONTRACT)
async def test_ratchet_sealer(case: Case) -> None:
    await case(RatchetRig())


@pytest.mark.slow
@pytest.mark.parametrize("rig", [EnvelopeVaultRig, RatchetVaultRig])
@each(*CONTRACT, *INTRODUCTION_CONTRACT)
async def test_over_vaults(case: Case, rig: type[VaultRig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "COST", LOWEST)
    await case(rig(tmp_path))
