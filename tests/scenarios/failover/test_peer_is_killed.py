"""The peer is killed: that is told within five seconds, and is not mistaken for a dead relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.failover.scene import OTHER, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_the_other_side_is_told(tmp_path: Path, name: str) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        call.ends[name].kill()
        left = call.ends.pop(name)
        await call.event(OTHER[name], "PeerUnheard", within=5)
        assert (await call.ends[OTHER[name]].ask("facts"))["ended"] is None, "it may come back"
        await call.close()
        call.ends[name] = left
