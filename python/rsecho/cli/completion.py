"""`rsecho completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rsecho.cli.shape import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(rsecho completion bash)"
    zsh:   eval "$(rsecho completion zsh)"
    fish:  rsecho completion fish | source
    """
    from rsecho.cli import command as group

    maker = get_completion_class(shell)
    assert maker is not None  # click.Choice let only these through
    click.echo(maker(group, {}, "rsecho", "_RSECHO_COMPLETE").source())
