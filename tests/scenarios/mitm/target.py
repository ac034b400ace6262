"""Bob's phone for as many hostile messages as one likes: it keeps count of what they do to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from relaycall.call.call import Call
from relaycall.call.messages import offer_body
from relaycall.errors import RelaycallError
from relaycall.identity.handshake import CallerHandshake
from relaycall.signaling.base import Received
from tests.scenarios.mitm.world import Person, World, mallorys_world

EXAMPLES = int(os.environ.get("RELAYCALL_FUZZ", "0"))  # cases in each of these tests, in place of the usual few

T = TypeVar("T")


class Complaints(logging.Handler):
    """Everything that is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Target:
    """Bob, and Mallory who is a contact of his.

    Attributes:
        world: theirs.
        bob: a person with an open phone.
        times: seconds that each message took.
    """

    def __init__(self, runner: asyncio.Runner, world: World, bob: Person, alice: Person) -> None:
        self._runner = runner
        self.world, self.bob, self.alice = world, bob, alice
        self.complaints = Complaints()
        self.times: list[float] = []
        self.record = b""

    def run(self, doing: Any) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(doing)

    async def take(self, envelope: bytes) -> RelaycallError | None:
        """Have the phone take in an envelope. Returns why it was refused, or None."""
        before = len(self.bob.errors)
        phone = self.bob.phone
        received = Received(b"", envelope, duplicate=False)
        started = time.perf_counter()
        desk, board = phone._desk, phone._board
        assert desk is not None
        assert board is not None
        await phone._take(desk, board, received)
        self.times.append(time.perf_counter() - started)
        await asyncio.sleep(0)
        assert not self.complaints.found, self.complaints.found[0]
        errors = self.bob.errors[before:]
        assert len(errors) <= 1
        return errors[0] if errors else None

    async def tell(self, kind: int, body: bytes) -> RelaycallError | None:
        """A message of Mallory's, sealed as it should be."""
        return await self.take(await self.world.mallory.sealed(self.bob.card.identity, kind, body))

    async def rung(self, secret: bytes) -> Call:
        """A call of Mallory's that rings at Bob's."""
        offer = self.offer(secret)
        error = await self.tell(16, offer_body(self.world.mallory.card.encode(), offer))
        assert error is None, error
        return next(call for call in self.bob.calls if not call.caller)

    def offer(self, secret: bytes) -> bytes:
        """An offer of Mallory's with a good record."""
        mallory = self.world.mallory.own.identity
        return CallerHandshake(mallory, self.bob.card.identity, self.record, secret=secret, nonce=bytes(32)).offer

    async def hung_up(self) -> None:
        """End all calls."""
        await asyncio.gather(*(call.hang_up() for call in self.bob.calls))
        self.world.path.sent.clear()
        self.bob.errors.clear()
        self.bob.rings.clear()

    def taken(self) -> int:
        """How many pools of relays were asked for."""
        return self.bob.phone._warm._taken + sum(relay.counters.allocations for relay in self.world.relays)


@contextmanager
def target(**options: Any) -> Iterator[Target]:
    """For tests that are no coroutines, since hypothesis calls them."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        world_of = mallorys_world()
        world = runner.run(world_of.__aenter__())
        stack.callback(lambda: runner.run(world_of.__aexit__(None, None, None)))
        alice, bob = runner.run(world.two(**options))
        runner.run(world.befriends_mallory(bob))
        made = Target(runner, world, bob, alice)
        logging.getLogger("relaycall").addHandler(made.complaints)
        stack.callback(lambda: logging.getLogger("relaycall").removeHandler(made.complaints))
        yield made
