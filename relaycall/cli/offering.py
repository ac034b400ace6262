"""`relaycall answer --code`: a one-time code that may be used while calls are taken."""

from __future__ import annotations

import asyncio
from types import TracebackType

from relaycall.call.phone import Phone
from relaycall.cli.adding import add_by_code
from relaycall.cli.keys import show_qr
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen
from relaycall.errors import RelaycallError
from relaycall.identity.code_exchange import CODE_LIFETIME, Offer, offer_code
from relaycall.signaling.base import Signaling


class Offering:
    """Makes a code and adds whoever uses it to the contacts of a phone: they may ring at once.

    An asynchronous context manager: on entering the code is there and shown, and on leaving it leads nowhere.

    Args:
        phone: open.
        signaling: not open yet, to the server of the phone.
        screen: where it is told.
        qr: show the code as a QR code, too.

    Raises:
        ConfigError: this way of signaling has no codes.
        SignalingError: the server cannot be used, by type.
    """

    def __init__(self, phone: Phone, signaling: Signaling, screen: Screen, *, qr: bool) -> None:
        self._phone = phone
        self._screen = screen
        self._qr = qr
        self._offering = offer_code(signaling, phone.card.encode())

    async def __aenter__(self) -> Offering:
        offer = await self._offering.__aenter__()
        code = offer.code.reveal()
        self._screen.say(
            "code",
            f"Your one-time code: {code}\n"
            "Tell it to them, and to nobody else. It can be tried once, within ten minutes.",
            code=code,
            seconds=int(CODE_LIFETIME),
        )
        if self._qr:
            show_qr(code)
        self._task = asyncio.create_task(self._wait(offer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._offering.__aexit__(None, None, None)

    async def _wait(self, offer: Offer) -> None:
        """Until it is used, or has ended. Calls go on in any case."""
        try:
            await add_by_code(self._phone, await offer.peer_payload(), self._screen)
        except RelaycallError as error:
            text = f"The one-time code has ended: {error.sentence} {error.next_step}"
            self._screen.say(
                "code_ended", shown(text)[1:-1], code=error.code, sentence=error.sentence, next_step=error.next_step
            )
