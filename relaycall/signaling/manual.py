"""Signaling without a server: people carry each envelope, as a line of text.

    async def show(text: ManualText) -> None:
        print(text.text)

    async with ManualTransport("manual:") as signaling:
        signaling.on_text = show
        await signaling.send(their_mailbox, envelope)  # is shown here, pasted there
        await signaling.accept(input())

A text holds for ten minutes. `carried` says which of those that are pasted are taken, and what else stands on them.
What was taken waits in this process until it is acknowledged; of two transports for one mailbox, the later one has it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from weakref import WeakValueDictionary

from relaycall.errors import (
    ConfigError,
    MailboxRefused,
    MailboxReplaced,
    SignalingClosed,
    SignalingError,
    SignalingTimeout,
    TextIsOurs,
    TextRefused,
)
from relaycall.signaling.armor import dearmor_all
from relaycall.signaling.base import SEND_TIMEOUT, Received, SignalingState, check_envelope
from relaycall.signaling.carried import TEXT_LIFETIME, URL, Desk, ManualText, Slip, decode_slip
from relaycall.signaling.client import Client
from relaycall.signaling.frames import NONCE_SIZE, START, Deliver
from relaycall.signaling.keys import MailboxKey, claim_message, is_proof

_desks: WeakValueDictionary[bytes, Desk] = WeakValueDictionary()  # by mailbox


class Accepted(NamedTuple):
    """What came of a paste.

    Attributes:
        taken: how many envelopes were new.
        known: how many had been pasted before.
        refused: why others were not taken, such as our own below theirs in an e-mail.
    """

    taken: int
    known: int
    refused: tuple[TextRefused, ...]


class ManualTransport(Client):
    """A mailbox whose envelopes are carried by people.

    Args:
        url: `manual:`.
        key: whose mailbox; by default a fresh one, which the other side has to be told.
        lifetime: how old a text may be when it is pasted, in seconds; two more minutes are allowed for the clocks.
        clock: unix time in seconds.

    Attributes:
        on_text: shows or writes a text that is to be carried; an envelope is sent when it returns. Called for one text
            at a time. If it raises a SignalingError, the envelope is not sent, and `send` raises that.

    Raises:
        ConfigError: the URL is another.
    """

    on_text: Callable[[ManualText], Awaitable[None]] | None = None

    def __init__(
        self,
        url: str,
        *,
        key: MailboxKey | None = None,
        lifetime: float = TEXT_LIFETIME,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if url != URL:
            raise ConfigError("The URL of signaling by hand is not one.", "Write manual: and nothing after it.")
        super().__init__(URL, key)
        self._lifetime = lifetime
        self._clock = clock
        self._cursor = START
        self._desk = _desks.setdefault(self._mailbox, Desk(self._mailbox))
        self._handing_over = asyncio.Lock()

    async def open(self) -> None:
        if self._state is SignalingState.OPEN:
            return
        if self._state is SignalingState.CLOSED:
            raise SignalingClosed(self._server)
        message = claim_message(self._server, secrets.token_bytes(NONCE_SIZE), self._number)
        if not is_proof(self._key.public, self._key.sign(message), message):
            raise MailboxRefused(self._server)
        self._desk.waiting.own(self._mailbox, self._number, _now())
        self._desk.waiting.attach(self._mailbox, self._number, self, _now())
        self._to(SignalingState.OPEN)
        self.news()

    def news(self) -> None:
        """The desk tells: something was pasted."""
        while waiting := self._desk.waiting.after(self._mailbox, self._number, self._cursor, _now()):
            self._cursor = waiting.cursor
            self._take(Deliver(*waiting))

    def replaced(self) -> None:
        """The desk tells: another transport of this process has the mailbox now."""
        self._failure = MailboxReplaced(self._server)
        self._to(SignalingState.CLOSED)

    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = SEND_TIMEOUT) -> None:
        """Make a text of an envelope; returns when `on_text` has it.

        Args:
            mailbox: the receiver's, 32 bytes.
            envelope: 4096 bytes. The zeros at its end are not carried, and so cost nothing.
            timeout: seconds for `on_text`.

        Raises:
            EnvelopeRefused: another size.
            SignalingTimeout: `on_text` takes longer.
            SignalingError: there is no `on_text`, it failed, or it raised that.
            SignalingClosed: not opened yet, or closed.
        """
        check_envelope(mailbox, envelope)
        self._check_open()
        try:
            async with asyncio.timeout(timeout), self._handing_over:
                self._check_open()
                await self._hand_over(self._desk.write(mailbox, envelope, self._clock()))
                self._desk.handed_over(mailbox)
        except TimeoutError:
            raise SignalingTimeout(self._server) from None

    async def accept(self, text: str) -> Accepted:
        """Take what the other side sent, as it was pasted: any text with one of ours in it, or several.

        Raises:
            TextRefused: none is new. By type: it is truncated, altered, of another kind, of another version, stale,
                for somebody else, our own, or not the next one of its sender.
            MailboxFull: what was pasted before has not been acknowledged.
            SignalingClosed: not opened yet, or closed.
        """
        self._check_open()
        slips, refused = _read(text)
        taken = known = 0
        for slip in sorted(slips, key=lambda slip: slip.created):
            try:
                if self._desk.take(slip, self._clock(), _now(), self._lifetime):
                    taken += 1
                else:
                    known += 1
            except TextRefused as error:
                refused.append(error)
        faults = [error for error in refused if not isinstance(error, TextIsOurs)]
        if taken or (known and not faults):
            return Accepted(taken, known, tuple(refused))
        raise (faults or refused or [TextRefused()])[0]

    async def acknowledge(self, received: Received) -> None:
        self._check_open()
        self._session.acknowledged(received.id)
        self._desk.waiting.acknowledge(self._mailbox, self._number, received.id, _now())

    async def close(self) -> None:
        self._desk.waiting.detach(self._mailbox, self, _now())
        self._to(SignalingState.CLOSED)

    async def _hand_over(self, text: ManualText) -> None:
        if self.on_text is None:
            raise SignalingError("Nobody is there to carry the text.", "Set on_text before sending.")
        try:
            await self.on_text(text)
        except SignalingError:
            raise
        except Exception as error:
            raise SignalingError(
                f"The text was not handed over, since showing it failed ({type(error).__name__}).",
                "Show it in another way, and try again.",
            ) from None


def _read(text: str) -> tuple[list[Slip], list[TextRefused]]:
    """The texts of ours in what was pasted, and those that cannot be read."""
    slips: list[Slip] = []
    refused: list[TextRefused] = []
    for found in dearmor_all("envelope", text):
        if isinstance(found, TextRefused):
            refused.append(found)
            continue
        try:
            slips.append(decode_slip(found))
        except TextRefused as error:
            refused.append(error)
    return slips, refused


def _now() -> float:
    return asyncio.get_running_loop().time()
