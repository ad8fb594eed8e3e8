"""Options that several commands share: what a socket is to be, and where messages go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from rsecho.cli.types import DURATION, RATE, SIZE, KeepAlive

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


# Whose keyword an option sets: a server's of one protocol or of both, that of whatever has a
# socket, a `Guard`'s.
UDP = frozenset({"udp"})
TCP = frozenset({"tcp"})
BOTH = UDP | TCP
SOCKETS = BOTH | {"client"}
GUARD = frozenset({"guard"})


class Option(click.Option):
    """An option that knows which keyword it sets, and of what."""

    def __init__(
        self,
        *names: Any,
        sets: str | None = None,
        of: frozenset[str] = frozenset(),
        **settings: Any,
    ) -> None:
        super().__init__(*names, **settings)
        self.keyword = sets or self.name or ""
        self.owners = of


def option(*names: str, help: str, **settings: Any) -> Callable[[_F], _F]:
    """An option that also comes from RSECHO_NAME, or `envvar`, and says so in its help.

    `of` says whose keyword it sets, `sets` which one, where that has another name.
    """
    long = next(name.split("/")[0] for name in names if name.startswith("--"))
    variable = "RSECHO_" + long.removeprefix("--").replace("-", "_").upper()
    settings = {"envvar": variable, **settings}
    return click.option(*names, cls=Option, help=help, show_envvar=True, **settings)


def keywords(owner: str) -> dict[str, Any]:
    """The keyword arguments of `owner` from the options of the command that runs."""
    context = click.get_current_context()
    return {
        each.keyword: value
        for each in context.command.params
        if isinstance(each, Option)
        and owner in each.owners
        and each.name
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


def family(ipv4: bool, ipv6: bool) -> Any:
    """4, 6, or 0 for either."""
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 exclude each other; leave both out for either")
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
        help="SO_RCVBUF; the kernel doubles it.  [default: the system's]",
    ),
    option(
        "--send-buffer",
        type=SIZE,
        of=SOCKETS,
        sets="send_buffer_bytes",
        help="SO_SNDBUF; the kernel doubles it.  [default: the system's]",
    ),
    option(
        "--force-buffers",
        is_flag=True,
        of=SOCKETS,
        help="Pass net.core.rmem_max and wmem_max where the process may (CAP_NET_ADMIN).",
    ),
)

ip_options = stacked(
    option(
        "--ttl",
        type=click.IntRange(1, 255),
        of=SOCKETS,
        help="IP_TTL, IPV6_UNICAST_HOPS: 1 to 255.",
    ),
    option(
        "--dscp",
        type=click.IntRange(0, 63),
        of=SOCKETS,
        help="Code point of replies, 0 to 63 (RFC 2474).",
    ),
    option(
        "--bind-to-device",
        metavar="INTERFACE",
        of=SOCKETS,
        help="SO_BINDTODEVICE: this interface only.",
    ),
)

tcp_options = stacked(
    option(
        "--no-delay/--delay",
        default=None,
        of=TCP,
        help="TCP_NODELAY: send small segments at once, or gather them.  [default: no-delay]",
    ),
    option(
        "--keep-alive",
        type=KeepAlive(),
        of=TCP,
        help="TCP keep-alive probes, as in 30s,5s,3 (tcp(7)).",
    ),
    option(
        "--linger",
        type=DURATION,
        of=TCP,
        help="SO_LINGER: 0 resets connections at their end. More is refused: close would wait.",
    ),
    option("--congestion", metavar="NAME", of=TCP, help="TCP_CONGESTION, as in cubic or reno."),
)


guard_options = stacked(
    option(
        "--allow",
        metavar="CIDR",
        multiple=True,
        of=GUARD,
        help="Answer this network only, as in 192.0.2.0/24; may be given several times.",
    ),
    option(
        "--deny",
        metavar="CIDR",
        multiple=True,
        of=GUARD,
        help="Do not answer this network, even where --allow names it; several times.",
    ),
    option(
        "--answer-service-ports",
        is_flag=True,
        of=GUARD,
        help="UDP: answer source ports below 1024, 2049 and 11211 beyond loopback as well: "
        "forged, they are those of servers that answer back.",
    ),
    option(
        "--loop-guard/--no-loop-guard",
        default=True,
        show_default=True,
        of=GUARD,
        help="UDP: end what goes round and round between this server and another one: replies "
        "have a smaller hop limit than their requests, and beyond loopback few datagrams are "
        "answered whose bytes their sender was sent before.",
    ),
    option(
        "--rate-limit",
        type=RATE,
        of=GUARD,
        sets="rate_per_source",
        help="UDP: datagrams a second that one source is answered, and how many at once "
        "(a tenth of it, at least 5). A source is an IPv4 address or an IPv6 /64.",
    ),
    option(
        "--rate-limit-total",
        type=RATE,
        of=GUARD,
        sets="rate_total",
        help="UDP: the same for all sources together.",
    ),
    option(
        "--max-amplification",
        type=float,
        metavar="X",
        of=GUARD,
        help="UDP: a reply is at most so many times its request on the wire.  "
        "[default: 3 beyond loopback]",
    ),
    option(
        "--max-connections-per-source",
        type=click.IntRange(0),
        of=GUARD,
        sets="connections_per_source",
        help="TCP: connections of one source at a time, 0 for any number.  "
        "[default: 4096 beyond loopback]",
    ),
)


log_options = stacked(
    option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        show_default=True,
        help="Least level of messages; debug shows each datagram.",
    ),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Lines for people, or a JSON object each.",
    ),
    option(
        "--log-config",
        type=click.Path(exists=True, dir_okay=False),
        help="Configuration of Python's logging instead: TOML or JSON (dictConfig), or INI.",
    ),
    option(
        "--log-payload",
        type=SIZE,
        default=128,
        show_default=True,
        of=BOTH,
        sets="log_payload_bytes",
        help="Bytes of each payload that debug shows.",
    ),
)
