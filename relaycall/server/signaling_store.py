"""Where a signaling server keeps its mailboxes and nameplates: an interface, and the store in this process's memory.

A store may be shared by several servers, which then are one to their clients: a client may come back to any of them.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from typing import Protocol

from relaycall.signaling.frames import EPOCH_SIZE, Verdict
from relaycall.signaling.mailboxes import Mailboxes, Reader, Waiting
from relaycall.signaling.nameplates import Nameplates


class Store(Protocol):
    """Mailboxes and nameplates. Any method may raise OSError.

    The rules are those of `relaycall.signaling.mailboxes` and `relaycall.signaling.nameplates`.
    """

    async def open(self) -> None:
        """Before anything else."""

    async def close(self) -> None:
        """After everything else."""

    async def secret(self) -> bytes:
        """What servers of this store sign their challenges and tokens with, 32 bytes."""

    async def epoch(self) -> bytes:
        """16 bytes that are others once the store has forgotten what it held."""

    async def put(self, mailbox: bytes, envelope: bytes) -> Verdict:
        """Take an envelope for a mailbox, if there is room."""

    async def own(self, mailbox: bytes, session: bytes) -> bool:
        """This session has proved the mailbox's key, and owns it from now on; False if it was replaced before."""

    async def owns(self, mailbox: bytes, session: bytes) -> bool:
        """Whether no other session has proved the key since."""

    async def attach(self, mailbox: bytes, session: bytes, reader: Reader) -> bool:
        """Tell this reader from now on. False if another session owns the mailbox."""

    async def detach(self, mailbox: bytes, reader: Reader) -> None:
        """The reader is gone."""

    async def after(self, mailbox: bytes, session: bytes, cursor: bytes) -> Waiting | None:
        """The oldest envelope that came after the cursor, if the session owns the mailbox."""

    async def acknowledge(self, mailbox: bytes, session: bytes, key: bytes) -> None:
        """Forget an envelope, if the session owns the mailbox."""

    async def allocate_nameplate(self, mailbox: bytes) -> int | None:
        """The mailbox's nameplate, a new one if it has none. None if all are in use."""

    async def claim_nameplate(self, nameplate: int, claim: bytes) -> bytes | None:
        """Take a nameplate away. Returns its mailbox, or None if there is no such nameplate.

        Args:
            nameplate: the number.
            claim: what tells this claim from all others, and is the same when it is repeated; up to 32 bytes.
        """

    async def release_nameplate(self, mailbox: bytes) -> None:
        """Take the mailbox's nameplate away, if nobody has claimed it."""


class MemoryStore:
    """In this process's memory: nothing is written anywhere, and all of it is gone with the process.

    Args:
        mailboxes, nameplates: with their limits; by default the default ones.
        clock: gives seconds that nobody sets.
    """

    def __init__(
        self,
        mailboxes: Mailboxes | None = None,
        clock: Callable[[], float] = time.monotonic,
        nameplates: Nameplates | None = None,
    ) -> None:
        self.mailboxes = Mailboxes() if mailboxes is None else mailboxes
        self.nameplates = Nameplates() if nameplates is None else nameplates
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._epoch = secrets.token_bytes(EPOCH_SIZE)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def secret(self) -> bytes:
        return self._secret

    async def epoch(self) -> bytes:
        return self._epoch

    async def put(self, mailbox: bytes, envelope: bytes) -> Verdict:
        return self.mailboxes.put(mailbox, envelope, self._clock())

    async def own(self, mailbox: bytes, session: bytes) -> bool:
        return self.mailboxes.own(mailbox, session, self._clock())

    async def owns(self, mailbox: bytes, session: bytes) -> bool:
        return self.mailboxes.owns(mailbox, session, self._clock())

    async def attach(self, mailbox: bytes, session: bytes, reader: Reader) -> bool:
        return self.mailboxes.attach(mailbox, session, reader, self._clock())

    async def detach(self, mailbox: bytes, reader: Reader) -> None:
        self.mailboxes.detach(mailbox, reader, self._clock())

    async def after(self, mailbox: bytes, session: bytes, cursor: bytes) -> Waiting | None:
        return self.mailboxes.after(mailbox, session, cursor, self._clock())

    async def acknowledge(self, mailbox: bytes, session: bytes, key: bytes) -> None:
        self.mailboxes.acknowledge(mailbox, session, key, self._clock())

    async def allocate_nameplate(self, mailbox: bytes) -> int | None:
        return self.nameplates.allocate(mailbox, random.random(), self._clock())

    async def claim_nameplate(self, nameplate: int, claim: bytes) -> bytes | None:
        return self.nameplates.claim(nameplate, claim, self._clock())

    async def release_nameplate(self, mailbox: bytes) -> None:
        self.nameplates.release(mailbox, self._clock())
