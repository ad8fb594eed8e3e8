"""Wrong command lines in one line: what is wrong, and what to write instead."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from rsecho.cli.spoken import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# Options as other programs have them.
_ADDRESS = "--udp HOST:PORT or --tcp HOST:PORT"
_ELSEWHERE = {
    "serve": {
        **dict.fromkeys(("-p", "--port", "--host", "--bind", "--listen", "--address"), _ADDRESS),
        **dict.fromkeys(("-v", "--verbose", "--debug"), "--log-level debug"),
        "-u": "--udp",
        "-t": "--tcp",
    },
    "send": {
        **dict.fromkeys(("-c", "-n", "--number"), "--count"),
        **dict.fromkeys(("-p", "--port", "--host"), "HOST:PORT as an argument"),
        **dict.fromkeys(("-w", "-W", "--wait"), "--timeout"),
        "-i": "--interval",
        "-t": "--tcp",
    },
}

_EXTRA = re.compile(r"Got unexpected extra arguments? \((.*)\)\.?", re.DOTALL)


def told(error: click.ClickException, group: click.Group) -> str:
    """The error in our words. Those of click's that are not known here stay."""
    context: click.Context | None = getattr(error, "ctx", None)
    text = error.format_message().rstrip(".")
    if context is None:
        return text
    if isinstance(error, click.MissingParameter):
        missing = error.param.human_readable_name if error.param else "an argument"
        return f"{missing} is missing; write `{_usage(context)}`"
    if isinstance(error, click.BadParameter) and error.param is not None:
        # Types say what is wanted, so there is no need to look for it in the help.
        return f"{name_of(context, error.param)}: {error.message}".rstrip(".")
    if isinstance(error, click.NoSuchOption):
        return _no_option(error, context, group)
    if isinstance(error, click.BadOptionUsage):
        return _bad_option(error, context) or text
    if name := getattr(error, "command_name", None):
        return _no_command(name, context, group)
    if extra := _EXTRA.fullmatch(text):
        return _extra(extra[1], context)
    return f"{text} (see `{context.command_path} --help`)"


def similar(word: str, known: Sequence[str]) -> str:
    """ "did you mean …?", with a semicolon before it; nothing where no name is like it."""
    # Dashes, which all have, would make any two of them alike.
    plain = {each.lstrip("-"): each for each in known}
    found = [plain[each] for each in get_close_matches(word.lstrip("-"), plain, cutoff=0.65)]
    if not found:
        return ""
    *others, last = found
    return f"; did you mean {', '.join(others) + ' or ' if others else ''}{last}?"


def _usage(context: click.Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _no_option(error: click.NoSuchOption, context: click.Context, group: click.Group) -> str:
    name, path = error.option_name, context.command_path
    if name in ("-V", "--version"):
        return f"{name} goes before the command: rsecho {name}"
    known = [opt for each in context.command.params for opt in (*each.opts, *each.secondary_opts)]
    text = f"{context.command.name} has no option {name}"
    if context.command is group:
        text = f"there is no option {name} before the command"
    if instead := _ELSEWHERE.get(context.command.name or "", {}).get(name):
        return f"{text}; write {instead}"
    if guess := similar(name, [each for each in known if each.startswith("--")]):
        return f"{text}{guess} `{path} --help` shows all"
    owners = [
        each
        for each in group.list_commands(context)
        if (command := group.get_command(context, each)) is not None
        and any(name in (*param.opts, *param.secondary_opts) for param in command.params)
    ]
    if owners and context.command is group:
        return f"{text}; write it after the command, as in rsecho {owners[0]} {name}"
    if owners:
        commands = " and ".join(f"`rsecho {each}`" for each in owners)
        return f"{text}, but {commands} {'have' if len(owners) > 1 else 'has'} one"
    return f"{text}; `{path} --help` shows all"


def _bad_option(error: click.BadOptionUsage, context: click.Context) -> str | None:
    for each in context.command.params:
        if error.option_name in (*each.opts, *each.secondary_opts):
            if isinstance(each, click.Option) and each.is_flag:
                return f"{error.option_name} takes no value; write it alone"
            return (
                f"{error.option_name} needs a value; "
                f"write {error.option_name} {each.make_metavar(context)}"
            )
    return None


def _no_command(name: str, context: click.Context, group: click.Group) -> str:
    known = group.list_commands(context)
    if name == "help":
        return "there is no command help; write `rsecho --help`, or `rsecho COMMAND --help`"
    guess = similar(name, known)
    return f"there is no command {name}{guess or ';'} the commands are {', '.join(known)}"


def _extra(words: str, context: click.Context) -> str:
    way_out = f"write `{_usage(context)}`"
    if words == "help":
        way_out = f"write `{context.command_path} --help`"
    elif context.command.name == "serve" and any(map(str.isdigit, words)):
        way_out = f"to listen there, write --udp {words} or --tcp {words}"
    return f'unexpected argument "{words}"; {way_out}'
