"""`rsecho serve`: servers in the foreground."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from rsecho._lines import host_port, printable
from rsecho.cli import answers, receiving
from rsecho.cli import options as shared
from rsecho.cli.failure import CANNOT_START, RUN_TIME, USAGE, CommandError, failing_with
from rsecho.cli.options import BOTH, TCP, UDP, option, section
from rsecho.cli.shape import Command
from rsecho.cli.types import DURATION, SIZE, Address, CpuList, Listen, Whole

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rsecho._rsecho import _Message
    from rsecho.records import Record
    from rsecho.server import Server

# How often the foreground looks whether a server has ended by itself.
_LOOK_SECONDS = 0.2

# How long a reader of our output that hangs may hold up the end.
_FLUSH_SECONDS = 2.0

# At a second signal: how long is waited for workers that can end, and for log lines.
_LAST_SECONDS = 0.2


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
        show_default="0",
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
        help="Bind the workers to these CPUs in turn, as in 0,2-3.",
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
    shared.log_options,
)
def command(**given: Any) -> None:
    """Answer UDP and TCP with what was sent (RFC 862).

    Without --udp and --tcp: both on localhost:9999, IPv4 and IPv6. Sockets passed by systemd
    (LISTEN_FDS) are served as well.

    SIGINT or SIGTERM: answer what has arrived, print the totals, end with status 0. A second
    signal: end at once with status 128 + its number.
    """
    from rsecho import FormatError, Guard, RecordLayout
    from rsecho._policy import Announced
    from rsecho.cli.listen import Listeners
    from rsecho.cli.log_setup import configure_logging

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
    Foreground(listeners.bind(given["udp"], given["tcp"]), printer, takes_messages).run(
        given["drain_timeout"]
    )


class Printer:
    """Standard output: a line a listener, `ready`, records, totals."""

    def __init__(self, as_json: bool, as_jsonl: bool) -> None:
        self._as_json = as_json
        self._as_jsonl = as_jsonl
        self._is_told = threading.Lock()

    def listening(self, server: Server) -> None:
        """The address, with the real port."""
        if self._as_jsonl:
            impaired = {"impair": server.impairment} if server.impairment else {}
            self._line("listening", url=server.url, engine=server.engine, **impaired)
        else:
            click.echo(f"rsecho listening {printable(server.url)}", err=self._as_json)

    def ready(self) -> None:
        """All listeners answer."""
        if self._as_jsonl:
            self._line("ready")
        else:
            click.echo("rsecho ready", err=self._as_json)

    def record(self, record: Record) -> None:
        """A decoded record (from the thread that logs)."""
        parts = {"url": record.server, "peer": host_port(record.peer), "fields": record.fields}
        self._line("record", time_ns=record.time_ns, **parts)

    def message(self, url: str, message: _Message) -> None:
        """A large message that came, or failed (from a thread of its own)."""
        if not self._as_jsonl:
            return
        peer, number, name, _, path, length, digest, missing, error = message
        parts: dict[str, Any] = {"name": "/".join(name), "path": path, "length_bytes": length}
        if error is not None:
            parts |= dict(zip(("reason", "error"), error, strict=True))
        if missing:
            parts["missing"] = missing
        self._line(
            "transfer", url=url, peer=host_port(peer), id=number, **parts, digest=digest.hex()
        )

    def totals(self, servers: list[Server]) -> None:
        """What each server counted, and why it ended. Printed once."""
        if not self._is_told.acquire(blocking=False):
            return
        from rsecho.cli.output import print_json

        all_totals = [_totals(server) for server in servers]
        if self._as_json:
            print_json({"servers": all_totals}, schema="serve/1", indent=2)
            return
        for totals in all_totals:
            if self._as_jsonl:
                self._line("totals", **totals)
            else:
                words = " ".join(_words(totals["stats"]))
                url = printable(totals["url"])
                click.echo(f"rsecho totals {url} ended={totals['ended']} {words}")

    def _line(self, event: str, **parts: Any) -> None:
        from rsecho.cli.output import print_json

        print_json({"event": event, **parts}, schema="serve.event/1")


def _totals(server: Server) -> dict[str, Any]:
    reason = server.wait(0.0)
    stats = dataclasses.asdict(server.stats())
    return {
        "url": server.url,
        "engine": server.engine,
        "ended": reason.name if reason else "running",
        "impair": server.impairment,
        "stats": stats,
        # With what turned out only as it served, such as trains that the kernel refused.
        "options": {name: dataclasses.asdict(line) for name, line in server.socket_report.items()},
    }


# Totals of interest also when they are zero.
_ALWAYS_SHOWN = {
    "accepted_connections", "received_packets", "received_bytes", "sent_packets", "sent_bytes",
}  # fmt: skip


def _words(stats: dict[str, Any]) -> list[str]:
    words = []
    for name, value in stats.items():
        if isinstance(value, dict):
            words += [f"{name}.{reason}={count}" for reason, count in value.items() if count]
        elif value or name in _ALWAYS_SHOWN:
            words.append(f"{name}={value}")
    return words


class Foreground:
    """Runs servers until a signal comes or all have ended."""

    def __init__(self, servers: list[Server], printer: Printer, takes_messages: bool) -> None:
        from rsecho import UdpServer

        self._servers = servers
        self._printer = printer
        self._takers = [
            threading.Thread(target=self._take_messages, args=(server,), daemon=True)
            for server in servers
            if takes_messages and isinstance(server, UdpServer)
        ]
        self._loop: AbstractEventLoop | None = None

    def run(self, drain_timeout: float) -> None:
        """Serves; returns when drained, fails when a server could not go on."""
        from rsecho import flush_logs
        from rsecho._rsecho import SignalWatch

        # Taken synchronously, so that no handler runs in the midst of something.
        signals = [signal.SIGINT, signal.SIGTERM]
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        watch = SignalWatch(signals, self._say_last_words)
        with failing_with(CANNOT_START):
            for server in self._servers:
                self._start(server)
        for taker in self._takers:
            taker.start()
        for server in self._servers:
            self._printer.listening(server)
        self._printer.ready()
        while any(server.is_running for server in self._servers):
            if watch.wait(_LOOK_SECONDS):
                self._drain(drain_timeout)
                watch.give_way()
                break
        for taker in self._takers:
            taker.join(_FLUSH_SECONDS)
        # Records are printed as they are logged: all of them come before the totals.
        flush_logs(_FLUSH_SECONDS)
        self._printer.totals(self._servers)
        reasons = [server.wait(0.0) for server in self._servers]
        for server, reason in zip(self._servers, reasons, strict=True):
            if reason is not None and not reason.is_healthy:
                raise CommandError(f"{server.url} has ended: {reason.detail}", RUN_TIME)

    def _take_messages(self, server: Server) -> None:
        """Prints each of them: what is to be kept is a file by now."""
        while True:
            message = server._native.take_message(None)
            if message is not None:
                self._printer.message(server.url, message)
            elif server.wait(0.0) is not None:
                return

    def _start(self, server: Server) -> None:
        if not server.needs_loop:
            return server.start()
        import asyncio

        if self._loop is None:
            # For responders that are coroutine functions; it ends with the process.
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def start() -> None:
            server.start()

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    def _drain(self, drain_timeout: float) -> None:
        threads = [
            threading.Thread(target=_stop, args=(server, drain_timeout), daemon=True)
            for server in self._servers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _say_last_words(self) -> None:
        """What a second signal leaves time for: totals and log as far as they are there."""
        import logging

        from rsecho import flush_logs

        for server in self._servers:
            server._native.request_stop(0.0)
        deadline = time.monotonic() + _LAST_SECONDS
        for server in self._servers:
            server.wait(max(deadline - time.monotonic(), 0.0))
        flush_logs(_LAST_SECONDS)
        self._printer.totals(self._servers)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()


def _stop(server: Server, drain_timeout: float) -> None:
    from rsecho import StopTimeoutError

    # Which worker stays in its responder is said as the process ends.
    with contextlib.suppress(StopTimeoutError):
        server.stop(drain_timeout)
