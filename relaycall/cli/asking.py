"""Asking the person at the terminal: for the passphrase of the vault, for yes or no."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from relaycall.errors import ConfigError, StoreUnavailable
from relaycall.redact import Secret
from relaycall.store import Store, open_store
from relaycall.store.opening import PASSPHRASE


async def open_asking() -> Store:
    """The store; the passphrase of a vault is asked for where there is a person to ask."""
    return await open_store(ask=_passphrase if sys.stdin.isatty() else None)


async def open_for_keys() -> Store:
    """The same, for keys and contacts, which cannot be elsewhere. Raises StoreUnavailable, saying what to do."""
    try:
        return await open_asking()
    except StoreUnavailable as error:
        error.next_step = f"Set {PASSPHRASE} to a passphrase of your choice: an encrypted vault then keeps your keys."
        raise


def ask_secret(prompt: str, *, twice: bool) -> Secret:
    """A secret that is typed and not shown, twice if it is new."""
    return Secret(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def check_terminal(instead: str) -> None:
    """Raises ConfigError, naming what to give instead, where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask on.", f"Give {instead}.")


def agrees(question: str, yes: bool) -> bool:
    """Whether our user says yes. Enter alone is no answer.

    Args:
        yes: they have said so by `--yes`.

    Raises:
        ConfigError: there is nobody to ask.
    """
    if yes:
        return True
    check_terminal("--yes")
    return click.confirm(question, default=None, err=True)


def _passphrase(path: Path) -> Secret:
    click.echo(f"There is no keyring here; {PASSPHRASE} is not set. The vault is {path}.", err=True)
    new = not path.exists()
    return ask_secret("Passphrase of the new vault" if new else "Passphrase of the vault", twice=new)
