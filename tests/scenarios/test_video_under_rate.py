"""A video call between two programs over coturn, on a network that becomes bad: the voice stays, video gives way.

Each test prints how the call went, second by second; the figures that are asserted are loose, for a busy machine.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import pytest

from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.video_lab import WIDE, Lab, first, grown, lab, missing, show

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(180)]

NARROW = 200_000  # bit/s
PEOPLE = ("alice", "bob")
MOVES = ("RelayChanged", "RelaySuspected", "PathLost", "PeerUnheard", "RelayGone")


async def at_rate(call: Lab, bitrate: int) -> None:
    """Both show video of so many bit/s."""
    for answer in await asyncio.gather(*(each.ask("sends", bitrate=bitrate, timeout=60) for each in call.programs)):
        assert "seconds" in answer, answer
    await call.look(2.0)


def tell_moves(call: Lab, since: float) -> list[tuple[str, float, str]]:
    moves = call.told(*MOVES, since=since)
    print(f"doubts and moves: {len(moves)}")
    return moves


@pytest.mark.parametrize("compares", [True, False], ids=["comparing paths", "not comparing"])
@pytest.mark.parametrize("direction", ["up", "both"])
async def test_the_rate_falls_to_a_third_and_comes_back(direction: Literal["up", "both"], compares: bool) -> None:
    async with lab(compares=compares) as call:
        await at_rate(call, 650_000)
        cut = time.monotonic()
        call.link.set(direction, rate=NARROW)
        await call.look(15.0)
        restored = time.monotonic()
        call.link.set(direction, rate=WIDE)
        await call.look(25.0)
        show(call, cut, f"{direction} cut to {NARROW // 1000} kbit/s at 0, restored at {restored - cut:.0f}")
        print("before:", call.tap.rates(cut - 4, cut))
        print("second by second:", [call.tap.checks(cut + second) for second in range(15)], "kbit/s of checks")
        print("5 to 15 s:", call.tap.rates(cut + 5, restored))
        moves = tell_moves(call, cut)
        for name, hearer in (PEOPLE, PEOPLE[::-1])[: 2 if direction == "both" else 1]:
            adapted = first(call.between(name, cut, restored), lambda note: note["target"] <= 150_000)
            steady = call.between(name, cut + 5, restored)
            sent = 8 * grown(steady, "bytes") / (steady[-1]["at"] - steady[0]["at"])
            back = first(call.between(name, restored, restored + 25), lambda note: note["target"] >= 520_000)
            voice = [missing(call.between(hearer, cut + since, restored)) for since in (1, 3)]
            queued = [note["at"] - cut for note in call.between(hearer, cut, restored) if note["queue_ms"] >= 100]
            print(
                f"{name}: adapted after {adapted} s; 100 ms of queue and more at {[round(at, 1) for at in queued]} s;"
                f" voice missing from 1 s on {voice[0]:.1%}, from 3 s on {voice[1]:.1%};"
                f" sends {sent / 1000:.0f} kbit/s; back after {back} s"
            )
            assert adapted is not None
            assert adapted < 3
            assert voice[1] < 0.08
            assert sent < NARROW
            assert max(note["target"] for note in call.between(name, restored + 5, restored + 25)) > 0
        print(f"moves without need: {sum('RelayChanged' in move[2] for move in moves)}; all paths lead over one link")
        await call.close()


async def test_a_blackout_of_five_seconds() -> None:
    async with lab() as call:
        await at_rate(call, 330_000)
        dark = time.monotonic()
        call.link.set("both", black_hole=True)
        await call.look(5.0)
        light = time.monotonic()
        call.link.set("both", black_hole=False)
        await call.look(15.0)
        show(call, dark, "nothing passes from 0 to 5")
        tell_moves(call, dark)
        for name in PEOPLE:
            in_the_dark = call.between(name, dark + 3, light)
            sent = grown(in_the_dark, "video_bytes")
            after = call.between(name, light, light + 15)
            heard = first(after, lambda note, start=after[0]["heard"]: note["heard"] > start + 5)
            seen = first(after, lambda note, start=after[0]["pictures"]: note["pictures"] > start + 5)
            voice = missing(call.between(name, light + 2, light + 15))
            print(f"{name}: heard after {heard} s, seen after {seen} s, voice missing from 2 s on {voice:.1%}")
            assert sent < 20_000, "video goes on into the dark"
            assert heard is not None
            assert heard < 2
            assert seen is not None
            assert voice < 0.1
        await call.close()


async def test_a_third_of_all_packets_is_lost() -> None:
    """Video is off in the end, for that reason, or goes on small; the voice is as whole as its coding makes it."""
    async with lab() as call:
        await at_rate(call, 330_000)
        bad = time.monotonic()
        call.link.set("both", loss=0.3)
        await call.look(20.0)
        show(call, bad, "30 % are lost in both directions")
        print("checks:", [call.tap.checks(bad + second) for second in range(20)], "kbit/s")
        tell_moves(call, bad)
        for name in PEOPLE:
            late = call.between(name, bad + 8, bad + 20)
            print(f"{name}: voice missing {missing(late):.1%}, video {late[-1]['target']}")
            assert grown(late, "recovered") > 0
            assert missing(late) < 0.4
            assert min(note["target"] for note in late) < 330_000
        await call.close()


async def test_a_round_trip_of_600_ms() -> None:
    async with lab(delay=0.3) as call:
        far = time.monotonic()
        await call.look(30.0)
        show(call, far, "300 ms each way from the beginning on")
        print("checks:", [call.tap.checks(far + second) for second in range(30)], "kbit/s")
        tell_moves(call, far)
        for name in PEOPLE:
            late = call.between(name, far + 10, far + 30)
            print(f"{name}: voice missing {missing(late):.1%}, video {late[-1]['target']}")
            assert missing(late) < 0.05
            assert grown(late, "pictures") > 50
            assert late[-1]["target"] >= 330_000
        await call.close()


async def test_one_program_is_killed() -> None:
    """The other side says that nothing is heard, ends as a call without video does, and closes in time."""
    async with lab() as call:
        await at_rate(call, 210_000)
        killed = time.monotonic()
        call.bob._process.kill()
        await asyncio.sleep(8.0)
        found: dict[str, Any] = await call.alice.ask("notes")
        kinds = [kind for _, kind, _ in found["events"]]
        assert "PeerUnheard" in kinds
        dark = [note for note in found["notes"] if note["at"] > killed + 4]
        assert grown(dark, "video_bytes") < 20_000, "video goes on to nobody"
        answer = await call.alice.ask("close")
        assert answer["seconds"] < 2.0, answer
