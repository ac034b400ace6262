"""`relaycall answer`: wait for calls, and take them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import click

from relaycall.call.phone import Phone
from relaycall.call.ring import Ring
from relaycall.cli.asking import check_terminal, open_for_keys
from relaycall.cli.calling import News, Options, calling_options
from relaycall.cli.carrying import Carrier
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.keys import show_qr
from relaycall.cli.offering import Offering
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen, screen_for
from relaycall.cli.stopping import Stop
from relaycall.cli.talk import Talk
from relaycall.errors import RelaycallError
from relaycall.identity.card import card_to_text
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.keys import PublicIdentity


@click.command()
@calling_options
@click.option("--auto-accept", "auto", multiple=True, metavar="CONTACT", help="Take their calls without asking.")
@click.option(
    "--strangers",
    type=click.Choice([str(one) for one in Strangers]),
    default=str(Strangers.CODE),
    show_default=True,
    help="Who is no contact: not answered, told that a code is needed first, or let ring.",
)
@click.option(
    "--unverified",
    type=click.Choice([str(one) for one in Unverified]),
    default=str(Unverified.RING),
    show_default=True,
    help="A contact that is not verified: let ring, or refused.",
)
@click.option("--once", is_flag=True, help="End after the first call that was taken.")
@click.option("--code", is_flag=True, help="Make a one-time code. Whoever uses it becomes a contact, and may ring.")
def answer(auto: tuple[str, ...], strangers: str, unverified: str, once: bool, **given: Any) -> int:
    """Wait for calls until q or Ctrl-C, and ask for each whether to take it.

    During a call the keys are those of `relaycall call`. Without a terminal, calls of those given by --auto-accept are
    taken and all others declined. With --once the exit code is that of the call, as `relaycall call` gives it.
    """
    options = Options(**given)
    screen = screen_for(options.as_json)
    try:
        options.check()
        if not auto:
            check_terminal("--auto-accept")
        policy = Strangers(strangers), Unverified(unverified)
        return asyncio.run(_answer(options, screen, auto, policy, once))
    except RelaycallError as error:
        screen.failed(error)
        return error.exit_code


async def _answer(
    options: Options, screen: Screen, auto: tuple[str, ...], policy: tuple[Strangers, Unverified], once: bool
) -> int:
    store = await open_for_keys()
    strangers, unverified = policy
    phone = await options.phone(store, time.time(), prewarm=True, strangers=strangers, unverified=unverified)
    with contextlib.ExitStack() as stack:
        stack.enter_context(screen)
        stack.enter_context(options.quiet())
        async with phone, contextlib.AsyncExitStack() as offered:
            News(phone, screen, asyncio.get_running_loop().time)
            keyboard = stack.enter_context(Keyboard())
            stop = stack.enter_context(Stop())
            stop.last.append(keyboard.restore)
            _show_us(phone, options, screen)
            if options.code:
                offering = Offering(
                    phone, options.signaling_for_code(phone), screen, qr=options.qr and not options.as_json
                )
                await offered.enter_async_context(offering)
            carrier = None
            if options.manual:
                carrier = stack.enter_context(options.carrier(phone, screen, keyboard, answered=False))
            trusted = {phone.contacts.get(name).identity for name in auto}
            desk = _Answering(phone, options, screen, keyboard, stop, carrier, trusted, once)
            code = await desk.run()
        return stop.code if stop.told.is_set() else code


def _show_us(phone: Phone, options: Options, screen: Screen) -> None:
    card = phone.card
    text = card_to_text(card)
    screen.say(
        "waiting",
        f"You are {card.name}.\nFingerprint: {card.identity.fingerprint}\nWaiting for calls; q or Ctrl-C ends it.",
        name=card.name,
        fingerprint=card.identity.fingerprint,
        card=text,
    )
    if options.qr and not options.as_json and not options.code:
        show_qr(text)


class _Answering:
    """Takes one call after the other."""

    def __init__(
        self,
        phone: Phone,
        options: Options,
        screen: Screen,
        keyboard: Keyboard,
        stop: Stop,
        carrier: Carrier | None,
        trusted: set[PublicIdentity],
        once: bool,
    ) -> None:
        self._phone = phone
        self._options = options
        self._screen = screen
        self._keyboard = keyboard
        self._stop = stop
        self._carrier = carrier
        self._trusted = trusted
        self._once = once
        self._calls = 0

    async def run(self) -> int:
        """Until our user or somebody else ends it. Returns the exit code."""
        self._keyboard.on_key = lambda key: self._stop.tell(0) if key == "q" else None
        rings = self._phone.incoming()
        coming = asyncio.create_task(_next(rings))
        ends = asyncio.create_task(self._stop.told.wait())
        try:
            while True:
                self._listen()
                await asyncio.wait([coming, ends], return_when=asyncio.FIRST_COMPLETED)
                if ends.done():
                    return 0
                ring = coming.result()
                if ring is None:
                    return 0
                coming = asyncio.create_task(_next(rings))
                if await self._takes(ring):
                    code, coming = await self._talk(ring, coming, rings)
                    if self._once or self._stop.told.is_set():
                        return code
                    self._screen.ask("Waiting for calls; q or Ctrl-C ends it.")
        finally:
            coming.cancel()
            ends.cancel()
            await asyncio.wait([coming, ends])

    def _listen(self) -> None:
        if self._carrier is not None:
            self._carrier.listen()

    # --- whether ------------------------------------------------------------------------------------------------------

    async def _takes(self, ring: Ring) -> bool:
        """Whether to take it; where not, that is said to them."""
        self._show(ring)
        if self._carrier is not None:
            self._carrier.rest()
        if ring.party.identity in self._trusted:
            return True
        takes = await self._asked(ring) if self._keyboard.there else False
        if takes is None:
            self._screen.say("ring_over", "It does not ring any more.")
            return False
        if not takes:
            await ring.decline()
            self._screen.say("declined", "Declined.")
        return takes

    def _show(self, ring: Ring) -> None:
        party = ring.party
        contact, fingerprint = party.contact, party.identity.fingerprint
        if contact is None:
            text = f"A stranger calls. Fingerprint: {fingerprint}\nThey say that they are {shown(party.name)}"
        else:
            known = "verified" if contact.verified else "not verified"
            text = f"{shown(contact.name)} calls, a contact of yours, {known}. Fingerprint: {fingerprint}"
        self._screen.say(
            "ring",
            text,
            name=party.name,
            contact=contact is not None,
            verified=contact is not None and contact.verified,
            fingerprint=fingerprint,
        )

    async def _asked(self, ring: Ring) -> bool | None:
        """What our user says; None if it has stopped ringing meanwhile. Being told to end is a no."""
        said: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def key(pressed: str) -> None:
            if pressed in "yn" and not said.done():
                said.set_result(pressed == "y")

        before, self._keyboard.on_key = self._keyboard.on_key, key
        waited: list[asyncio.Future[Any]] = [said, asyncio.ensure_future(ring.ended())]
        waited.append(asyncio.ensure_future(self._stop.told.wait()))
        self._screen.ask("Take it? y or n")
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._keyboard.on_key = before
            for one in waited[1:]:
                one.cancel()
        if not ring.rings:
            return None
        return said.done() and said.result()

    # --- and then -----------------------------------------------------------------------------------------------------

    async def _talk(
        self, ring: Ring, coming: asyncio.Task[Ring | None], rings: AsyncIterator[Ring]
    ) -> tuple[int, asyncio.Task[Ring | None]]:
        """Talk until it is over. If the same person calls meanwhile, they have lost it, and the new call goes on."""
        talking = asyncio.ensure_future(self._take(ring))
        while True:
            await asyncio.wait([talking, coming], return_when=asyncio.FIRST_COMPLETED)
            again = coming.result() if coming.done() and coming.exception() is None else None
            if talking.done() or again is None:
                return await talking, coming
            coming = asyncio.create_task(_next(rings))
            if again.party.identity == ring.party.identity:
                self._screen.say("again", "They call again, since they have lost the call.")
                before, talking = talking, asyncio.ensure_future(self._take(again))
                await before

    async def _take(self, ring: Ring) -> int:
        self._calls += 1
        options, number, failed = self._options, self._calls, self._screen.failed
        video = options.video_of(number, failed)  # it could be opened when we began, as could the sound
        sound = options.sound(number, video, failed)
        call = ring.accept(audio=sound.source, sink=sound.sink, video=video.first, video_sink=video.picture_sink)
        talk = Talk(
            call,
            self._screen,
            self._keyboard,
            self._stop,
            sound=sound,
            video=video,
            seconds=options.seconds,
            page=options.page(number),
        )
        return await talk.run()


async def _next(rings: AsyncIterator[Ring]) -> Ring | None:
    """The next ring; None when the phone is closed."""
    return await anext(rings, None)
