"""P6: packet sizes tell nothing. Speech, a tone, silence and mute look alike on the wire.

The sizes are those that a relay sees of each audio packet. The control sends the same with aiortc's own encoder.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiortc.codecs.opus import OpusEncoder
from av import Packet

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.media.audio import TIME_BASE, AudioSource, ConstantRateOpus, SilenceSource, ToneSource, pcm_frame
from relaycall.media.files import FileSource
from relaycall.server.turn import Relay
from relaycall.stun.turn_allocation import Allocation, Source
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import connect, embedded_relays, session, until

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
PHASES = ("speech", "tone", "silence", "mute")
PACKETS = 30  # of each phase


class Changing:
    """A source that gives each kind of sound in turn."""

    def __init__(self) -> None:
        self._sources: dict[str, AudioSource] = {
            "speech": FileSource(SPEECH),
            "tone": ToneSource(),
            "silence": SilenceSource(),
        }
        self.phase = "speech"

    def read(self) -> bytes | None:
        return self._sources.get(self.phase, self._sources["tone"]).read()

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


class AiortcOpus(ConstantRateOpus):
    """What aiortc would send: 96 kb/s, stereo, variable rate."""

    def __init__(self) -> None:
        self._encoder = OpusEncoder()

    def encode(self, pcm: bytes, timestamp: int) -> Packet[Any]:
        [payload], _ = self._encoder.encode(pcm_frame(pcm, timestamp))
        packet = Packet(payload)
        packet.pts, packet.time_base = timestamp, TIME_BASE
        return packet


def watch(relay: Relay, saw: Callable[[bytes], None]) -> None:
    """Have every payload between relays looked at."""
    carry = relay._server.from_peer

    def carrying(allocation: Allocation | None, data: bytes, peer: Source, now: float) -> bytes | None:
        saw(data)
        return carry(allocation, data, peer, now)

    relay._server.from_peer = carrying  # type: ignore[method-assign]


async def sizes_by_phase() -> dict[str, Counter[int]]:
    """How many audio packets of which size a relay saw of Alice, by what she sent."""
    found: dict[str, Counter[int]] = {phase: Counter() for phase in PHASES}
    source = Changing()
    async with (
        embedded_relays(1) as ([relay], servers),
        MediaCall(servers, caller=True, source=source, options=MediaOptions(laboratory=True)) as alice,
        MediaCall(servers, caller=False, source=SilenceSource(), options=MediaOptions(laboratory=True)) as bob,
    ):
        ssrc: bytes | None = None

        def saw(data: bytes) -> None:
            if data[:1] == b"\x80" and not 192 <= data[1] < 224 and data[8:12] == ssrc:
                found[source.phase][len(data)] += 1

        watch(relay, saw)
        await connect(alice, bob)
        ssrc = session(alice)._local_ssrc.to_bytes(4, "big")
        for phase in PHASES:
            source.phase = phase
            session(alice).muted = phase == "mute"
            await until(lambda: found[source.phase].total() >= PACKETS, what=f"sending {phase}")
        await asyncio.sleep(0)
    return found


async def test_every_audio_packet_has_the_same_size() -> None:
    found = await sizes_by_phase()
    assert all(sizes.total() >= PACKETS for sizes in found.values())
    assert {size for sizes in found.values() for size in sizes} == {12 + 80 + 16}  # header, Opus, SRTP's tag


@pytest.mark.slow
async def test_control_with_aiortcs_encoder_sizes_tell_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.media.audio.ConstantRateOpus", AiortcOpus)
    found = await sizes_by_phase()
    assert len(found["speech"]) > 10
    assert min(found["tone"]) > max(found["mute"], key=lambda size: found["mute"][size])
