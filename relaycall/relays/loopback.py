"""Packets through a relay and back, measured."""

from __future__ import annotations

import asyncio
import os

from relaycall.errors import RelayError
from relaycall.ice.allocation import Allocation
from relaycall.relays.probe_result import Measured

PACKET_SIZE = 160  # bytes, as audio has
PATIENCE = 0.3  # seconds, and three round trips, for the last packet to come back


async def measure(sender: Allocation, receiver: Allocation, packets: int, interval: float) -> Measured:
    """Send packets from one allocation to another, or to itself, and wait until they are back or must be lost.

    Args:
        sender, receiver: their callbacks are taken over.
        packets: how many.
        interval: seconds between them.

    Raises:
        RelayError: the relay forbids it (RelayForbiddenPeer), or an allocation is gone.
    """
    loop = asyncio.get_running_loop()
    waiting: dict[bytes, tuple[int, float]] = {}
    rtts: list[float | None] = [None] * packets
    done: asyncio.Future[None] = loop.create_future()

    def arrived(_peer: object, data: bytes, now: float) -> None:
        # The content is random: nobody but the relay can have sent it. Each counts once.
        number, sent = waiting.pop(data, (None, 0.0))
        if number is not None:
            rtts[number] = now - sent
            if None not in rtts and not done.done():
                done.set_result(None)

    def ended(error: RelayError) -> None:
        if not done.done():
            done.set_exception(error)

    for allocation in (sender, receiver):
        allocation.on_lost = ended
        allocation.on_peer_refused = lambda _peer, error: ended(error)
    receiver.on_packet = arrived
    receiver.add_peer(sender.relayed)
    if sender is not receiver:
        sender.add_peer(receiver.relayed)
        await asyncio.sleep(2 * sender.rtt)  # the receiver's permission comes by another way
    try:
        for number in range(packets):
            if number:
                await asyncio.sleep(interval)
            data = os.urandom(PACKET_SIZE)
            waiting[data] = number, loop.time()
            sender.send(receiver.relayed, data)
        await asyncio.wait([done], timeout=PATIENCE + 3 * sender.rtt)
        if done.done():
            done.result()
        return Measured(tuple(rtts))
    finally:
        if done.done() and not done.cancelled():
            done.exception()  # taken note of, even if whoever waited was cancelled
        done.cancel()
