"""The command line, one verb per file. Here errors become exit codes.

0 ok, 2 usage, 3 relay, 4 signaling, 5 security, 6 device or store, 7 remote, 130 Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version

import click

from relaycall.cli.answer import answer
from relaycall.cli.call import call_command
from relaycall.cli.completion import completion
from relaycall.cli.config import config
from relaycall.cli.contacts import contacts
from relaycall.cli.coturn_config import coturn_config
from relaycall.cli.credentials import credentials
from relaycall.cli.demo import demo
from relaycall.cli.devices import devices_command
from relaycall.cli.doctor import doctor
from relaycall.cli.keys import keys
from relaycall.cli.probe import probe_command
from relaycall.cli.serve import serve
from relaycall.errors import RelaycallError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("relaycall"), prog_name="relaycall")
@click.option("--verbose", "-v", is_flag=True, help="Log what happens to standard error.")
def cli(verbose: bool) -> None:
    """Calls in which neither party ever learns the other's IP address."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.CRITICAL, stream=sys.stderr, format="%(levelname)s %(message)s"
    )


cli.add_command(answer)
cli.add_command(call_command)
cli.add_command(completion)
cli.add_command(config)
cli.add_command(contacts)
cli.add_command(coturn_config)
cli.add_command(credentials)
cli.add_command(demo)
cli.add_command(devices_command)
cli.add_command(doctor)
cli.add_command(keys)
cli.add_command(probe_command)
cli.add_command(serve)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="relaycall", standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; everything is closed.", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        return 0
    except RelaycallError as error:
        click.echo(f"error: {error.sentence}\n       {error.next_step}", err=True)
        return error.exit_code
    return code if isinstance(code, int) else 0
