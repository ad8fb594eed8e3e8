"""The form of every command: help in groups for 80 columns, `--config`, no option ignored."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rsecho.cli import relevance
from rsecho.cli.failure import USAGE, CommandError
from rsecho.cli.options import Option
from rsecho.cli.relevance import Asked, Given
from rsecho.cli.spoken import FILE, in_flags, name_of
from rsecho.cli.types import over_tcp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Where explanations begin: most options, with their value, fit before it.
_COLUMN = 26

# Less wins.
_RANKS = {
    ParameterSource.COMMANDLINE: 0,
    ParameterSource.ENVIRONMENT: 1,
    ParameterSource.DEFAULT_MAP: 2,
}

_SOURCES = (
    "Each option can also be set by a variable, named below, or by its name as a key in the table "
    "[{}] of a TOML file (--config). A flag wins over a variable, and a variable over the file."
)
_SEVERAL = " Several values are separated by spaces in a variable, and form a list in the file."


class Command(click.Command):
    """A command of `rsecho`. `examples` are pairs: what to type, and what that does."""

    def __init__(self, *given: Any, examples: Sequence[tuple[str, str]] = (), **more: Any) -> None:
        more.setdefault("context_settings", {})["help_option_names"] = ["-h", "--help"]
        super().__init__(*given, **more)
        self.examples = examples
        self.params.append(_config_option())
        for each in self.params:
            if isinstance(each, Option) and each.has_own_variable:
                each.envvar = f"RSECHO_{str(self.name).upper()}_{each.general_variable[7:]}"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options by section, in the order in which these are stated."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            if isinstance(each, click.Option) and (record := each.get_help_record(ctx)):
                is_own = isinstance(each, Option)
                section = getattr(each, "section", "") or ("Options" if is_own else "General")
                sections.setdefault(section, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                _write_rows(formatter, records)
        variables = [str(each.envvar) for each in self.params if isinstance(each, Option)]
        if variables != ["RSECHO_CONFIG"]:  # that alone sets nothing
            with formatter.section("Environment and file"):
                has_lists = any(each.multiple for each in self.params)
                formatter.write_text(_SOURCES.format(self.name) + (_SEVERAL if has_lists else ""))
                formatter.write_paragraph()
                formatter.write_text(" ".join(variables))
        if self.examples:
            with formatter.section("Examples"):
                # As they are to be typed, however long.
                for words, meaning in self.examples:
                    formatter.write(f"  {words}\n      {meaning}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Has errors know their command, which click leaves out where a value is missing."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Refuses what would be ignored, then runs the command."""
        _refuse_ambiguous_variables(ctx)
        _refuse_misspelled_variables(ctx)
        name = str(self.name)
        asked = _asked(ctx)
        ranks = {each: _RANKS[source] for each in asked if (source := _source(ctx, each))}
        contested = relevance.contest(name, asked, ranks)
        if contested.refusal:
            raise CommandError(contested.refusal, USAGE)
        _unset(ctx, contested.names)
        asked = {each: how for each, how in asked.items() if each not in contested.names}
        ignored = relevance.judge(name, Given(_values(ctx), asked, _served(ctx)))
        if ignored.refusal:
            raise CommandError(ignored.refusal, USAGE)
        _unset(ctx, ignored.names)
        try:
            return super().invoke(ctx)
        except CommandError as error:
            raise CommandError(in_flags(str(error), ctx), error.status) from None


def _write_rows(formatter: click.HelpFormatter, rows: Sequence[tuple[str, str]]) -> None:
    """All sections in the same two columns, and nothing cut at a hyphen, so that it can be
    copied."""
    indent = " " * formatter.current_indent
    margin = indent + " " * (_COLUMN + 2)
    for first, second in rows:
        lines = textwrap.wrap(
            second, formatter.width - len(margin), break_on_hyphens=False, break_long_words=False
        )
        if len(first) <= _COLUMN:
            beside = lines.pop(0) if lines else ""
            formatter.write(f"{indent}{first:<{_COLUMN}}  {beside}".rstrip() + "\n")
        else:
            formatter.write(f"{indent}{first}\n")
        for line in lines:
            formatter.write(f"{margin}{line}\n")


def _config_option() -> Option:
    return Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        envvar="RSECHO_CONFIG",
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=_configure,
        section="General",
        help="Read options from a TOML file. Before the command it means the same.",
    )


def _configure(ctx: click.Context, option: click.Parameter, path: str | None) -> None:
    """Takes defaults from the file that is named here, before the command, or by RSECHO_CONFIG."""
    before = ctx.parent.params.get("config") if ctx.parent else None
    if before is not None and _source(ctx, "config") is ParameterSource.COMMANDLINE:
        text = "--config is given both before and after the command; leave one out"
        raise CommandError(text, USAGE)
    path = before or path
    if path is None or ctx.resilient_parsing:
        return
    from rsecho.cli import command as group
    from rsecho.cli.config import read_config

    ctx.default_map = read_config(path, group, ctx)
    ctx.meta[FILE] = path


