"""Pairing by a one-time code over a signaling server.

    async with offer_code(open_signaling(url), payload) as offer:         # the one who makes the code
        show(offer.code.reveal())
        theirs = await offer.peer_payload()

    theirs = await use_code(open_signaling(url), parse_code(typed), payload)      # the one who uses it

Both take a transport that is not open yet and has a fresh mailbox, and close it. A code ends after ten minutes, when it
was tried, and when its maker gives up; the nameplate is released then.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from relaycall.errors import ConfigError, MessageTooLarge, PairingFailed, PairingTimeout, SignalingError
from relaycall.identity.one_time_code import OneTimeCode
from relaycall.identity.pairing import MAX_PAYLOAD, MakerPairing, Pairing, PairingState, UserPairing
from relaycall.signaling.base import SEND_TIMEOUT, Signaling
from relaycall.signaling.rendezvous import Rendezvous

CODE_LIFETIME = 600.0  # seconds from making a code to its use
ANSWER_TIMEOUT = 30.0  # seconds for all of the exchange, once the other side is there
_FAREWELL_TIMEOUT = 2.0  # seconds to release the nameplate, or to tell the other side that it failed


class Offer:
    """A code that waits for its use. Made by `offer_code`.

    Attributes:
        code: to be told to the other side, and to nobody else.
    """

    def __init__(self, signaling: Rendezvous, code: OneTimeCode, payload: bytes, lifetime: float) -> None:
        self.code = code
        self._signaling = signaling
        self._pairing = MakerPairing(code, payload, signaling.mailbox, entropy=secrets.token_bytes)
        self._ends_at = asyncio.get_running_loop().time() + lifetime

    def __repr__(self) -> str:
        return f"<offer of {self.code!r}>"

    @property
    def used(self) -> bool:
        """Whether somebody has tried the code."""
        return self._pairing.state is not PairingState.ELEMENT

    async def peer_payload(self) -> bytes:
        """What the other side gives in exchange; waits for it until the code ends. To be called once.

        Raises:
            PairingFailed: the code was tried with wrong words, or by somebody who does not do as he should.
            PairingTimeout: nobody used it, or who did went away.
            SignalingError: the way to the server is lost, by type.
        """
        return await _exchange(self._signaling, self._pairing, self._ends_at)


@asynccontextmanager
async def offer_code(
    signaling: Signaling, payload: bytes, *, words: Literal[2, 3] = 2, lifetime: float = CODE_LIFETIME
) -> AsyncIterator[Offer]:
    """Make a code for somebody.

    Args:
        signaling: not open yet, with a fresh mailbox. It is closed at the end.
        payload: what they get in exchange for theirs, at most 2500 bytes.
        words: 2 or 3, so 65,536 codes or 16,777,216. Who guesses has one try, a server in between one with each side.
        lifetime: seconds; the server forgets a code after 600.

    Raises:
        ConfigError: this way of signaling has no codes.
        MessageTooLarge: the payload is larger.
        SignalingError: the server cannot be used, by type.
    """
    rendezvous = _with_codes(signaling, payload)
    async with rendezvous:
        offer = None
        try:
            nameplate = await rendezvous.allocate_nameplate()
            offer = Offer(rendezvous, OneTimeCode(nameplate, secrets.token_bytes(words)), payload, lifetime)
            yield offer
        finally:
            if offer is None or not offer.used:
                with contextlib.suppress(SignalingError):
                    await rendezvous.release_nameplate(timeout=_FAREWELL_TIMEOUT)


async def use_code(signaling: Signaling, code: OneTimeCode, payload: bytes) -> bytes:
    """Use a code that somebody has made. It is used up, whatever comes of it.

    Args:
        signaling: not open yet, with a fresh mailbox. It is closed at the end.
        payload: what they get in exchange for theirs, at most 2500 bytes.

    Returns:
        What they give.

    Raises:
        NameplateUnknown: the number leads nowhere: it was used, or has ended, or was mistyped.
        PairingFailed: the words are not those of the other side, or it does not do as it should.
        PairingTimeout: the other side went away.
        ConfigError, MessageTooLarge, SignalingError: as `offer_code`.
    """
    rendezvous = _with_codes(signaling, payload)
    async with rendezvous:
        peer = await rendezvous.claim_nameplate(code.nameplate)
        pairing = UserPairing(code, payload, rendezvous.mailbox, peer, entropy=secrets.token_bytes)
        now = asyncio.get_running_loop().time()
        return await _exchange(rendezvous, pairing, now + ANSWER_TIMEOUT)


async def _exchange(signaling: Rendezvous, pairing: Pairing, until: float) -> bytes:
    """Run one side. `until` is when it ends, by the loop's clock, or earlier once the other side is there."""
    envelopes = signaling.receive()
    while True:
        await _send_all(signaling, pairing)
        if pairing.state is PairingState.DONE:
            return pairing.peer_payload
        received = None
        with contextlib.suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout_at(until):
                received = await anext(envelopes)
        if received is None:
            raise PairingTimeout
        try:
            pairing.receive(received.envelope)
        except PairingFailed:
            with contextlib.suppress(SignalingError):
                await _send_all(signaling, pairing, timeout=_FAREWELL_TIMEOUT)
            raise
        await signaling.acknowledge(received)
        until = min(until, asyncio.get_running_loop().time() + ANSWER_TIMEOUT)


async def _send_all(signaling: Rendezvous, pairing: Pairing, *, timeout: float = SEND_TIMEOUT) -> None:
    while pairing.outgoing and pairing.peer_mailbox is not None:
        await signaling.send(pairing.peer_mailbox, pairing.outgoing[0], timeout=timeout)
        del pairing.outgoing[0]


def _with_codes(signaling: Signaling, payload: bytes) -> Rendezvous:
    if not isinstance(signaling, Rendezvous):
        raise ConfigError("This way of signaling has no one-time codes.", "Use a server: wss://host or https://host.")
    if len(payload) > MAX_PAYLOAD:
        raise MessageTooLarge
    return signaling
