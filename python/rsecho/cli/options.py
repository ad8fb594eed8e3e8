"""Options that several commands share: what a socket is to be, and where messages go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from rsecho.cli import completions
from rsecho.cli.types import DURATION, RATE, SIZE, Flag, KeepAlive, Number, Whole

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


# Whose keyword an option sets: a server's of one protocol or of both, that of whatever has a
# socket, a `Guard`'s, a `transfer.Policy`'s.
UDP = frozenset({"udp"})
TCP = frozenset({"tcp"})
BOTH = UDP | TCP
SOCKETS = BOTH | {"client"}
GUARD = frozenset({"guard"})
POLICY = frozenset({"policy"})


class Option(click.Option):
    """An option that knows which keyword it sets, of what, and which listeners obey it.

    `sets` and `of`: the keyword, where it has another name, and whose. `serves`: the protocols
    of listeners that can obey it, by default those of `of`. `verb` and `otherwise`: for the
    error where none is served ("--backlog is for TCP, and …"). `section`: its heading in the
    help. `has_own_variable`: other commands mean something else by this name, so the variable has
    the command's name in it.
    """

    def __init__(
        self,
        *names: Any,
        sets: str | None = None,
        of: frozenset[str] = frozenset(),
        serves: frozenset[str] | None = None,
        verb: str = "is for",
        otherwise: str = "",
        section: str = "",
        has_own_variable: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(*names, **settings)
        self.stated_default = settings.get("default")
        if self.is_flag:
            self.type = Flag()
        self.keyword = sets or self.name or ""
        self.owners = of
        own = UDP if of & POLICY else (of & BOTH) or BOTH
        self.protocols = own if serves is None else serves
        self.verb = verb
        self.otherwise = otherwise
        self.section = section
        self.has_own_variable = has_own_variable
        self.general_variable = str(self.envvar)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option with its value, and what it does; variables have a paragraph of their own."""
        if self.hidden:
            return None
        text = self.help or ""
        if self.show_default:
            shown = self.show_default if isinstance(self.show_default, str) else self.default
            text += f" [default: {shown}]"
        return self.get_help_spec(ctx), text


def option(*names: str, help: str, **settings: Any) -> Callable[[_F], _F]:
    """An option that also comes from RSECHO_NAME, or `envvar`, and from a file; see `Option`."""
    long = next(name.split("/")[0] for name in names if name.startswith("--"))
    variable = "RSECHO_" + long.removeprefix("--").replace("-", "_").upper()
    settings = {"envvar": variable, **settings}
    return click.option(*names, cls=Option, help=help, show_envvar=True, **settings)


def keywords(owner: str) -> dict[str, Any]:
    """The keyword arguments of `owner` that somebody set by options of the command that runs.
    Defaults are left to `owner`."""
    context = click.get_current_context()
    return {
        each.keyword: value
        for each in context.command.params
        if isinstance(each, Option)
        and owner in each.owners
        and each.name
        and context.get_parameter_source(each.name) is not ParameterSource.DEFAULT
        and (value := context.params[each.name]) is not None
    }


def obeyed(keywords: dict[str, Any], *owners: str) -> dict[str, Any]:
    """Without what would have no effect and comes from an environment, a file or a default. What a
    flag asked for stays: that it would have none is an error."""
    from rsecho import _rules

    context = click.get_current_context()
    flagged = {
        each.keyword
        for each in context.command.params
        if isinstance(each, Option)
        and each.name
        and context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE
    }
    return _rules.obeyed(keywords, *owners, kept=flagged)


