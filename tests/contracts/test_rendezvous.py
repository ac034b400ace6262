"""The contract of the rendezvous, over every transport of this package that has one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaycall.signaling.rendezvous_contract import RENDEZVOUS_CONTRACT
from relaycall.signaling.rig import Rig
from tests.certificates import Authority
from tests.contracts.signaling_rigs import MemoryRig, NginxRig, ServerRig
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

Case = Callable[[Rig], Awaitable[None]]
each_case = pytest.mark.parametrize("case", RENDEZVOUS_CONTRACT, ids=lambda case: case.__name__)


@each_case
async def test_memory(case: Case) -> None:
    async with MemoryRig() as rig:
        await case(rig)


@pytest.mark.parametrize("scheme", ["ws", "http"])
@each_case
async def test_server(case: Case, scheme: str) -> None:
    async with ServerRig(scheme) as rig:
        await case(rig)


@pytest.mark.parametrize("scheme", ["wss", "https"])
@each_case
async def test_server_with_tls(case: Case, scheme: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with ServerRig(scheme, authority.leaf("localhost").server_context(), authority.client_context()) as rig:
        await case(rig)


@pytest.mark.interop
@pytest.mark.parametrize("scheme", ["wss", "https"])
@each_case
async def test_server_behind_nginx(case: Case, scheme: str, tmp_path: Path) -> None:
    async with NginxRig(scheme, tmp_path) as rig:
        await case(rig)
