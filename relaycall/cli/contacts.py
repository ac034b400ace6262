"""`relaycall contacts`: whom we know."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
import time
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relaycall.cli.adding import add_card, kept_card
from relaycall.cli.asking import open_for_keys
from relaycall.cli.card_text import read_card
from relaycall.cli.codes import exchange
from relaycall.cli.keys import json_option, load_contacts
from relaycall.cli.remote_text import shown
from relaycall.errors import ConfigError, ContactExists, IdentityDamaged, IdentityMissing
from relaycall.identity.card import Card
from relaycall.identity.contact import Contact, clean_name, folded
from relaycall.identity.own import load_own
from relaycall.store import Store

ASK, NEW = "ask", "new"  # what --code may say


@click.group()
def contacts() -> None:
    """Keep the people you call, and whose calls you take."""


@contacts.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show all contacts, and which of them are verified."""
    book = asyncio.run(load_contacts(asyncio.run(open_for_keys())))
    found = [book.get(name) for name in book.names]
    if as_json:
        for contact in found:
            click.echo(json.dumps(_entry(contact)))
        for entry in book.damaged:
            click.echo(json.dumps({"damaged": entry}))
        return
    if not found:
        click.echo("There are no contacts yet.")
    else:
        table = Table("name", "verified", "fingerprint", "signaling", "since")
        for contact in found:
            since = f"{datetime.fromtimestamp(contact.first_seen, UTC):%Y-%m-%d}"
            cells = (shown(contact.name)[1:-1], "yes" if contact.verified else "no", contact.identity.fingerprint)
            table.add_row(*map(Text, (*cells, contact.signaling, since)))
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    for entry in book.damaged:
        click.echo(f"An entry cannot be read: relaycall contacts remove {entry} forgets it.", err=True)


def _entry(contact: Contact) -> dict[str, object]:
    return {
        "name": contact.name,
        "verified": contact.verified,
        "fingerprint": contact.identity.fingerprint,
        "signaling": contact.signaling,
        "since": contact.first_seen,
    }


@contacts.command()
@click.argument("cards", nargs=-1, metavar="[CARD]")
@click.option("--name", help="What you call them. Default: the name on their card.")
@click.option(
    "--code",
    is_flag=False,
    flag_value=ASK,
    metavar="[new]",
    help="Exchange cards by a one-time code: theirs, which is asked for and never an argument, or a new one.",
)
@click.option("--signaling", metavar="URL", help="Where both exchange the code. Default: your own server.")
@click.option("--laboratory", is_flag=True, help="Allow a signaling server without TLS.")
@json_option
def add(
    cards: tuple[str, ...],
    name: str | None,
    code: str | None,
    signaling: str | None,
    laboratory: bool,
    as_json: bool,
) -> None:
    """Add somebody, by CARD or by a one-time code.

    CARD is the text of their card, a file with it, or - for standard input; with neither, it is pasted. A code is asked
    for at the terminal, or read from standard input. Whoever made it sees `--code new`, tells you the code by voice or
    in person, and waits; then both have each other's card.
    """
    if code is not None and (cards or code not in (ASK, NEW)):
        raise ConfigError(  # what it was is not repeated: it may be the code
            "A one-time code is never an argument.", "Give --code alone and type it then, or --code new to make one."
        )
    if code is None and signaling is not None:
        raise ConfigError("A server is needed for a code only.", "Leave out --signaling; the card names theirs.")
    store = asyncio.run(open_for_keys())
    if name is not None and code is not None:
        _check_free(store, name)
    given = " ".join(cards) or None  # a text that a chat has wrapped, perhaps
    theirs = read_card(given) if code is None else _by_code(store, code == NEW, signaling, laboratory, as_json)
    try:
        contact = asyncio.run(_add(store, theirs, name))
    except ContactExists:
        if code is not None:  # which is used up
            click.echo(kept_card(theirs), err=True)
        raise
    if as_json:
        click.echo(json.dumps({"event": "added"} | _entry(contact)))
        return
    click.echo(f"Added {shown(contact.name)}, fingerprint {contact.identity.fingerprint}.")
    if not contact.verified:
        click.echo(f"They are not verified yet: relaycall keys verify {shlex.quote(contact.name)}")


def _check_free(store: Store, name: str) -> None:
    """Before a code is used up. Raises ContactExists, ConfigError."""
    for known in asyncio.run(load_contacts(store)).names:
        if folded(known) == folded(clean_name(name)):
            raise ContactExists(known)


def _by_code(store: Store, new: bool, signaling: str | None, laboratory: bool, as_json: bool) -> Card:
    own = asyncio.run(load_own(store, time.time()))
    return exchange(own.card(), signaling or own.signaling, new=new, laboratory=laboratory, as_json=as_json)


async def _add(store: Store, card: Card, name: str | None) -> Contact:
    own = None
    with contextlib.suppress(IdentityMissing, IdentityDamaged):
        own = (await load_own(store, time.time())).identity.public
    return await add_card(await load_contacts(store), own, card, time.time(), name)


@contacts.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget NAME, their keys and whether they were verified."""

    async def forget(store: Store) -> None:
        book = await load_contacts(store)
        await (book.discard if name in book.damaged else book.remove)(name)

    asyncio.run(forget(asyncio.run(open_for_keys())))
    click.echo(f"Removed {shown(name)}.", err=True)


@contacts.command()
@click.argument("name")
@click.argument("new")
def rename(name: str, new: str) -> None:
    """Call NAME something else. Their keys stay as they are."""

    async def change(store: Store) -> Contact:
        return await (await load_contacts(store)).rename(name, new)

    contact = asyncio.run(change(asyncio.run(open_for_keys())))
    click.echo(f"{shown(name)} is {shown(contact.name)} now.", err=True)
