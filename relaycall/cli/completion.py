"""`relaycall completion`: what a shell needs to complete our verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_RELAYCALL_COMPLETE"  # which click looks at


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: relaycall completion bash > ~/.local/share/bash-completion/completions/relaycall
    zsh:  relaycall completion zsh > "${fpath[1]}/_relaycall"
    fish: relaycall completion fish > ~/.config/fish/completions/relaycall.fish
    """
    root = click.get_current_context().find_root()
    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    click.echo(found(root.command, {}, "relaycall", VARIABLE).source())
