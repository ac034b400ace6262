"""Where packets go: one path, several, and what goes again over a path that is new."""

from __future__ import annotations

from typing import cast

import pytest

from relaycall.ice.allocation import Allocation
from relaycall.ice.outlet import RECENT, Outlet, Path
from relaycall.stun.address import Address

NEAR, FAR = Address("2.2.2.1", 5000), Address("2.2.2.2", 5000)


class Wire:
    """An allocation, as far as sending goes."""

    def __init__(self) -> None:
        self.sent: list[tuple[Address, bytes]] = []

    def send(self, peer: Address, data: bytes) -> None:
        self.sent.append((peer, data))

    def to(self, peer: Address) -> Path:
        return cast(Allocation, self), peer

    def take(self) -> list[int]:
        """The numbers of what was sent since."""
        sent, self.sent = self.sent, []
        return [data[0] for _, data in sent]


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def wires() -> list[Wire]:
    return [Wire(), Wire(), Wire()]


def send(outlet: Outlet, *numbers: int) -> None:
    for number in numbers:
        outlet.send(bytes((number,)))


def test_without_a_path_nothing_is_sent_and_nothing_kept(outlet: Outlet) -> None:
    outlet.keep()
    send(outlet, 1)
    assert outlet.recent is not None
    assert not outlet.recent


def test_what_goes_once_goes_over_the_selected_path_alone_and_is_not_kept(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, third = wires
    outlet.select(one.to(NEAR), 0.0)
    outlet.keep()
    outlet.double((other.to(NEAR),), 0.0)
    outlet.send(b"video", once=True)
    outlet.select(third.to(NEAR), 1.0)
    assert one.sent == [(NEAR, b"video")]
    assert other.sent == third.sent == []


def test_over_one_path_each_packet_goes_once(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, _ = wires
    outlet.select(one.to(NEAR), 0.0)
    send(outlet, 1, 2)
    assert one.sent == [(NEAR, b"\x01"), (NEAR, b"\x02")]
    one.sent.clear()
    outlet.select(other.to(FAR), 0.0)
    send(outlet, 3)
    assert (one.take(), other.sent) == ([], [(FAR, b"\x03")])
    outlet.select(None, 0.0)
    send(outlet, 4)
    assert (one.take(), other.take()) == ([], [3])


def test_doubled_until_told_otherwise(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, third = wires
    outlet.keep()
    outlet.select(one.to(NEAR), 0.0)
    outlet.double((other.to(FAR), third.to(NEAR)), 0.0)
    send(outlet, 1)
    assert [wire.take() for wire in wires] == [[1], [1], [1]]
    outlet.double((third.to(NEAR),), 0.0)
    send(outlet, 2)
    assert [wire.take() for wire in wires] == [[2], [], [2]]
    outlet.double((), 0.0)
    send(outlet, 3)
    assert [wire.take() for wire in wires] == [[3], [], []]


def test_what_nobody_watches_is_neither_doubled_nor_kept(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, third = wires
    outlet.select(one.to(NEAR), 0.0)
    outlet.double((other.to(FAR),), 1.0)
    send(outlet, 1, 2)
    assert [wire.take() for wire in wires] == [[1, 2], [], []]
    outlet.keep()
    outlet.select(third.to(NEAR), 1.0)
    assert third.take() == []  # from before keep()
    send(outlet, 3)
    assert [wire.take() for wire in wires] == [[], [3], [3]]


@pytest.mark.parametrize(
    ("seconds", "again"),
    [(0.0, 0), (-1.0, 0), (0.001, 1), (0.02, 1), (0.021, 2), (0.1, 5), (0.5, 25), (0.51, 25), (60.0, 25)],
)
@pytest.mark.parametrize("how", ["select", "double"])
def test_a_new_path_gets_what_was_sent_in_those_seconds(
    outlet: Outlet, wires: list[Wire], how: str, seconds: float, again: int
) -> None:
    one, other, _ = wires
    outlet.keep()
    outlet.select(one.to(NEAR), 0.0)
    send(outlet, *range(40))
    one.take()
    if how == "select":
        outlet.select(other.to(FAR), seconds)
    else:
        outlet.double((other.to(FAR),), seconds)
    assert other.take() == list(range(40 - again, 40))
    assert one.take() == []
    assert again <= RECENT == 25


def test_of_few_packets_all_go_again(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, _ = wires
    outlet.keep()
    outlet.select(one.to(NEAR), 0.5)
    send(outlet, 1, 2, 3)
    outlet.select(other.to(FAR), 0.5)
    assert other.take() == [1, 2, 3]


def test_a_path_that_is_doubled_already_gets_nothing_again(outlet: Outlet, wires: list[Wire]) -> None:
    one, other, third = wires
    outlet.keep()
    outlet.select(one.to(NEAR), 0.0)
    outlet.double((other.to(FAR),), 0.0)
    send(outlet, 1, 2)
    for wire in wires:
        wire.take()
    outlet.double((other.to(FAR), third.to(NEAR)), 0.1)
    assert (one.take(), other.take(), third.take()) == ([], [], [1, 2])
    outlet.double((other.to(NEAR), third.to(NEAR)), 0.1)  # the same relay of ours, another of the peer's
    assert other.sent == [(NEAR, b"\x01"), (NEAR, b"\x02")]
    assert third.take() == []
