"""`relaycall probe`: which relays work, how far they are, and what to do about those that do not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relaycall.cli.hints import next_step_of
from relaycall.config import Settings
from relaycall.errors import ConfigError, NoRelay, RelayLied
from relaycall.redact import Secret
from relaycall.relays.configured import configured_relays
from relaycall.relays.discovery import find_relays
from relaycall.relays.probe import ProbeEvent, probe
from relaycall.relays.probe_result import ProbeResult, Verdict
from relaycall.relays.ranking import Ranking, Selection
from relaycall.relays.server import RelayServer, is_host_name
from relaycall.store.references import read_secret_file

EVERY = 5.0  # seconds between the rounds of --watch


@click.command("probe")
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option("--user", "users", multiple=True, help="User name: one for all relays, or one for each in their order.")
@click.option(
    "--credential-file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File with the password as one line; as many as --user.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--watch", is_flag=True, help="Probe again and again until Ctrl-C.")
@click.option("--laboratory", is_flag=True, help="Allow relays on loopback or private addresses.")
def probe_command(
    urls: tuple[str, ...],
    users: tuple[str, ...],
    files: tuple[Path, ...],
    as_json: bool,
    watch: bool,
    laboratory: bool,
) -> int:
    """Try relays, all at once: allocate on each, and send packets through it and back.

    Without a URL, the configured relays. A URL is turn:relay.example.org:3478?transport=udp or
    turns:relay.example.org:5349; a bare domain stands for the relays that its DNS names. Progress goes to standard
    error. The exit code is 0 if a relay can be used, 3 if none.
    """
    return asyncio.run(_probe(_given(urls, users, files), as_json, watch, laboratory))


Given = list[tuple[str, str | None, Secret | None]]  # URL or domain, user name, password


def _given(urls: Sequence[str], users: Sequence[str], files: Sequence[Path]) -> Given:
    """What the command line names. Raises ConfigError."""
    if len(users) != len(files) or len(users) not in (0, 1, len(urls)):
        raise ConfigError(
            "There has to be one --user with its --credential-file for all relays, or one for each.",
            "Give both once, or as many times as there are relays and in their order.",
        )
    pairs: list[tuple[str | None, Secret | None]] = [
        (user, read_secret_file(path)) for user, path in zip(users, files, strict=True)
    ]
    if len(pairs) != len(urls):
        pairs = (pairs or [(None, None)]) * len(urls)
    return [(url, *pair) for url, pair in zip(urls, pairs, strict=True)]


async def _relays(given: Given) -> list[RelayServer]:
    """The relays, those of domains looked up. Raises ConfigError."""
    relays = []
    for url, user, password in given:
        if is_host_name(url):
            relays += await find_relays(url, username=user, password=password)
        else:
            relays.append(RelayServer.parse(url, username=user, password=password))
    return relays


async def _probe(given: Given, as_json: bool, watch: bool, laboratory: bool) -> int:
    relays = await _relays(given)
    if not relays:
        settings = Settings.load(laboratory=laboratory or None)
        relays, laboratory = await configured_relays(settings), settings.laboratory
    if not relays:
        raise ConfigError(
            "No relay is given, and none is configured.", "Give its URL: relaycall probe turn:relay.example.org:3478."
        )
    ranking = Ranking()
    while True:
        progress = _Progress(len(set(relays)))
        results = await probe(relays, laboratory=laboratory, on_progress=progress)
        try:
            selection = ranking.update(results, asyncio.get_running_loop().time())
        except NoRelay:
            selection = None
        (_show_json if as_json else _show)(results, selection)
        if not watch:
            return 0 if selection else NoRelay.exit_code
        await asyncio.sleep(EVERY)


class _Progress:
    """A line to standard error for each relay that is done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done: set[RelayServer] = set()

    def __call__(self, event: ProbeEvent) -> None:
        if event.result is not None:
            self._done.add(event.server)
            rtt = f", {event.result.rtt_ms:.0f} ms" if event.result.rtt_ms is not None else ""
            line = f"{len(self._done)}/{self._count} {event.server.name}: {event.result.verdict}{rtt}"
            click.echo(line, err=True)


def _show_json(results: Sequence[ProbeResult], selection: Selection | None) -> None:
    for result in results:
        click.echo(json.dumps({"event": "result"} | result.as_json()))
    chosen = {
        "primary": selection.primary.name if selection else None,
        "backup": selection.backup.name if selection and selection.backup else None,
        "latency_ms": selection.latency_ms if selection else None,
    }
    click.echo(json.dumps({"event": "selection"} | chosen))


def _show(results: Sequence[ProbeResult], selection: Selection | None) -> None:
    rows = selection.table if selection else results
    table = Table("relay")
    for column in ("transport", "allocate ms", "RTT ms", "jitter ms", "loss", "verdict"):
        table.add_column(column, justify="left" if column in ("transport", "verdict") else "right", no_wrap=True)
    for result in rows:
        table.add_row(
            escape(result.server.name),
            f"{result.server.transport} {result.family}" if result.family else result.server.transport,
            *map(_number, (result.allocate_ms, result.rtt_ms, result.jitter_ms)),
            "" if result.loss is None else f"{result.loss:.0%}",
            str(result.verdict),
        )
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)
    for result in rows:
        if result.verdict is not Verdict.OK:
            step = next_step_of(result.error) if isinstance(result.error, RelayLied) else result.next_step
            click.echo(f"- {result.sentence}\n  {step}")
    for result in {result.server: result for result in rows}.values():
        if result.times_given > 1:
            click.echo(f"- The relay {result.server.name} is given {result.times_given} times; it was probed once.")
    if selection is None:
        click.echo("No relay can be used.")
        return
    backup = f", the backup {selection.backup.name}" if selection.backup else ", and there is no backup"
    click.echo(f"The best is {selection.primary.name} ({selection.latency_ms:.1f} ms){backup}.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
