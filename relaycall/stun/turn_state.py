"""Where an allocation stands, seen from its client, and what takes it from one state to the next."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where the allocation stands."""

    NEW = enum.auto()
    ALLOCATING = enum.auto()
    ALLOCATED = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


TRANSITIONS: dict[tuple[State, str], State] = {
    (State.NEW, "start"): State.ALLOCATING,
    (State.NEW, "fail"): State.CLOSED,
    (State.NEW, "close"): State.CLOSED,
    (State.ALLOCATING, "allocated"): State.ALLOCATED,
    (State.ALLOCATING, "fail"): State.CLOSED,
    (State.ALLOCATING, "close"): State.CLOSING,
    (State.ALLOCATED, "fail"): State.CLOSED,
    (State.ALLOCATED, "close"): State.CLOSING,
    (State.CLOSING, "fail"): State.CLOSED,
    (State.CLOSING, "closed"): State.CLOSED,
}
