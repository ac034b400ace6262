"""Finding each other by a short number: what a transport with nameplates has beside its mailbox.

    number = await ours.allocate_nameplate()           # we tell the other side the number, and words that stay with us
    mailbox = await theirs.claim_nameplate(number)     # the other side learns our mailbox, and writes to us

A nameplate is for one use: who claims it takes it away, also who guesses it. So a wrong guess costs a new code, and a
right one tells no more than a mailbox; that both know the same words is for the two sides to find out. Both take a
fresh mailbox for it, so that a guess tells nobody where they are reached otherwise.
"""

from __future__ import annotations

from abc import abstractmethod

from relaycall.errors import NameplateUnknown, SignalingBusy, SignalingRateLimited
from relaycall.signaling.base import Signaling
from relaycall.signaling.frames import MAX_NAMEPLATE, NameplateOutcome

NAMEPLATE_TIMEOUT = 10.0  # seconds


class Rendezvous(Signaling):
    """A transport with nameplates."""

    @abstractmethod
    async def allocate_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> int:
        """A number that leads to our mailbox, for one use and ten minutes. A reconnect meanwhile is waited for.

        A mailbox has one at a time: asked again, it is the same, for what is left of the ten minutes. A server that
        dies forgets it.

        Args:
            timeout: seconds.

        Raises:
            SignalingRateLimited: too much was asked for in a short time.
            SignalingBusy: the server has none left.
            SignalingTimeout: no answer in time; asking again gives what was allocated all the same.
            SignalingClosed: not opened yet, or closed.
        """

    @abstractmethod
    async def claim_nameplate(self, nameplate: int, *, timeout: float = NAMEPLATE_TIMEOUT) -> bytes:
        """The id of the mailbox that the number leads to, 32 bytes; the nameplate is gone with that.

        Args:
            nameplate: the number.
            timeout: seconds.

        Raises:
            NameplateUnknown: it was used, has expired, or was never given out: a new code is needed.
            SignalingRateLimited: too much was asked for in a short time.
            SignalingBusy: the server is full.
            SignalingTimeout: no answer in time; the nameplate may be gone all the same.
            SignalingClosed: not opened yet, or closed.
        """

    @abstractmethod
    async def release_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> None:
        """Take our nameplate away, if we have one that nobody has claimed. Twice does no harm.

        Args:
            timeout: seconds.

        Raises:
            SignalingRateLimited: too much was asked for in a short time.
            SignalingTimeout: no answer in time; it may be gone all the same.
            SignalingClosed: not opened yet, or closed.
        """


def check_nameplate(server: str, nameplate: int) -> None:
    """Raises NameplateUnknown if no server gives such a number out."""
    if not 1 <= nameplate <= MAX_NAMEPLATE:
        raise NameplateUnknown(server)


def check_outcome(server: str, outcome: NameplateOutcome, retry_after: float) -> None:
    """Raises the error that an outcome stands for; `retry_after` in seconds."""
    if outcome is NameplateOutcome.UNKNOWN:
        raise NameplateUnknown(server)
    if outcome is NameplateOutcome.RATE_LIMITED:
        raise SignalingRateLimited(server, retry_after=retry_after)
    if outcome is NameplateOutcome.BUSY:
        raise SignalingBusy(server)
