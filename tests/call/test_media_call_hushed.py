"""Who has hung up is neither heard nor seen any more, also by a peer that lets the last word go unanswered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.media.audio import SILENCE, SilenceSource, ToneSource
from tests.call.pictures import Scene, Screen
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import close, connect, embedded_relays, heard, session


async def test_nothing_is_heard_or_seen_after_hanging_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with embedded_relays(1) as (_, relays):
        options, screen = MediaOptions(laboratory=True), Screen()
        alice = MediaCall(relays, caller=True, source=ToneSource(), video=Scene(), options=options)
        bob = MediaCall(relays, caller=False, source=SilenceSource(), video_sink=screen, options=options)
        await connect(alice, bob)
        await heard(alice, bob)
        await screen.sees(5)
        session(bob).transport.on_control = None  # he does not answer
        ours = session(alice)
        encoder: Any = ours._track._encoder
        spoken: list[bytes] = []

        def encode(pcm: bytes, timestamp: int, before: Any = encoder.encode) -> Any:
            spoken.append(pcm)
            return before(pcm, timestamp)

        monkeypatch.setattr(encoder, "encode", encode)
        hanging_up = asyncio.ensure_future(alice.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has begun
        spoken.clear()
        shown = ours.transport.counters.video_sent
        await hanging_up
        assert spoken, "the peer was waited for"
        assert set(spoken) == {SILENCE}
        assert ours.transport.counters.video_sent == shown
        await close(bob)
