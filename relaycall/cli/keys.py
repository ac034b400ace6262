"""`relaycall keys`: our own keys and card, and whether those of others are theirs."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

import click

from relaycall.cli.asking import agrees, open_for_keys
from relaycall.cli.card_text import read_card
from relaycall.cli.qr import qr_text
from relaycall.cli.remote_text import shown
from relaycall.errors import ConfigError, IdentityMissing
from relaycall.identity.card import Card, card_to_text
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.own import OwnKeys, create_own, load_own, rotate_identity
from relaycall.identity.safety import SafetyNumber, safety_number
from relaycall.signaling.opening import open_signaling
from relaycall.store import Store

DIFFERENT = 5  # the exit code when our user says that a safety number is another one

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")


@click.group()
def keys() -> None:
    """See our own keys and card, and verify those of others."""


@keys.command()
@click.option("--name", help="What we call ourselves, to make keys with.")
@click.option("--signaling", metavar="URL", help="The server that is to have our mailbox, to make keys with.")
@click.option("--laboratory", is_flag=True, help="Allow a signaling server without TLS.")
@json_option
def show(name: str | None, signaling: str | None, laboratory: bool, as_json: bool) -> None:
    """Show our name, our fingerprint and our card.

    Where there are no keys they are made, if both --name and --signaling are given, or if you say so at a terminal.
    """
    own = asyncio.run(_own_or_new(asyncio.run(open_for_keys()), name, signaling, laboratory))
    card = card_to_text(own.card())
    if as_json:
        entry = {"name": own.name, "fingerprint": own.identity.public.fingerprint, "signaling": own.signaling}
        click.echo(json.dumps(entry | {"card": card}))
        return
    click.echo(f"name:        {own.name}")
    click.echo(f"fingerprint: {own.identity.public.fingerprint}")
    click.echo(f"signaling:   {own.signaling}")
    click.echo(f"\nYour card, for those who are to call you:\n\n{card}\n")
    show_qr(card)


async def _own_or_new(store: Store, name: str | None, signaling: str | None, laboratory: bool) -> OwnKeys:
    try:
        own = await load_own(store, time.time())
    except IdentityMissing as missing:
        if name is None or signaling is None:
            if not sys.stdin.isatty():
                missing.next_step = "Give --name and --signaling to make them, or check the keyring or vault."
                raise
            click.echo(f"{missing.sentence} They are made now, and kept where you keep your secrets.", err=True)
            name = name or click.prompt("What do you call yourself", err=True)
            signaling = signaling or click.prompt("URL of your signaling server", err=True)
        open_signaling(signaling, laboratory=laboratory)  # which says what is wrong with it
        return await create_own(store, name, signaling, time.time())
    if (name or own.name, signaling or own.signaling) != (own.name, own.signaling):
        raise ConfigError(
            "There are keys already, for another name or server.",
            "Leave out --name and --signaling. Another server, from now on: relaycall answer --signaling URL.",
        )
    return own


@keys.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def export(file: Path | None) -> None:
    """Write our card to FILE, which must not exist, or to standard output."""
    own = asyncio.run(load_own(asyncio.run(open_for_keys()), time.time()))
    card = card_to_text(own.card())
    if file is None:
        click.echo(card)
        return
    try:
        with file.open("x", encoding="ascii") as out:
            out.write(card + "\n")
    except FileExistsError:
        raise ConfigError(f"The file {file} exists already.", "Give another name, or remove it first.") from None
    except (OSError, ValueError):
        raise ConfigError(f"The file {file} cannot be written.", "Check the folder and its permissions.") from None
    click.echo(f"Your card is in {file}. It holds nothing secret; give it to those who are to call you.", err=True)


@keys.command()
@click.argument("contact")
@click.option("--yes", is_flag=True, help="The number was compared, and is the same.")
@json_option
def verify(contact: str, yes: bool, as_json: bool) -> int:
    """Show the safety number of us and CONTACT, and ask whether it is the same on their side.

    Compare it where nobody can pretend to be them: in person, or in a call in which you know the voice. With --json
    and without --yes nothing is asked and nothing changes.
    """
    store = asyncio.run(open_for_keys())
    found, number = asyncio.run(_safety_number(store, contact))
    if as_json:
        if yes:
            asyncio.run(_mark(store, contact, True))
        entry = {"contact": found.name, "digits": number.digits, "words": list(number.words)}
        click.echo(json.dumps(entry | {"verified": found.verified or yes}))
        return 0
    _show_number(found, number)
    same = agrees("Is it the same on their side?", yes)
    asyncio.run(_mark(store, contact, same))
    if same:
        click.echo(f"{shown(found.name)} is verified.")
        return 0
    click.echo(f"{shown(found.name)} is not verified: somebody may be between you. Exchange cards in person.", err=True)
    return DIFFERENT


def _show_number(contact: Contact, number: SafetyNumber) -> None:
    digits = number.digits.split()
    click.echo(f"The safety number of you and {shown(contact.name)}, the same on both sides:\n")
    for at in range(0, len(digits), 4):
        click.echo("    " + " ".join(digits[at : at + 4]))
    click.echo("\nOr in words:\n")
    for at in range(0, len(number.words), 6):
        click.echo("    " + " ".join(number.words[at : at + 6]))
    click.echo()
    show_qr(number.qr().decode("latin-1"))


@keys.command()
@click.argument("contact")
@click.argument("card")
@yes_option
@json_option
def accept(contact: str, card: str, yes: bool, as_json: bool) -> int:
    """Take the keys of CARD as the new ones of CONTACT, whose old ones are forgotten.

    CARD is the text of their new card, a file with it, or - for standard input. Do this only when they have told you,
    in another way, that their keys are new: compare the fingerprint with them.
    """
    new = read_card(card)
    store = asyncio.run(open_for_keys())
    known = asyncio.run(load_contacts(store)).get(contact)
    before, after = known.identity.fingerprint, new.identity.fingerprint
    if not as_json:
        click.echo(f"The keys of {shown(known.name)}:\n\n    known: {before}\n    new:   {after}\n")
    if before != after and not agrees("Do they say themselves that these are their new keys?", yes):
        click.echo("Nothing has changed.", err=True)
        return DIFFERENT
    taken = asyncio.run(_take(store, contact, new))
    if as_json:
        entry = {"contact": taken.name, "known": before, "new": after, "verified": taken.verified}
        click.echo(json.dumps(entry))
    elif before == after:
        click.echo("They are the same.")
    else:
        click.echo(f"Taken. They are not verified yet: relaycall keys verify {shlex.quote(known.name)}")
    return 0


@keys.command()
@yes_option
@json_option
def rotate(yes: bool, as_json: bool) -> int:
    """Replace our keys by new ones, on purpose."""
    store = asyncio.run(open_for_keys())
    before = asyncio.run(load_own(store, time.time())).identity.public.fingerprint
    if not yes:
        click.echo(
            "New keys make you somebody else to everybody: your contacts refuse your calls until each of them has\n"
            "accepted your new card. Cards that you have given out lead nowhere any more, and what is still on its\n"
            "way to you cannot be opened. Your own contacts stay. Do this when somebody else may have your keys.\n",
            err=True,
        )
    if not agrees("Replace the keys?", yes):
        click.echo("Nothing has changed.", err=True)
        return 0
    own = asyncio.run(rotate_identity(store, time.time()))
    after, card = own.identity.public.fingerprint, card_to_text(own.card())
    if as_json:
        click.echo(json.dumps({"before": before, "fingerprint": after, "card": card}))
    else:
        click.echo(f"before:      {before}\nfingerprint: {after}\n\nYour new card, for all your contacts:\n\n{card}")
    return 0


def show_qr(text: str) -> None:
    """The text as a QR code, where there is a terminal to show it on; or why it does not fit."""
    if sys.stdout.isatty():
        size = shutil.get_terminal_size()
        code = qr_text(text, size.columns, size.lines)
        click.echo(code.reason if code.picture is None else code.picture)


async def load_contacts(store: Store) -> ContactBook:
    """All contacts. Raises StoreError."""
    book = ContactBook(store)
    await book.load()
    return book


async def _safety_number(store: Store, contact: str) -> tuple[Contact, SafetyNumber]:
    own = await load_own(store, time.time())
    found = (await load_contacts(store)).get(contact)
    return found, safety_number(own.identity.public, found.identity)


async def _mark(store: Store, contact: str, same: bool) -> None:
    book = await load_contacts(store)
    await (book.verify if same else book.unverify)(contact)


async def _take(store: Store, contact: str, card: Card) -> Contact:
    """Pin the keys of the card, or take what else it says if they are the known ones."""
    book = await load_contacts(store)
    if book.get(contact).identity == card.identity:
        return await book.add(card, time.time())
    return await book.accept_change(contact, card, time.time())
