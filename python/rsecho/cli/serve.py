"""`rsecho serve`: servers in the foreground."""

from __future__ import annotations

from typing import Any

import click

from rsecho.cli import answers, receiving
from rsecho.cli import options as shared
from rsecho.cli.failure import USAGE, CommandError
from rsecho.cli.options import BOTH, TCP, UDP, option
from rsecho.cli.types import DURATION, SIZE, CpuList, HostPort

# Below it, printing is all that the process does.
_LEAST_STATS_SECONDS = 0.01


def _stats_interval(
    context: click.Context, option: click.Parameter, seconds: float | None
) -> float | None:
    if seconds is not None and seconds < _LEAST_STATS_SECONDS:
        text = "the interval is at least 10ms; leave it out for no statistics"
        raise click.BadParameter(text, context, option)
    return seconds


@click.command("serve", context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--udp",
    multiple=True,
    type=HostPort("localhost"),
    help="Answer UDP there; may be given several times. Port 0 picks a free one.",
)
@option(
    "--tcp",
    multiple=True,
    type=HostPort("localhost"),
    help="Answer TCP there; may be given several times. Port 0 picks a free one.",
)
@shared.family_options
@shared.buffer_options
@option(
    "--reuse-address/--no-reuse-address",
    default=None,
    of=BOTH,
    help="SO_REUSEADDR. TCP: skip TIME_WAIT. UDP: lets any other process that also sets it "
    "take the port and the traffic.  [default: on for TCP, off for UDP]",
)
@option(
    "--reuse-port",
    is_flag=True,
    of=BOTH,
    help="SO_REUSEPORT: share the port with sockets of this user.",
)
@option(
    "--ipv6-only/--dual-stack",
    default=None,
    of=BOTH,
    help="IPV6_V6ONLY: whether [::] answers IPv4 as well.  [default: the system's]",
)
@shared.ip_options
@option(
    "--timeout",
    type=DURATION,
    help="SO_RCVTIMEO and SO_SNDTIMEO: a receive that waited so long is counted and goes on; "
    "a reply that finds no room for so long is given up; 0: a TCP reply never is.  "
    "[default: 1s for UDP replies, 60s for TCP beyond loopback]",
)
@option(
    "--idle-timeout",
    type=DURATION,
    of=BOTH,
    help="UDP: end when nothing came for so long. TCP: close a connection over which nothing "
    "moved; 0: never.  [default: 1h for TCP beyond loopback]",
)
@option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    of=BOTH,
    help="Threads a listener.",
)
@option(
    "--engine",
    type=click.Choice(["auto", "batch", "portable"]),
    default="auto",
    show_default=True,
    of=BOTH,
    help="How the kernel is asked: many datagrams or connections a call (Linux), or as every "
    "Unix can.",
)
@option(
    "--wait",
    type=click.Choice(["balanced", "latency", "busy"]),
    default="balanced",
    show_default=True,
    of=BOTH,
    help="What to do while nothing comes. Sleep; ask for 50 us first while traffic is dense; "
    "never sleep (a whole core a worker).",
)
@option(
    "--cpus", type=CpuList(), of=BOTH, help="CPUs that workers are bound to in turn, as in 0,2-3."
)
@option(
    "--max-datagram",
    type=SIZE,
    of=UDP,
    sets="max_datagram_bytes",
    help="UDP: answer longer datagrams with so many of their bytes.",
)
@option("--stop-on-empty", is_flag=True, of=UDP, help="UDP: an empty datagram ends that server.")
@option(
    "--backlog",
    type=click.IntRange(0),
    of=TCP,
    help="TCP: connections that may wait.  [default: somaxconn]",
)
@option(
    "--max-connections",
    type=click.IntRange(1),
    of=TCP,
    help="TCP: connections at a time; more wait.",
)
@option(
    "--max-connection-time",
    type=DURATION,
    of=TCP,
    sets="max_connection_seconds",
    help="TCP: close a connection that has lived for so long, whatever came over it; 0: never.  "
    "[default: never]",
)
@option(
    "--min-rate",
    type=SIZE,
    metavar="BYTES",
    of=TCP,
    sets="min_bytes_per_second",
    help="TCP: close a connection over which fewer bytes a second came, on average over each "
    "--min-rate-window; 0: never.  [default: never]",
)
@option(
    "--min-rate-window",
    type=DURATION,
    default=10.0,
    show_default="10s",
    of=TCP,
    help="TCP: how long each time is over which --min-rate is measured; the first is a new "
    "connection's grace.",
)
@shared.tcp_options
@answers.answer_options
@shared.guard_options
@receiving.transfer_options
@option("--unpack", metavar="FORMAT", help="Decode what comes as records, as in '! I 2s Q 2h f'.")
@option("--names", help="Names of a record's fields.  [default: field_0, field_1, …]")
@option(
    "--drain-timeout",
    type=DURATION,
    default=5.0,
    show_default=True,
    help="At the end, answer what has come already for so long at most.",
)
@option(
    "--stats",
    type=DURATION,
    callback=_stats_interval,
    metavar="INTERVAL",
    help="Print what each listener did per second, at this interval: packets, bytes, connections, "
    "and what was dropped, by reason. SIGUSR1 prints it once.",
)
@option("--json", "as_json", is_flag=True, help="At the end, print one JSON document.")
@option("--jsonl", "as_jsonl", is_flag=True, help="Print a JSON document an event or record.")
@shared.log_options
def command(**given: Any) -> None:
    """Answer UDP and TCP with what was sent (RFC 862).

    Without --udp and --tcp: both on localhost:9999, IPv4 and IPv6. Sockets passed by systemd
    (LISTEN_FDS) are served as well. SIGINT, SIGTERM or SIGHUP: answer what has come, print the
    totals, end; a second one: end at once, with status 128 + its number. SIGUSR1: print
    statistics once.
    """
    from rsecho import FormatError, Guard, RecordLayout
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
        try:
            common["unpack"] = RecordLayout(given["unpack"], names=given["names"])
        except FormatError as error:
            raise CommandError(str(error), USAGE) from None
        if given["as_jsonl"]:
            common["on_record"] = printer.record
    elif given["names"] is not None:
        raise click.UsageError("--names needs --unpack: it names the fields of a format")
    try:
        common["guard"] = Guard(**shared.keywords("guard"))
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    udp, tcp = (shared.keywords(each) | common for each in ("udp", "tcp"))
    if not given["reuse_port"]:
        del udp["reuse_port"], tcp["reuse_port"]  # several workers turn it on themselves
    if udp.get("idle_timeout") == 0:
        del udp["idle_timeout"]  # it never ends by itself, as without
    if given["min_rate"] == 0:
        del tcp["min_bytes_per_second"]  # as without
    if given["timeout"] == 0:
        tcp["send_timeout"] = 0
    policy = receiving.policy(given)
    if policy is not None and given["as_jsonl"]:
        policy = Announced.of(policy)
    udp["transfer"] = policy
    listeners = Listeners(
        shared.family(given["ipv4"], given["ipv6"]),
        udp=udp,
        tcp=tcp,
    )
    takes_messages = isinstance(policy, Announced)
    foreground = Foreground(listeners.bind(given["udp"], given["tcp"]), printer, takes_messages)
    foreground.run(given["drain_timeout"], given["stats"])
