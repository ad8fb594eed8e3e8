"""What `rsecho serve` prints: a line per listener, `ready`, records, statistics, totals."""

from __future__ import annotations

import dataclasses
import errno
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from rsecho._lines import host_port, printable

if TYPE_CHECKING:
    from rsecho._rsecho import _Message
    from rsecho.cli.interval import Interval
    from rsecho.records import Record
    from rsecho.server import Server


_logger = logging.getLogger("rsecho.server")


class Printer:
    """Standard output: a line per listener, `ready`, records, statistics, totals."""

    def __init__(self, as_json: bool, as_jsonl: bool) -> None:
        self._as_json = as_json
        self._as_jsonl = as_jsonl
        self._is_told = threading.Lock()
        # Asked for now: a terminal that has hung up no longer says that it was one.
        self._is_terminal = sys.stdout.isatty()
        self._prints_stats = True

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

    def stats(self, server: Server, interval: Interval) -> None:
        """What a server did lately. With one document at the end, that is for people."""
        if not self._prints_stats:
            return
        try:
            if self._as_jsonl:
                self._line("stats", url=server.url, **interval.document())
            else:
                line = f"rsecho stats {printable(server.url)} {interval}"
                click.echo(line, err=self._as_json)
        except OSError as error:
            # Clients are still answered, whether or not somebody reads this.
            self._prints_stats = False
            _logger.warning(
                "cannot print statistics: %s; serving goes on without them", error.strerror
            )

    def totals(self, servers: list[Server]) -> None:
        """What each server counted, and why it ended. Printed once."""
        if not self._is_told.acquire(blocking=False):
            return
        try:
            self._print_totals(servers)
        except OSError as error:
            if not (self._is_terminal and error.errno == errno.EIO):
                raise
            # A terminal that has hung up (tty_ioctl(4)): nobody is left to read them, and that is
            # no failure. Python would complain of what it cannot flush while it exits.
            sys.stdout = None

    def _print_totals(self, servers: list[Server]) -> None:
        from rsecho.cli.output import print_json

        all_totals = [_totals(server) for server in servers]
        if self._as_json:
            print_json({"servers": all_totals}, schema="serve/1", indent=2)
            return
        for totals in all_totals:
            if self._as_jsonl:
                self._line("totals", **totals)
            else:
                words = " ".join([f"ended={totals['ended']}", *_words(totals["stats"])])
                click.echo(f"rsecho totals {printable(totals['url'])} {words}")

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


# Totals of interest also when they are zero, unless all are: then the first says it.
_ALWAYS_SHOWN = {
    "accepted_connections", "received_packets", "received_bytes", "sent_packets", "sent_bytes",
}  # fmt: skip


def _words(stats: dict[str, Any]) -> list[str]:
    words = []
    for name, value in stats.items():
        if name == "engine":  # which is not counted; documents have it
            continue
        if isinstance(value, dict):
            words += [f"{name}.{reason}={count}" for reason, count in value.items() if count]
        elif value or name in _ALWAYS_SHOWN:
            words.append(f"{name}={value}")
    return words[:1] if all(word.endswith("=0") for word in words) else words
