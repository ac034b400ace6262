"""Where the measuring takes hold inside the library: the one place to change when its inside changes."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import Counter
from typing import Any

import aiortc.clock
from aiortc.rtp import RtpPacket
from av import AudioFrame

from relaycall.call.media_call import MediaCall
from relaycall.errors import RelaycallError
from relaycall.ice.allocation import Allocation
from relaycall.stun.address import Address
from tests.scenarios.failover.listening import Arrivals, Heard, heard


class Ear:
    """What one side of a connected call gets and hears."""

    def __init__(self, call: MediaCall) -> None:
        self.arrivals = Arrivals()
        self.frames: list[Heard] = []
        session = call.session
        assert session is not None
        playout: Any = session._playout
        take = playout.add

        def add(packet: RtpPacket) -> Any:
            self.arrivals.add(packet.sequence_number, time.monotonic())
            return take(packet)

        playout.add = add
        session.on_frame = self._hear

    def _hear(self, frame: AudioFrame) -> None:
        self.frames.append(heard(frame, time.monotonic()))


def relay_in_use(call: MediaCall) -> str | None:
    """The name of our relay in the selected path."""
    return next((path.relay for path in call.connection.path_stats() if path.selected), None)


def paths(call: MediaCall) -> list[tuple[str, int, bool]]:
    """Our relay, the number of the peer's candidate, and whether it is well, of each path; the selected one first."""
    return [(path.relay, path.remote, path.healthy) for path in call.connection.path_stats()]


def described(event: Any) -> dict[str, Any]:
    """An event with its name, as JSON can hold it."""
    found: dict[str, Any] = {"name": type(event).__name__}
    for part in dataclasses.fields(event):
        value = getattr(event, part.name)
        if isinstance(value, RelaycallError):
            found[part.name] = value.code
        elif value is None or isinstance(value, str | int | float | bool):
            found[part.name] = value
    return found


class Traffic:
    """Bytes that go to relays from now on: of checks, and of everything. Without headers."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        send = Allocation.send

        def counting(allocation: Allocation, peer: Address, data: bytes) -> None:
            self.bytes["all"] += len(data)
            if data[0] < 4:  # STUN (RFC 7983)
                self.bytes["checks"] += len(data)
            send(allocation, peer, data)

        Allocation.send = counting  # type: ignore[method-assign, assignment]


def set_wall_clock(seconds: float) -> None:
    """Every clock that tells the time of day is off by so much from now on: Python's, and aiortc's."""
    true_time, true_date = time.time, aiortc.clock.current_datetime
    off = datetime.timedelta(seconds=seconds)

    def wrong_time() -> float:
        return true_time() + seconds

    def wrong_date() -> datetime.datetime:
        return true_date() + off

    time.time = wrong_time
    aiortc.clock.current_datetime = wrong_date
