"""`relaycall call`: call a contact, whoever has a card, or whoever has made a one-time code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import click

from relaycall.call.phone import Phone
from relaycall.cli.adding import add_by_code
from relaycall.cli.asking import open_for_keys
from relaycall.cli.calling import News, Options, calling_options
from relaycall.cli.card_text import MARK, read_card
from relaycall.cli.codes import typed_code
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.screen import Screen, screen_for
from relaycall.cli.stopping import Stop
from relaycall.cli.talk import Talk
from relaycall.errors import ConfigError, ContactUnknown, RelaycallError
from relaycall.identity.card import Card
from relaycall.identity.code_exchange import use_code
from relaycall.identity.contacts import ContactBook
from relaycall.identity.one_time_code import OneTimeCode

SETTLE = 1.0  # seconds after a code was used: the other side has to write down who we are before we ring there


@click.command("call")
@click.argument("who", nargs=-1, metavar="[CONTACT|CARD]")
@click.option("--code", is_flag=True, help="Ask for a one-time code, add who has made it, and call them.")
@calling_options
def call_command(who: tuple[str, ...], **given: Any) -> int:
    """Call CONTACT, over relays only, or whoever has CARD.

    CARD is the text of their card, a file with it, or - for standard input. What is the name of a contact is taken for
    that. With --code neither is given: the code is asked for at the terminal, or read from standard input, and never
    an argument.

    While it runs, q or Ctrl-C hangs up, m mutes, v pauses the video, and w shows the words to compare by voice. A
    second Ctrl-C ends it at once. The exit code is 0 when it was hung up, 7 if they decline, are busy or do not answer,
    130 after Ctrl-C, and that of the error otherwise.
    """
    options = Options(**given)
    screen = screen_for(options.as_json)
    try:
        name = " ".join(who)  # a text that a chat has wrapped, perhaps
        if options.code and name:
            raise ConfigError(  # what it was is not repeated: it may be the code
                "A one-time code is never an argument, and nobody else is called with it.",
                "Give --code alone, and type the code when it is asked for.",
            )
        if not options.code and not name:
            raise ConfigError("Nobody is given to be called.", "Give a CONTACT, a CARD, or --code.")
        options.check()
        return asyncio.run(_call(typed_code() if options.code else name, options, screen))
    except RelaycallError as error:
        screen.failed(error)
        return error.exit_code


async def _call(who: OneTimeCode | str, options: Options, screen: Screen) -> int:
    store = await open_for_keys()
    phone = await options.phone(store, time.time(), prewarm=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(screen)
        stack.enter_context(options.quiet())
        video = options.video_of(1)
        stack.push_async_callback(video.close)
        sound = stack.enter_context(options.sound(1, video))
        book = ContactBook(store)
        await book.load()
        party = _party(who, book) if isinstance(who, str) else None
        async with phone:
            News(phone, screen, asyncio.get_running_loop().time)
            if isinstance(who, OneTimeCode):
                party = await _use(who, phone, options, screen)
            assert party is not None, "it is one or the other"
            keyboard = stack.enter_context(Keyboard())
            stop = stack.enter_context(Stop())
            stop.last.append(keyboard.restore)
            if options.manual:
                stack.enter_context(options.carrier(phone, screen, keyboard, answered=True))
            call = await phone.call(
                party, audio=sound.source, sink=sound.sink, video=video.first, video_sink=video.picture_sink
            )
            page = options.page(1)
            talk = Talk(call, screen, keyboard, stop, sound=sound, video=video, seconds=options.seconds, page=page)
            code = await talk.run()
        return stop.code if stop.told.is_set() else code


def _party(given: str, book: ContactBook) -> str | Card:
    """The name of a contact, or a card.

    Raises:
        ContactUnknown, IdentityDamaged, ConfigError: there is no such contact, and this is no card.
        TextRefused, CardRefused: it is not a card, or not a whole one.
    """
    if MARK in given.upper() or given == "-":
        return read_card(given)
    try:
        return book.get(given).name
    except (ContactUnknown, ConfigError):
        if not _is_there(given):
            raise
    return read_card(given)


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # it is too long, or no path at all
        return False


async def _use(code: OneTimeCode, phone: Phone, options: Options, screen: Screen) -> str:
    """Exchange cards with who has made the code. Returns their name as a contact.

    Raises:
        PairingFailed, PairingTimeout, NameplateUnknown, SignalingError: it came to nothing.
        CardRefused: what they gave is no card.
        ConfigError, ContactExists, KeyChanged, StoreError: they cannot be added.
    """
    payload = await use_code(options.signaling_for_code(phone), code, phone.card.encode())
    contact = await add_by_code(phone, payload, screen)
    await asyncio.sleep(SETTLE)
    return contact.name
