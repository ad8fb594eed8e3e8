"""The `rsecho` command: one file per subcommand, each imported only when it runs."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import click

import rsecho
from rsecho._rsecho import __version__
from rsecho.cli.failure import RUN_TIME, CommandError, one_line, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

# name: (module, what `rsecho --help` says of it, so that asking imports none of them)
_COMMANDS = {
    "serve": ("rsecho.cli.serve", "Answer UDP and TCP with what was sent."),
    "send": ("rsecho.cli.send", "Send to an echo server and judge what comes back."),
    "ping": ("rsecho.cli.ping", "Measure round trips to an echo server."),
    "push": ("rsecho.cli.push", "Send a file, a directory or a pipe over UDP, whole."),
    "pull": ("rsecho.cli.pull", "Fetch a file over UDP, whole."),
    "info": ("rsecho.cli.info", "Show kernel limits and what a socket really gets."),
    "unpack": ("rsecho.cli.unpack", "Decode binary records by a struct format."),
    "completion": ("rsecho.cli.completion", "Print the completion script of a shell."),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Has errors know their command, which click leaves out where a value is missing."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`rsecho serve` and, in another terminal, `rsecho send localhost:9999` is a first try. "
    "`rsecho COMMAND --help` shows the options of a command.",
)
@click.version_option(__version__, "-V", "--version", message="rsecho %(version)s")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Read options from a TOML file (RSECHO_CONFIG): a table per command, such as [serve], "
    "with option names as keys.",
)
@click.pass_context
def command(ctx: click.Context, config: str | None) -> None:
    """Servers that echo UDP and TCP, and clients that judge the reply."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process with its status.

    0: fine; 1: failed at run time; 2: usage, or a name that cannot be used; 3: cannot bind
    or start; 4: a threshold was crossed.
    """
    rsecho._has_told_of_debug_build = True  # `rsecho serve` logs it, `rsecho info` shows it
    try:
        status = command.main(arguments, prog_name="rsecho", standalone_mode=False)
    except CommandError as failure:
        click.echo(f"rsecho: {one_line(str(failure))}", err=True)
        status = failure.status
    except click.ClickException as error:
        click.echo(f"rsecho: {_usage(error)}", err=True)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130  # as shells report an end by SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain of it while it exits.
        sys.stdout = None
        status = RUN_TIME
    except OSError as error:
        # Commands tell what they know of; what is left is output that cannot be written.
        click.echo(f"rsecho: cannot go on: {one_line(reason(error))}", err=True)
        sys.stdout = None
        status = RUN_TIME
    sys.exit(status if isinstance(status, int) else 0)


def _usage(error: click.ClickException) -> str:
    from rsecho.cli.usage import told

    return one_line(told(error, command))


if __name__ == "__main__":
    main()
