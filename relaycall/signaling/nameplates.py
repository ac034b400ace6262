"""The nameplates of a server, without I/O: short numbers that lead to mailboxes, each for one use.

How it works. Who makes a one-time code has a nameplate allocated for the mailbox, and tells the other side its number
with a few words. Who claims the number is told the mailbox, and with that the nameplate is gone: whoever claims it
next, or guesses it, gets nothing. It also ends after ten minutes, and when its mailbox releases it. The words never
come here.

A mailbox has one nameplate at a time: asked again, it is given the same, for what is left of its time. A claim whose
answer was lost on the way is repeated, and answered again, for half a minute. For so long the number is given to
nobody else: the repeated claim would use up theirs.

Numbers are as short as can be: one of a single digit at random while there is any, then of two digits, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMEPLATE_LIFETIME = 600.0  # seconds
NAMEPLATE_DIGITS = 4  # of the longest
CLAIM_LIFETIME = 30.0  # seconds for which a claim may be repeated; a client gives up after 10


@dataclass(slots=True)
class _Nameplate:
    mailbox: bytes
    expires_at: float
    claim: bytes | None = None  # which one took it


class Nameplates:
    """All nameplates of one server.

    Args:
        digits: of the longest number. There are as many nameplates as such numbers.
    """

    def __init__(self, *, digits: int = NAMEPLATE_DIGITS) -> None:
        self._digits = digits
        self._nameplates: dict[int, _Nameplate] = {}
        self._of: dict[bytes, int] = {}  # each mailbox's, while nobody has claimed it

    def __len__(self) -> int:
        return len(self._nameplates)

    def __repr__(self) -> str:
        return f"<{len(self)} nameplates>"

    def allocate(self, mailbox: bytes, random: float, now: float) -> int | None:
        """The mailbox's nameplate, a new one if it has none. None if all are in use.

        Args:
            mailbox: 32 bytes.
            random: at least 0 and less than 1; which of the shortest free numbers it is.
            now: seconds.
        """
        self._forget_old(now)
        if mailbox in self._of:
            return self._of[mailbox]
        for digits in range(self._digits):
            numbers = range(10**digits, 10 ** (digits + 1))
            free = [number for number in numbers if number not in self._nameplates]
            if free:
                number = self._of[mailbox] = free[int(random * len(free))]
                self._nameplates[number] = _Nameplate(mailbox, now + NAMEPLATE_LIFETIME)
                return number
        return None

    def claim(self, number: int, claim: bytes, now: float) -> bytes | None:
        """Take a nameplate away. Returns its mailbox, or None if there is no such nameplate.

        Args:
            number: the nameplate's.
            claim: what tells this claim from all others, and is the same when it is repeated.
            now: seconds.
        """
        self._forget_old(now)
        nameplate = self._nameplates.get(number)
        if nameplate is None:
            return None
        if nameplate.claim is None:
            nameplate.claim = claim
            nameplate.expires_at = now + CLAIM_LIFETIME
            del self._of[nameplate.mailbox]
        return nameplate.mailbox if nameplate.claim == claim else None

    def release(self, mailbox: bytes, now: float) -> None:
        """Take the mailbox's nameplate away, if it has one that nobody has claimed."""
        self._forget_old(now)
        number = self._of.pop(mailbox, None)
        if number is not None:
            del self._nameplates[number]

    def _forget_old(self, now: float) -> None:
        for number in [number for number, one in self._nameplates.items() if now >= one.expires_at]:
            nameplate = self._nameplates.pop(number)
            if nameplate.claim is None:
                del self._of[nameplate.mailbox]