def stacked(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Several options as one decorator, shown in this order."""

    def decorate(function: _F) -> _F:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


def section(title: str, *options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """The same under a heading in the help."""

    def decorate(function: _F) -> _F:
        before = list(getattr(function, "__click_params__", ()))
        function = stacked(*options)(function)
        for each in function.__click_params__[len(before) :]:  # type: ignore[attr-defined]
            each.section = title
        return function

    return decorate


def family(ipv4: bool, ipv6: bool) -> Any:
    """4, 6, or 0 for either."""
    return 4 if ipv4 else 6 if ipv6 else 0


family_options = stacked(
    option("-4", "--ipv4", is_flag=True, help="Use IPv4 addresses only."),
    option("-6", "--ipv6", is_flag=True, help="Use IPv6 addresses only."),
)

buffer_options = stacked(
    option(
        "--recv-buffer",
        type=SIZE,
        of=SOCKETS,
        sets="recv_buffer_bytes",
        show_default="the system's",
        help="Receive buffer (SO_RCVBUF). The kernel doubles the size.",
    ),
    option(
        "--send-buffer",
        type=SIZE,
        of=SOCKETS,
        sets="send_buffer_bytes",
        show_default="the system's",
        help="Send buffer (SO_SNDBUF). The kernel doubles the size.",
    ),
    option(
        "--force-buffers",
        is_flag=True,
        of=SOCKETS,
        help="Let buffers exceed net.core.rmem_max and wmem_max. Needs CAP_NET_ADMIN.",
    ),
)

device_option = option(
    "--bind-to-device",
    metavar="INTERFACE",
    of=SOCKETS,
    shell_complete=completions.interfaces,
    help="Send and receive through this interface only (SO_BINDTODEVICE).",
)

header_options = stacked(
    option(
        "--ttl",
        type=Whole(1, 255),
        of=SOCKETS,
        show_default="the system's",
        help="Hop limit of what is sent (IP_TTL, IPV6_UNICAST_HOPS): 1 to 255.",
    ),
    option(
        "--dscp",
        type=Whole(0, 63),
        of=SOCKETS,
        show_default="0",
        help="Differentiated services code point of what is sent (RFC 2474): 0 to 63.",
    ),
)

ip_options = stacked(header_options, device_option)

tcp_options = stacked(
    option(
        "--no-delay/--delay",
        default=None,
        of=TCP,
        show_default="no-delay",
        help="Send small segments at once (TCP_NODELAY), or gather them (Nagle's algorithm).",
    ),
    option(
        "--keep-alive",
        type=KeepAlive(),
        metavar="SPEC",
        of=TCP,
        show_default="off",
        help="Keep-alive probes (tcp(7)): IDLE[,INTERVAL[,COUNT]], as in 30s,5s,3.",
    ),
    option(
        "--linger",
        type=DURATION,
        of=TCP,
        help="SO_LINGER. Only 0 is possible: reset connections instead of closing them.",
    ),
    option(
        "--congestion",
        metavar="NAME",
        of=TCP,
        show_default="the system's",
        shell_complete=completions.congestion_algorithms,
        help="Congestion control algorithm (TCP_CONGESTION), such as cubic or reno.",
    ),
)


guard_options = stacked(
    option(
        "--rate-limit",
        type=RATE,
        of=GUARD,
        sets="rate_per_source",
        serves=UDP,
        verb="limits",
        otherwise="--connection-rate-limit limits TCP",
        help="UDP: how many datagrams per second are answered per source (an IPv4 address or an "
        "IPv6 /64), and after the colon how many at once. [default of BURST: a tenth, at least 5]",
    ),
    option(
        "--rate-limit-total",
        type=RATE,
        of=GUARD,
        sets="rate_total",
        serves=UDP,
        verb="limits",
        otherwise="--max-connections limits TCP",
        help="UDP: the same limit for all sources together.",
    ),
    option(
        "--connection-rate-limit",
        type=RATE,
        of=GUARD,
        sets="connection_rate_per_source",
        serves=TCP,
        verb="limits",
        otherwise="--rate-limit limits UDP",
        help="TCP: how many new connections per second are accepted per source, and after the "
        "colon how many at once. Others are closed. [default of BURST: a tenth, at least 5]",
    ),
    option(
        "--max-connections-per-source",
        type=Whole(0),
        of=GUARD,
        sets="connections_per_source",
        serves=TCP,
        verb="limits",
        otherwise="--rate-limit limits UDP",
        show_default="4096; no limit on loopback",
        help="TCP: how many connections one source may have open. 0: no limit.",
    ),
    option(
        "--max-amplification",
        type=Number(1, 1e9),
        of=GUARD,
        serves=UDP,
        verb="limits",
        show_default="3; no limit on loopback",
        help="UDP: a reply has at most X times the bytes of its request. A longer one is dropped.",
    ),
    option(
        "--allow",
        metavar="CIDR",
        multiple=True,
        of=GUARD,
        serves=BOTH,
        show_default="everybody",
        help="Answer only this network, such as 192.0.2.0/24. May be given several times.",
    ),
    option(
        "--deny",
        metavar="CIDR",
        multiple=True,
        of=GUARD,
        serves=BOTH,
        help="Do not answer this network, even if --allow includes it. May be given several times.",
    ),
    option(
        "--answer-service-ports",
        is_flag=True,
        of=GUARD,
        serves=UDP,
        help="UDP: also answer the source ports below 1024, 2049 and 11211. By default they are "
        "ignored outside loopback, since the servers there would answer back.",
    ),
    option(
        "--loop-guard/--no-loop-guard",
        default=True,
        show_default="on",
        of=GUARD,
        serves=UDP,
        help="UDP: end echo loops between this server and another one: a reply has a smaller hop "
        "limit than its request, and a few of the datagrams that repeat a reply are dropped.",
    ),
)


log_options = stacked(
    option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        metavar="LEVEL",
        default="info",
        show_default=True,
        help="Log messages of this level and above: debug (each datagram), info, warning or error.",
    ),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        metavar="FORMAT",
        default="text",
        show_default=True,
        help="text: lines for people. json: one JSON object per line.",
    ),
    option(
        "--log-config",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Configure logging from a file instead: TOML or JSON (logging.config.dictConfig), or "
        "INI (fileConfig).",
    ),
    option(
        "--log-payload",
        type=SIZE,
        default=128,
        show_default=True,
        of=BOTH,
        sets="log_payload_bytes",
        help="How many bytes of each payload are logged at level debug.",
    ),
)

json_option = option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
jsonl_option = option(
    "--jsonl", "as_jsonl", is_flag=True, help="Print JSON documents as things happen, one per line."
)
names_option = option(
    "--names",
    show_default="field_0, field_1, …",
    help="Names of a record's fields, separated by spaces or commas.",
)


def wire_option(of: frozenset[str]) -> Callable[[_F], _F]:
    """For what large messages are sent and received in."""
    return option(
        "--wire",
        type=click.Choice(["native", "plain"]),
        metavar="WIRE",
        default="native",
        show_default=True,
        of=of,
        help="native: the protocol in docs/transfer.md. plain: a count, then numbered chunks, "
        "without acknowledgements, for programs that split their data by hand.",
    )


def progress_timeout_option(of: frozenset[str]) -> Callable[[_F], _F]:
    """For both sides of a large message."""
    return option(
        "--progress-timeout",
        type=DURATION,
        default=10.0,
        show_default="10s",
        of=of,
        help="Give a transfer up when nothing has arrived for this long.",
    )


def engine_option(of: frozenset[str]) -> Callable[[_F], _F]:
    """For servers and for clients of large messages."""
    return option(
        "--engine",
        type=click.Choice(["auto", "batch", "portable"]),
        metavar="ENGINE",
        default="auto",
        show_default=True,
        of=of,
        help="System calls to use. batch: many datagrams or connections per call (Linux). "
        "portable: works on every Unix. auto: batch where it is available.",
    )


def max_message_option(**settings: Any) -> Callable[[_F], _F]:
    """For both sides of a large message."""
    return option(
        "--max-message",
        type=SIZE,
        default=16 << 20,
        show_default="16M",
        help="Longest message that is held in memory. Files have no such limit.",
        **settings,
    )