def _source(ctx: click.Context, name: str | None) -> ParameterSource | None:
    return ctx.get_parameter_source(name or "")


def _refuse_ambiguous_variables(ctx: click.Context) -> None:
    for each in ctx.command.params:
        if not isinstance(each, Option) or not each.has_own_variable:
            continue
        if _source(ctx, each.name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            continue
        if os.environ.get(each.general_variable):
            raise CommandError(
                f"{each.general_variable} is not read: {each.opts[0]} has another meaning in each "
                f"command; set {each.envvar} instead",
                USAGE,
            )


def _refuse_misspelled_variables(ctx: click.Context) -> None:
    """A variable that is nearly one of ours. Other programs set the others: Kubernetes, for
    example, makes RSECHO_SERVICE_HOST and RSECHO_PORT_… for a Service named rsecho."""
    own = {str(each.envvar) for each in ctx.command.params if isinstance(each, Option)}
    strange = [each for each in os.environ if each.startswith("RSECHO_") and each not in own]
    if not strange:
        return
    # Only now, as it imports every command.
    from difflib import get_close_matches

    from rsecho.cli import command as group

    known = set(own)
    for name in group.list_commands(ctx):
        if (other := group.get_command(ctx, name)) is not None:
            known |= {str(each.envvar) for each in other.params if isinstance(each, Option)}
            known |= {each.general_variable for each in other.params if isinstance(each, Option)}
    names = [each.removeprefix("RSECHO_") for each in known]
    for each in strange:
        found = get_close_matches(each.removeprefix("RSECHO_"), names, 1, cutoff=0.88)
        if each not in known and found:
            text = f"{each} is not a variable of rsecho; did you mean RSECHO_{found[0]}? unset it, "
            raise CommandError(f"{text}or write it so", USAGE)


def _asked(ctx: click.Context) -> dict[str, Asked]:
    """What was set, by whom."""
    has_listeners = any(
        _source(ctx, each) is ParameterSource.DEFAULT_MAP for each in ("udp", "tcp")
    )
    found = {}
    for each in ctx.command.params:
        name, source = each.name or "", _source(ctx, each.name)
        if source not in _RANKS or name not in ctx.params:
            continue
        is_typed = source is ParameterSource.COMMANDLINE
        if not is_typed and ctx.params[name] is False and not each.secondary_opts:
            continue  # a flag that is not raised
        for_listeners = has_listeners and source is ParameterSource.DEFAULT_MAP
        how: dict[str, Any] = {"is_typed": is_typed, "knows_listeners": for_listeners}
        if isinstance(each, Option):
            how |= {"protocols": each.protocols, "verb": each.verb, "otherwise": each.otherwise}
        found[name] = Asked(name_of(ctx, each), **how)
    return found


def _unset(ctx: click.Context, names: Iterable[str]) -> None:
    """Gives these their defaults."""
    for each in ctx.command.params:
        if each.name in names:
            value = each.type_cast_value(ctx, getattr(each, "stated_default", None))
            ctx.params[each.name] = False if value is None and _is_plain_flag(each) else value
            ctx.set_parameter_source(each.name, ParameterSource.DEFAULT)


def _is_plain_flag(each: click.Parameter) -> bool:
    return isinstance(each, click.Option) and each.is_flag and not each.secondary_opts


def _values(ctx: click.Context) -> dict[str, Any]:
    """All values, with what conditions ask about beside them."""
    if ctx.command.name == "send":
        # `send tcp://…` is `send --tcp`.
        ctx.params["tcp"] = over_tcp(ctx.params["target"], ctx.params["tcp"])
    if ctx.command.name != "serve":
        return ctx.params
    from rsecho.cli.passed import passed_protocols

    protocols = set(_served(ctx)) or {"udp", "tcp"}
    return ctx.params | {"passed": bool(passed_protocols()), "protocols": protocols}


def _served(ctx: click.Context) -> dict[str, str]:
    """Protocols and what asks for them; none: both, by default."""
    if ctx.command.name != "serve":
        return {}
    from rsecho.cli.passed import passed_protocols

    served = {each: f"a {each.upper()} socket of LISTEN_FDS" for each in passed_protocols()}
    for each in ctx.command.params:
        if each.name in ("udp", "tcp") and ctx.params[each.name]:
            is_filed = _source(ctx, each.name) is ParameterSource.DEFAULT_MAP
            served[each.name] = f"{each.name} of that file" if is_filed else name_of(ctx, each)
    return served
