"""CPU per packet through SRTP, ICE and TURN, for the sender and for the receiver.

Two ends in processes of their own, coturn between them, UDP. Codec, jitter buffer and RTCP are left out: see
transports.py.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table, ratio
from tests.benchmarks.transports import KINDS, PAYLOAD
from tests.coturn import Coturn

TITLE = "CPU per packet through SRTP, ICE and TURN"
BURST, INTERVAL = 100, 0.01  # packets, seconds: small enough for every socket buffer on the way
BURSTS = 100
PACE = 0.02  # seconds: a call's 50 packets a second
PACED_SECONDS, IDLE_SECONDS = 2.5, 1.0
SETTLE = 0.1  # seconds until the last packet has arrived
TARGET = 6.0  # µs, each

Ends = tuple[Party, Party]


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Send bursts and single packets, in turns by each library."""
    bursts, paced, idle = (5, 0.2, 0.1) if tiny else (BURSTS, PACED_SECONDS, IDLE_SECONDS)
    found: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Coturn())
        ends: dict[str, Ends] = {}
        for name, kind in KINDS.items():
            sender, receiver = [await stack.enter_async_context(Party(kind)) for _ in range(2)]
            offer = await sender.ask("offer", relay.uri("udp"))
            answer = await receiver.ask("answer", relay.uri("udp"), offer)
            await asyncio.gather(sender.ask("connect", answer), receiver.ask("connect", None))
            await sender.ask("bursts", 5, BURST, INTERVAL)  # binds channels, warms up
            ends[name] = sender, receiver
        for _ in range(runs):
            for name, (sender, receiver) in ends.items():
                for key, value in (await _flood(sender, receiver, bursts)).items():
                    found.setdefault((name, key), []).append(value)
            for name, (sender, receiver) in ends.items():
                for key, value in (await _paced(sender, receiver, paced, idle)).items():
                    found.setdefault((name, key), []).append(value)
    return _report(found, runs, bursts)


async def _flood(sender: Party, receiver: Party, bursts: int) -> dict[str, float]:
    """Bursts, minus what the same bursts cost when nothing is sent."""
    await receiver.ask("watch")
    motions, _ = await sender.ask("bursts", bursts, BURST, INTERVAL, True)
    idle_cpu, idle_wall, _ = await receiver.ask("watched")
    await receiver.ask("watch")
    sending, _ = await sender.ask("bursts", bursts, BURST, INTERVAL, False)
    await asyncio.sleep(SETTLE)
    receiving, wall, received = await receiver.ask("watched")
    sent = bursts * BURST
    return {
        "send": (sending - motions) / sent * 1e6,
        "receive": (receiving - idle_cpu / idle_wall * wall) / max(received, 1) * 1e6,
        "lost": (sent - received) / sent * 100,
    }


async def _paced(sender: Party, receiver: Party, seconds: float, idle: float) -> dict[str, float]:
    """One packet every 20 ms, minus what the open connection costs by itself. The wakeup for each is part of it."""
    packets = round(seconds / PACE)
    idle_sender, idle_receiver = await asyncio.gather(sender.ask("idle", idle), receiver.ask("idle", idle))
    await receiver.ask("watch")
    sending, sending_wall = await sender.ask("bursts", packets, 1, PACE, False)
    await asyncio.sleep(SETTLE)
    receiving, receiving_wall, received = await receiver.ask("watched")
    return {
        "paced send": (sending - idle_sender * sending_wall) / packets * 1e6,
        "paced receive": (receiving - idle_receiver * receiving_wall) / max(received, 1) * 1e6,
    }


def _report(found: dict[tuple[str, str], list[float]], runs: int, bursts: int) -> Report:
    report = Report()
    table = Table(
        f"CPU per packet in µs, median (least–most) of {runs}",
        ["", "aiortc", "relaycall", "bare UDP", "ratio", "target"],
    )
    for key, label in {
        "send": "send, in bursts",
        "receive": "receive, in bursts",
        "paced send": "send, 50 a second",
        "paced receive": "receive, 50 a second",
    }.items():
        stock, ours, bare = (Figure.of(found[name, key]) for name in KINDS)
        target = "" if key.startswith("paced") else f"{TARGET:.0f}: {'met' if ours.median <= TARGET else 'MISSED'}"
        table.add(label, stock, ours, bare, ratio(stock, ours), target)
        for name, figure in zip(KINDS, (stock, ours, bare), strict=True):
            report.figures[f"packet_cost_{name}_{key.replace(' ', '_')}_us"] = figure
    lost = {name: max(found[name, "lost"]) for name in KINDS}
    table.notes += [
        f"{len(PAYLOAD)} bytes of payload, UDP; from the RTP packet to a socket, and from a socket to the opened one.",
        f"In bursts: {bursts} times {BURST} packets, {INTERVAL * 1000:.0f} ms apart, minus the same with nothing sent.",
        "50 a second: one wakeup for each packet, as in a call, minus idle.",
        "bare UDP: two sockets, no relay, no SRTP: what the kernel and asyncio take in any case.",
        "lost at most: " + ", ".join(f"{name} {share:.1f} %" for name, share in lost.items()) + ".",
    ]
    report.tables.append(table)
    report.facts["packet_cost_lost_percent"] = lost
    return report
