"""The contract of signaling, over every transport of this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaycall.signaling.contract import CONTRACT, RESTART_CONTRACT
from relaycall.signaling.rig import MortalRig, Rig
from tests.certificates import Authority
from tests.contracts.signaling_rigs import ManualRig, MemoryRig, NginxRig, ServerRig
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

Case = Callable[[MortalRig], Awaitable[None]]
each_case = pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
each_restart = pytest.mark.parametrize("case", RESTART_CONTRACT, ids=lambda case: case.__name__)
each_scheme = pytest.mark.parametrize("scheme", ["ws", "http"])


@each_case
async def test_memory(case: Callable[[Rig], Awaitable[None]]) -> None:
    async with MemoryRig() as rig:
        await case(rig)


@each_case
async def test_manual(case: Callable[[Rig], Awaitable[None]]) -> None:
    async with ManualRig() as rig:
        await case(rig)


@each_scheme
@each_case
async def test_server(case: Case, scheme: str) -> None:
    async with ServerRig(scheme) as rig:
        await case(rig)


@each_scheme
@each_restart
async def test_server_that_dies(case: Case, scheme: str) -> None:
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
@pytest.mark.parametrize("case", [*CONTRACT, *RESTART_CONTRACT], ids=lambda case: case.__name__)
async def test_server_behind_nginx(case: Case, scheme: str, tmp_path: Path) -> None:
    async with NginxRig(scheme, tmp_path) as rig:
        await case(rig)
