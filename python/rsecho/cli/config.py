"""`--config FILE`: defaults for every command, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from rsecho.cli.failure import USAGE, CommandError


def read_config(path: str, group: click.Group, context: click.Context) -> dict[str, dict[str, Any]]:
    """The file as click's defaults: a table a command, keys as on the command line."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(f"cannot read configuration {path}: {error}", USAGE) from None
    return {name: _table(path, name, table, group, context) for name, table in tables.items()}


def _table(
    path: str, name: str, table: object, group: click.Group, context: click.Context
) -> dict[str, Any]:
    command = group.get_command(context, name)
    if command is None or not isinstance(table, dict):
        known = ", ".join(group.list_commands(context))
        raise CommandError(f"{path}: no command [{name}]; there are {known}", USAGE)
    options = {
        flag.lstrip("-").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for flag in option.opts
        if flag.startswith("--")
    }
    found = {}
    for key, value in table.items():
        option = options.get(key.replace("-", "_"))
        if option is None or option.name is None:
            raise CommandError(
                f"{path}: [{name}] has no option {key!r}; see `rsecho {name} --help`", USAGE
            )
        # One value where several may stand is a list of one.
        found[option.name] = [value] if option.multiple and not isinstance(value, list) else value
    return found
