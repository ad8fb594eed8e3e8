"""Names of options as their users know them: flags, variables, keys of a file; never Python's."""

from __future__ import annotations

import re

import click
from click.core import ParameterSource

from rsecho.cli.options import Option

# Where a context keeps the name of the file that its `default_map` was read from.
FILE = "rsecho.config_file"

# Where it keeps the keys of that file as they are spelled there, by the option's name.
KEYS = "rsecho.config_keys"


def name_of(ctx: click.Context, each: click.Parameter) -> str:
    """The option as it was given: its flag, its variable, or its key in the file."""
    if not isinstance(each, click.Option):
        return each.human_readable_name
    source = ctx.get_parameter_source(each.name or "")
    if source is ParameterSource.ENVIRONMENT:
        return str(each.envvar)
    if source is ParameterSource.DEFAULT_MAP and (path := ctx.meta.get(FILE)):
        key = ctx.meta.get(KEYS, {}).get(each.name) or key_of(each)
        return f"{path}: [{ctx.command.name}] {key}"
    is_off = each.secondary_opts and ctx.params.get(each.name or "") is False
    return max(each.secondary_opts if is_off else each.opts, key=len)


def key_of(each: click.Option) -> str:
    """The option's key in a file."""
    return max(each.opts, key=len).removeprefix("--").replace("-", "_")


# What the package says in Python's words, apart from keywords.
_PYTHON = {"None turns it off": "leave it out for no limit"}


# What is said where one family of addresses is wanted, by the option that wants it.
_EXCLUDED = {"ipv4": "allow IPv6", "ipv6": "allow IPv4"}


def in_flags(text: str, ctx: click.Context) -> str:
    """An error of the package, which names keywords, in the words of the command."""
    options: dict[str, Option] = {}
    for each in ctx.command.params:
        if isinstance(each, Option) and each.owners:
            is_set = ctx.get_parameter_source(each.name or "") is not ParameterSource.DEFAULT
            if is_set or each.keyword not in options:
                options[each.keyword] = each
    for keyword, words in _PYTHON.items():
        text = text.replace(keyword, words)
    for each in ctx.command.params:
        if each.name in _EXCLUDED:
            text = text.replace(_EXCLUDED[each.name], f"leave out {name_of(ctx, each)}")
    text = _by_source(text, ctx)
    if not options:
        return text

    def said(match: re.Match[str]) -> str:
        each, value = options[match[1]], match[2]
        if value is None and "_" not in match[1]:
            return match[0]  # a word as any other
        name = name_of(ctx, each)
        if value in ("True", "False") and each.secondary_opts:
            # A value to take, or the one that was set: of two flags for one keyword, its own.
            return max(each.opts if value == "True" else each.secondary_opts, key=len)
        if value is None or value in ("True", "False"):
            return name
        between = " " if name.startswith("-") else "=" if name == each.envvar else " = "
        return f"{name}{between}{value}"

    names = "|".join(sorted(options, key=len, reverse=True))
    return re.sub(rf"(?<![\w./\[=-])({names})\b(?:=('[^']*'|\"[^\"]*\"|[^\s:;,()]+))?", said, text)


def _by_source(text: str, ctx: click.Context) -> str:
    """Flags by the variable or key that set them, where it was none."""
    for each in ctx.command.params:
        flag, name = max(each.opts, key=len), name_of(ctx, each)
        if flag.startswith("--") and name not in (*each.opts, *each.secondary_opts):
            text = re.sub(rf"(?<![\w-]){flag}(?![\w-])", name.replace("\\", r"\\"), text)
    return text
