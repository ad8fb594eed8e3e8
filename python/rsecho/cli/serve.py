"""`rsecho serve`: servers in the foreground."""

from __future__ import annotations

from typing import Any

import click

from rsecho.cli import answers, receiving
from rsecho.cli import options as shared
from rsecho.cli.failure import USAGE, CommandError
from rsecho.cli.options import BOTH, TCP, UDP, option, section
from rsecho.cli.shape import Command
from rsecho.cli.types import DURATION, SIZE, Address, CpuList, Listen, Whole

# Below it, printing is all that the process does.
_LEAST_STATS_SECONDS = 0.01


def _stats_interval(
    context: click.Context, option: click.Parameter, seconds: float | None
) -> float | None:
    if seconds is not None and seconds < _LEAST_STATS_SECONDS:
        text = "the interval is at least 10ms; leave it out for no statistics"
        raise click.BadParameter(text, context, option)
    return seconds


def _flat(
    context: click.Context, option: click.Parameter, value: tuple[tuple[Address, ...], ...]
) -> tuple[Address, ...]:
    """The addresses of all ranges."""
    return tuple(address for each in value for address in each)


@click.command(
    "serve",
    cls=Command,
    examples=[
        ("rsecho serve", "UDP and TCP on localhost:9999, IPv4 and IPv6."),
        ("rsecho serve --udp :7000-7010 --rate-limit 100", "Eleven ports, on all interfaces."),
        (
            "rsecho serve --tcp :7000 --max-connections 1000 --idle-timeout 1m",
            "TCP only, with limits for an open port.",
        ),
        (
            "rsecho serve --responder 'prefix=Echo: ' --upper",
            "Answer something other than an echo.",
        ),
        (
            "rsecho serve --udp 9999 --impair 'delay 50ms 10ms loss 1% seed 7'",
            "A bad network, the same each time.",
        ),
        ("rsecho serve --udp :9999 --transfer incoming", "Take files from rsecho push."),
    ],
)
@section(
    "Listen",
    option(
        "--udp",
        multiple=True,
        type=Listen("udp"),
        callback=_flat,
        help="Answer UDP at this address. 9999 is localhost:9999, :9999 is all interfaces, "
        "7000-7010 is a listener per port, port 0 is any free port. May be given several times.",
    ),
    option(
        "--tcp",
        multiple=True,
        type=Listen("tcp"),
        callback=_flat,
        help="Answer TCP at this address, written in the same way. May be given several times.",
    ),
    shared.family_options,
    option(
        "--ipv6-only/--dual-stack",
        default=None,
        of=BOTH,
        show_default="the system's",
        help="Whether [::] accepts IPv6 only, or IPv4 as well (IPV6_V6ONLY).",
    ),
    option(
        "--reuse-port",
        is_flag=True,
        of=BOTH,
        help="Share the port with other sockets of this user (SO_REUSEPORT).",
    ),
    option(
        "--reuse-address/--no-reuse-address",
        default=None,
        of=BOTH,
        show_default="on for TCP, off for UDP",
        help="SO_REUSEADDR. TCP: bind while old connections are in TIME_WAIT. UDP: allow any other "
        "process that sets it to take over the port and its traffic.",
    ),
    shared.device_option,
)
@section(
    "Sockets",
    shared.buffer_options,
    option(
        "--timeout",
        type=DURATION,
        has_own_variable=True,
        show_default="UDP 1s; TCP 60s, never on loopback",
        help="Socket timeouts (SO_RCVTIMEO, SO_SNDTIMEO). Receive: counted, serving continues. "
        "Send: a UDP reply is dropped, a TCP connection is reset. 0: never.",
    ),
    option(
        "--idle-timeout",
        type=DURATION,
        of=BOTH,
        show_default="UDP never; TCP 1h, never on loopback",
        help="UDP: end the server when nothing has arrived for this long. TCP: close a connection "
        "on which nothing has moved for this long. 0: never.",
    ),
    shared.header_options,
    option(
        "--max-datagram",
        type=SIZE,
        of=UDP,
        sets="max_datagram_bytes",
        verb="limits",
        show_default="no limit",
        help="UDP: answer a longer datagram with this many of its bytes.",
    ),
    option("--stop-on-empty", is_flag=True, of=UDP, help="UDP: an empty datagram ends the server."),
)
@section(
    "TCP",
    option(
        "--max-connections",
        type=Whole(1),
        of=TCP,
        verb="limits",
        show_default="no limit",
        help="How many connections are open at a time. Others wait in the backlog.",
    ),
    option(
        "--backlog",
        type=Whole(0),
        of=TCP,
        show_default="net.core.somaxconn",
        help="How many connections may wait to be accepted (listen(2)).",
    ),
    option(
        "--max-connection-time",
        type=DURATION,
        of=TCP,
        sets="max_connection_seconds",
        verb="limits",
        show_default="never",
        help="Close a connection after this time, even if it is in use. 0: never.",
    ),
    option(
        "--min-rate",
        type=SIZE,
        metavar="BYTES",
        of=TCP,
        sets="min_bytes_per_second",
        show_default="never",
        help="Close a connection that sends fewer bytes per second than this. 0: never.",
    ),
    option(
        "--min-rate-window",
        type=DURATION,
        default=10.0,
        show_default="10s",
        of=TCP,
        help="The time over which --min-rate is averaged. A new connection gets the first one.",
    ),
    shared.tcp_options,
)
@section("Answers", answers.answer_options)
@section("Impairments", answers.impair_options)
@section("Guards", shared.guard_options)
@section("Large messages (UDP)", receiving.transfer_options)
@section(
    "Workers",
    option(
        "--workers",
        type=Whole(1, 1024),
        default=1,
        show_default=True,
        of=BOTH,
        help="Threads per listener.",
    ),
    option(
        "--cpus",
        type=CpuList(),
        of=BOTH,
        show_default="any",
        help="Bind the workers to these CPUs in turn, as in 0,2-3; at most as many as workers.",
    ),
    option(
        "--wait",
        type=click.Choice(["balanced", "latency", "busy"]),
        metavar="HOW",
        default="balanced",
        show_default=True,
        of=BOTH,
        help="balanced: sleep when idle. latency: poll for 50 us, then sleep. busy: poll always "
        "(one core per worker).",
    ),
    shared.engine_option(BOTH),
    option(
        "--drain-timeout",
        type=DURATION,
        default=5.0,
        show_default="5s",
        help="When stopped: how long to go on answering what has already arrived.",
    ),
)
@section(
    "Output",
    shared.json_option,
    shared.jsonl_option,
    option(
        "--stats",
        type=DURATION,
        callback=_stats_interval,
        metavar="INTERVAL",
        show_default="never",
        help="Print rates per second of each listener at this interval, and what was dropped, by "
        "reason. SIGUSR1 prints them once.",
    ),
    shared.log_options,
)
def command(**given: Any) -> None:
    """Answer UDP and TCP with what was sent (RFC 862).

    Without --udp and --tcp: both on localhost:9999, IPv4 and IPv6. Sockets passed by systemd
    (LISTEN_FDS) are served as well.

    SIGINT, SIGTERM or SIGHUP: answer what has arrived, print the totals, end with status 0. A
    second signal: end at once with status 128 + its number. SIGUSR1: print statistics.
    """
    from rsecho import Guard
    from rsecho._policy import Announced
    from rsecho.cli.foreground import Foreground
    from rsecho.cli.listen import Listeners
    from rsecho.cli.log_setup import configure_logging
    from rsecho.cli.printer import Printer

    configure_logging(given["log_level"], given["log_format"], given["log_config"])
    printer = Printer(given["as_json"], given["as_jsonl"])
    common: dict[str, Any] = {}
    if given["timeout"]:
        common |= {"recv_timeout": given["timeout"], "send_timeout": given["timeout"]}
    common |= answers.settings(given)
    if given["unpack"] is not None:
        from rsecho.cli.layouts import layout_of

        common["unpack"] = layout_of("unpack", given["unpack"], given["names"])
        if given["as_jsonl"]:
            common["on_record"] = printer.record
    try:
        guard = Guard(**shared.keywords("guard"))
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    udp, tcp = (shared.keywords(each) | common for each in ("udp", "tcp"))
    udp["guard"], tcp["guard"] = guard.only("udp"), guard.only("tcp")
    if udp.get("idle_timeout") == 0:
        del udp["idle_timeout"]  # it never ends by itself, as without
    if given["min_rate"] == 0:
        tcp.pop("min_bytes_per_second", None)  # as without
    if given["timeout"] == 0:
        tcp["send_timeout"] = 0
    policy = receiving.policy(given)
    if policy is not None and given["as_jsonl"]:
        policy = Announced.of(policy)
    udp["transfer"] = policy
    listeners = Listeners(
        shared.family(given["ipv4"], given["ipv6"]),
        udp=shared.obeyed(udp, "server", "udp"),
        tcp=shared.obeyed(tcp, "server", "tcp"),
    )
    takes_messages = isinstance(policy, Announced)
    foreground = Foreground(listeners.bind(given["udp"], given["tcp"]), printer, takes_messages)
    foreground.run(given["drain_timeout"], given["stats"])
