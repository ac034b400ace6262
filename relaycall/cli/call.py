"""`relaycall call`: call a contact."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import click

from relaycall.cli.asking import open_for_keys
from relaycall.cli.calling import News, Options, calling_options
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.screen import Screen, screen_for
from relaycall.cli.stopping import Stop
from relaycall.cli.talk import Talk
from relaycall.errors import RelaycallError


@click.command("call")
@click.argument("contact")
@calling_options
def call_command(contact: str, **given: Any) -> int:
    """Call CONTACT, over relays only.

    While it runs, q or Ctrl-C hangs up, m mutes, and w shows the words to compare by voice. A second Ctrl-C ends it at
    once. The exit code is 0 when it was hung up, 7 if they decline, are busy or do not answer, 130 after Ctrl-C, and
    that of the error otherwise.
    """
    options = Options(**given)
    screen = screen_for(options.as_json)
    try:
        options.check()
        return asyncio.run(_call(contact, options, screen))
    except RelaycallError as error:
        screen.failed(error)
        return error.exit_code


async def _call(contact: str, options: Options, screen: Screen) -> int:
    store = await open_for_keys()
    phone = await options.phone(store, time.time(), prewarm=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(screen)
        stack.enter_context(options.quiet())
        sound = stack.enter_context(options.sound(1))
        async with phone:
            News(phone, screen, asyncio.get_running_loop().time)
            keyboard = stack.enter_context(Keyboard())
            stop = stack.enter_context(Stop())
            stop.last.append(keyboard.restore)
            if options.manual:
                stack.enter_context(options.carrier(phone, screen, keyboard, answered=True))
            call = await phone.call(contact, audio=sound.source, sink=sound.sink)
            code = await Talk(call, screen, keyboard, stop, sound=sound, seconds=options.seconds).run()
        return stop.code if stop.told.is_set() else code
