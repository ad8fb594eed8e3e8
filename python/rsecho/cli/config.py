"""`--config FILE`: defaults for every command, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeGuard

import click

from rsecho.cli.failure import USAGE, CommandError
from rsecho.cli.spoken import KEYS, key_of
from rsecho.cli.usage import similar


def read_config(path: str, group: click.Group, context: click.Context) -> dict[str, Any]:
    """The file's table for the command of the context, as click's defaults. All tables have to
    have names of commands and of their options; values are checked in the command's own.

    Raises:
        CommandError: the file cannot be read, or an entry cannot be used.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read configuration {path}: {error.strerror}", USAGE) from None
    except UnicodeDecodeError:
        text = f"cannot read configuration {path}: it is not text in UTF-8; write it as TOML"
        raise CommandError(text, USAGE) from None
    except tomllib.TOMLDecodeError as error:
        text = f"cannot read configuration {path}: it is not TOML: {error}"
        raise CommandError(text, USAGE) from None
    found: dict[str, Any] = {}
    for name, table in tables.items():
        command = group.get_command(context, name)
        if command is None or not isinstance(table, dict):
            text = f"{path}: {name} is not in a table; write it below [{context.command.name}]"
            if command is not None:
                text = f"{path}: {name} is {_shown(table)}, not a table; write [{name}] above it"
            if isinstance(table, dict):
                known = ", ".join(f"[{each}]" for each in group.list_commands(context))
                text = f"{path}: [{name}] is not a command; the tables are {known}"
            raise CommandError(text, USAGE)
        for key, value in table.items():
            option = _option(command, key)
            if option is None:
                guess = similar(key, [key_of(each) for each in command.params if _is_entry(each)])
                way_out = f"{guess or ';'} `rsecho {name} --help` shows all"
                text = f"{path}: [{name}] has no option {key!r}{way_out}"
                raise CommandError(text, USAGE)
            if name == context.command.name:
                found[option.name or ""] = _checked(f"{path}: [{name}] {key}", option, value)
                # As it was written: a dash and an underscore are the same.
                context.meta.setdefault(KEYS, {})[option.name] = key
                _convert(f"{path}: [{name}] {key}", option, found[option.name or ""], context)
    return found


def _option(command: click.Command, key: str) -> click.Option | None:
    for option in command.params:
        if _is_entry(option):
            flags = [each[2:] for each in option.opts if each.startswith("--")]
            if key.replace("_", "-") in flags and key_of(option) != "help":
                return option
    return None


def _is_entry(option: click.Parameter) -> TypeGuard[click.Option]:
    # What names the file cannot come from it.
    return isinstance(option, click.Option) and option.expose_value


def _checked(where: str, option: click.Option, value: object) -> object:
    """Refuses a value of another kind: a text where a number has to be, "yes" for true."""
    kinds = getattr(option.type, "toml", (str,))
    wanted = getattr(option.type, "wanted", "a text")
    # One value where several may stand is a list of one.
    values = value if option.multiple and isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, kinds) or (isinstance(each, bool) and bool not in kinds):
            raise CommandError(f"{where} is {_shown(each)}; write {wanted}", USAGE)
    return values if option.multiple else value


def _convert(where: str, option: click.Option, value: Any, context: click.Context) -> None:
    """Refuses a value of the right kind that cannot be, even if a flag takes its place."""
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise CommandError(f"{where}: {error.message.rstrip('.')}", USAGE) from None


def _shown(value: object) -> str:
    """As TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "a list of tables"
    return f'"{value}"' if isinstance(value, str) else str(value)
