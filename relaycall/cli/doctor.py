"""`relaycall doctor`: what keeps calls from working, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click

from relaycall.cli.config import config_option
from relaycall.diagnosis import Cause, Finding, Status, diagnose

_CONCLUSIONS = {
    Cause.NONE: "Nothing is wrong.",
    Cause.INSTALLATION: "The installation is not as it should be.",
    Cause.CONFIGURATION: "The configuration is wrong.",
    Cause.STORE: "A secret cannot be read from the keyring.",
    Cause.CLOCK: "This machine's clock is wrong.",
    Cause.LOCAL_NETWORK: "This machine's network is the problem: nothing can be reached.",
    Cause.BLOCKED_TRANSPORT: "A transport is blocked between here and the relay.",
    Cause.RELAY: "A relay is the problem; the network here works.",
}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--laboratory", is_flag=True, help="Allow relays on loopback or private addresses.")
def doctor(config_file: Path | None, as_json: bool, laboratory: bool) -> int:
    """Find out what keeps calls from working.

    Looks at what is installed and configured, the keyring, the clock, names, and each relay over UDP, TCP and TLS. The
    exit code is 0 if nothing failed, or else by the class of what failed first: 2 configuration, 3 network or relay,
    5 security, 6 this machine.
    """
    found = asyncio.run(
        diagnose(
            file=config_file, laboratory=laboratory or None, on_step=lambda step: click.echo(f"... {step}", err=True)
        )
    )
    code, cause = conclusion(found)
    if as_json:
        for finding in found:
            click.echo(json.dumps({"event": "finding"} | finding.as_json()))
        click.echo(json.dumps({"event": "conclusion", "cause": str(cause), "exit_code": code}))
        return code
    for finding in found:
        click.echo(f"{finding.status:<5} {finding.check}: {finding.sentence}")
        if finding.next_step:
            click.echo(f"      {finding.next_step}")
    click.echo(_CONCLUSIONS[cause])
    return code


def conclusion(found: Sequence[Finding]) -> tuple[int, Cause]:
    """The exit code, and the cause of what is worst: of the first that failed, or else of the first warning."""
    for status in (Status.FAIL, Status.WARN):
        for finding in found:
            if finding.status is status:
                return finding.exit_code, finding.cause
    return 0, Cause.NONE
