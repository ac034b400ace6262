"""`relaycall credentials`: user names, passwords and shared secrets, kept encrypted. None is ever an argument."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relaycall.cli.asking import ask_secret, check_terminal, open_asking
from relaycall.errors import ConfigError, SecretMissing
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.store import Store, resolve_secret
from relaycall.store.base import check_name
from relaycall.store.login import StoredLogin, decode_login, encode_login
from relaycall.store.references import read_secret_file
from relaycall.store.vault import VaultStore

STDIN = Path("-")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

file_option = click.Path(path_type=Path)


@click.group()
def credentials() -> None:
    """Keep relay credentials in the keyring, or in an encrypted vault."""


@credentials.command("set")
@click.argument("name")
@click.option("--username", help="User name. Asked for if it is not given.")
@click.option("--secret", "alone", is_flag=True, help="Keep a secret without user name: a shared secret or a token.")
@click.option("--password-file", type=file_option, help="File with the password as one line; - is standard input.")
def set_(name: str, username: str | None, alone: bool, password_file: Path | None) -> None:
    """Keep a user name and password, or a secret, under NAME.

    What is not given is asked for on the terminal; the password is never shown.
    """
    check_name(_own(name))
    if alone and username is not None:
        raise ConfigError("--secret keeps a secret without a user name.", "Leave out --username.")
    if password_file is None:
        check_terminal("--password-file")
    if username is None and not alone:
        check_terminal("--username or --secret")
    store = asyncio.run(open_asking())  # before anybody types in vain
    if username is None and not alone:
        username = click.prompt("User name", err=True)
    password = _read(password_file) if password_file else ask_secret("Secret" if alone else "Password", twice=True)
    asyncio.run(store.set(name, encode_login(StoredLogin(username, password))))
    click.echo(f"Kept under the name {name} in {_place(store)}.", err=True)


@credentials.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_(as_json: bool) -> None:
    """Show the names and what kind each is; never a user name, password or secret."""

    async def look() -> tuple[Store, dict[str, str]]:
        store = await open_asking()
        found = {}
        for name in await store.names():
            if "/" not in name:
                kept = await store.get(name)
                found[name] = (
                    "missing" if kept is None else "secret" if decode_login(kept).username is None else "login"
                )
        return store, found

    store, found = asyncio.run(look())
    if as_json:
        for name, kind in found.items():
            click.echo(json.dumps({"name": name, "kind": kind}))
    elif not found:
        click.echo(f"Nothing is kept in {_place(store)}.")
    else:
        click.echo(f"Kept in {_place(store)}:")
        table = Table("name", "kind")
        for name, kind in found.items():
            table.add_row(escape(name), kind)
        Console().print(table)


@credentials.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget what is kept under NAME."""
    check_name(_own(name))

    async def forget() -> bool:
        return await (await open_asking()).remove(name)

    if not asyncio.run(forget()):
        raise SecretMissing(f"Nothing is kept under the name {name}.")
    click.echo(f"Removed {name}.", err=True)


@credentials.command()
@click.option("--secret-file", type=file_option, help="File with the relay's shared secret; - is standard input.")
@click.option("--secret-ref", metavar="REF", help="The shared secret as keyring:NAME, env:NAME or file:PATH.")
@click.option("--ttl", default="1h", show_default=True, help="How long they hold: 90s, 30m, 1h, 7d.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def mint(secret_file: Path | None, secret_ref: str | None, ttl: str, as_json: bool) -> None:
    """Make time-limited credentials from a relay's shared secret, and print them.

    It prints a password, since that is what it is for: it holds for a limited time. Only serve --turn does so, too.
    """
    if (secret_file is None) == (secret_ref is None):
        raise ConfigError("mint needs the shared secret.", "Give either --secret-file or --secret-ref.")
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", ttl, re.ASCII)
    if not found:
        raise ConfigError("The --ttl is not a time.", "Write it as 90s, 30m, 1h or 7d.")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if secret_file is not None:
        secret = _read(secret_file)
    else:
        assert secret_ref is not None
        secret = asyncio.run(_resolve(secret_ref))
    made = TimeLimited(secret, ttl=seconds, clock=time.time).mint()
    assert made.expires_at is not None
    if as_json:
        shown = {"username": made.username, "password": made.password.reveal(), "expires_at": int(made.expires_at)}
        click.echo(json.dumps(shown))
    else:
        click.echo(f"username: {made.username}")
        click.echo(f"password: {made.password.reveal()}")
        click.echo(f"expires:  {datetime.fromtimestamp(made.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC")


async def _resolve(reference: str) -> Secret:
    store = await open_asking() if reference.startswith("keyring:") else None
    return await resolve_secret(reference, store=store)


def _own(name: str) -> str:
    if "/" in name:
        raise ConfigError("A name with a slash belongs to another part of relaycall.", "Choose a name without one.")
    return name


def _read(path: Path) -> Secret:
    return read_secret_file(Path("/dev/stdin") if path == STDIN else path)


def _place(store: Store) -> str:
    return f"the vault {store.path}" if isinstance(store, VaultStore) else "the keyring"
