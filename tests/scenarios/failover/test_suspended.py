"""One side's program is suspended, as by a lid that is closed, and goes on after a while: so does the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

RESUMES = 5.0  # seconds


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [5, 60])
@pytest.mark.parametrize("name", NAMES)
async def test_the_call_resumes(tmp_path: Path, name: str, seconds: int) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        call.ends[name].suspend()
        await call.talk(seconds)
        call.ends[name].resume()
        await call.flowing(within=RESUMES)
        facts = await call.facts()
        assert [facts[each]["ended"] for each in facts] == [None, None]
        await call.close()
