"""`relaycall config`: what is configured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relaycall.config import Settings

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file: .toml, .json or .yaml. Default: what RELAYCALL_CONFIG names.",
)


@click.group()
def config() -> None:
    """See what is configured."""


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def show(config_file: Path | None, as_json: bool) -> None:
    """Show each setting, and where it came from.

    Secrets and user names show as ***, references to secrets as they stand.
    """
    lines = Settings.load(file=config_file).shown()
    if as_json:
        for line in lines:
            click.echo(json.dumps(line._asdict()))
        return
    table = Table("setting", "value", "from")
    for line in lines:
        table.add_row(escape(line.key), escape(_text(line.value)), escape(line.source))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "not set" if value is None else str(value)
