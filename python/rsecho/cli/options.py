"""Options that several commands share: what a socket is to be, and where messages go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from rsecho.cli.types import DURATION, RATE, SIZE, KeepAlive

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


def option(*names: str, help: str, **settings: Any) -> Callable[[_F], _F]:
    """An option that also comes from RSECHO_NAME, or `envvar`, and says so in its help."""
    long = next(name.split("/")[0] for name in names if name.startswith("--"))
    variable = "RSECHO_" + long.removeprefix("--").replace("-", "_").upper()
    settings = {"envvar": variable, **settings}
    return click.option(*names, help=help, show_envvar=True, **settings)


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
        help="SO_RCVBUF; the kernel doubles it.  [default: the system's]",
    ),
    option(
        "--send-buffer",
        type=SIZE,
        help="SO_SNDBUF; the kernel doubles it.  [default: the system's]",
    ),
    option(
        "--force-buffers",
        is_flag=True,
        help="Pass net.core.rmem_max and wmem_max where the process may (CAP_NET_ADMIN).",
    ),
)

ip_options = stacked(
    option("--ttl", type=click.IntRange(1, 255), help="IP_TTL, IPV6_UNICAST_HOPS: 1 to 255."),
    option("--dscp", type=click.IntRange(0, 63), help="Code point of replies, 0 to 63 (RFC 2474)."),
    option("--bind-to-device", metavar="INTERFACE", help="SO_BINDTODEVICE: this interface only."),
)

tcp_options = stacked(
    option(
        "--no-delay/--delay",
        default=None,
        help="TCP_NODELAY: send small segments at once, or gather them.  [default: no-delay]",
    ),
    option(
        "--keep-alive", type=KeepAlive(), help="TCP keep-alive probes, as in 30s,5s,3 (tcp(7))."
    ),
    option(
        "--linger",
        type=DURATION,
        help="SO_LINGER: 0 resets connections at their end. More is refused: close would wait.",
    ),
    option("--congestion", metavar="NAME", help="TCP_CONGESTION, as in cubic or reno."),
)


guard_options = stacked(
    option(
        "--allow",
        metavar="CIDR",
        multiple=True,
        help="Answer this network only, as in 192.0.2.0/24; may be given several times.",
    ),
    option(
        "--deny",
        metavar="CIDR",
        multiple=True,
        help="Do not answer this network, even where --allow names it; several times.",
    ),
    option(
        "--answer-service-ports",
        is_flag=True,
        help="UDP: answer source ports below 1024, 2049 and 11211 beyond loopback as well: "
        "forged, they are those of servers that answer back.",
    ),
    option(
        "--loop-guard/--no-loop-guard",
        default=True,
        show_default=True,
        help="UDP: end what goes round and round between this server and another one: replies "
        "have a smaller hop limit than their requests, and beyond loopback few datagrams are "
        "answered whose bytes their sender was sent before.",
    ),
    option(
        "--rate-limit",
        type=RATE,
        help="UDP: datagrams a second that one source is answered, and how many at once "
        "(a tenth of it, at least 5). A source is an IPv4 address or an IPv6 /64.",
    ),
    option("--rate-limit-total", type=RATE, help="UDP: the same for all sources together."),
    option(
        "--max-amplification",
        type=float,
        metavar="X",
        help="UDP: a reply is at most so many times its request on the wire.  "
        "[default: 3 beyond loopback]",
    ),
    option(
        "--max-connections-per-source",
        type=click.IntRange(0),
        help="TCP: connections of one source at a time, 0 for any number.  "
        "[default: 4096 beyond loopback]",
    ),
)


def guard_settings(given: dict[str, Any]) -> Any:
    """The `Guard` that was asked for."""
    from rsecho.guard import Guard

    return Guard(
        allow=given["allow"],
        deny=given["deny"],
        answer_service_ports=given["answer_service_ports"],
        loop_guard=given["loop_guard"],
        rate_per_source=given["rate_limit"],
        rate_total=given["rate_limit_total"],
        max_amplification=given["max_amplification"],
        connections_per_source=given["max_connections_per_source"],
    )


def socket_settings(given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Keyword arguments for a server or client from the options that were given."""
    return {
        keyword: given[option_name]
        for option_name, keyword in names.items()
        if given.get(option_name) is not None
    }


BUFFER_NAMES = {
    "recv_buffer": "recv_buffer_bytes",
    "send_buffer": "send_buffer_bytes",
    "force_buffers": "force_buffers",
}
IP_NAMES = {"ttl": "ttl", "dscp": "dscp", "bind_to_device": "bind_to_device"}
TCP_NAMES = {
    "no_delay": "no_delay",
    "keep_alive": "keep_alive",
    "linger": "linger",
    "congestion": "congestion",
}

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
        help="Bytes of each payload that debug shows.",
    ),
)
