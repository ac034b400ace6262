"""One-time codes at the terminal: made, told, typed and tried."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from relaycall.cli.screen import StatusLine
from relaycall.errors import CodeMalformed, ConfigError
from relaycall.identity.card import Card, decode_card
from relaycall.identity.code_exchange import CODE_LIFETIME, offer_code, use_code
from relaycall.identity.one_time_code import OneTimeCode, parse_code
from relaycall.signaling.base import Signaling
from relaycall.signaling.opening import open_signaling

MAX_TYPED = 200  # characters


def exchange(own: Card, url: str, *, new: bool, laboratory: bool, as_json: bool) -> Card:
    """Exchange cards with somebody by a one-time code.

    Args:
        own: our card.
        url: of the signaling server that both use.
        new: make a code, show it and wait; otherwise ask for theirs.
        laboratory: allow a server without TLS.
        as_json: say what happens as JSON objects.

    Raises:
        CodeMalformed, ConfigError: there is no usable code.
        PairingFailed, PairingTimeout, NameplateUnknown: it came to nothing.
        CardRefused: what they gave is no card.
        SignalingError: the server cannot be used.
    """
    if new:
        return decode_card(asyncio.run(_offer(own, url, laboratory, as_json)))
    code = typed_code()
    return decode_card(asyncio.run(_use(own, url, laboratory, code)))


async def _offer(own: Card, url: str, laboratory: bool, as_json: bool) -> bytes:
    """Ctrl-C ends the waiting, and the number leads nowhere from then on."""
    async with offer_code(_open(url, laboratory), own.encode()) as offer:
        code = offer.code.reveal()
        if as_json:
            click.echo(json.dumps({"event": "code", "code": code, "seconds": int(CODE_LIFETIME)}))
        else:
            click.echo(f"Your one-time code: {code}")
            click.echo("Tell it to them, and to nobody else. It can be tried once; Ctrl-C takes it back.", err=True)
        waiting = asyncio.ensure_future(_show_time(asyncio.get_running_loop().time() + CODE_LIFETIME))
        try:
            return await offer.peer_payload()
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])


async def _show_time(until: float) -> None:
    """How long the code still holds, in a line that changes."""
    with StatusLine() as line:
        while True:
            left = max(0, int(until - asyncio.get_running_loop().time()))
            line.show(f"Waiting for them: {left // 60}:{left % 60:02}")
            await asyncio.sleep(1)


async def _use(own: Card, url: str, laboratory: bool, code: OneTimeCode) -> bytes:
    return await use_code(_open(url, laboratory), code, own.encode())


def _open(url: str, laboratory: bool) -> Signaling:
    return open_signaling(url, laboratory=laboratory)


def typed_code() -> OneTimeCode:
    """The code that they were told, asked for until it is one.

    Raises:
        CodeMalformed, ConfigError: there is nobody to ask, and what is on standard input is none.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline(MAX_TYPED)
        if not line:
            raise ConfigError("There is no code on standard input.", "Write it there as one line.")
        return parse_code(line)
    while True:
        try:
            return parse_code(click.prompt("Their one-time code", err=True))
        except CodeMalformed as error:
            click.echo(f"{error.sentence} {error.next_step}", err=True)
