"""The life of `rsecho serve`: start, watch for signals, drain, end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from rsecho.cli.failure import CANNOT_START, RUN_TIME, CommandError, failing_with
from rsecho.cli.interval import Meter

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from rsecho.cli.printer import Printer
    from rsecho.server import Server

# How often the foreground looks whether a server has ended by itself.
_LOOK_SECONDS = 0.2

# How long a reader of our output that hangs may hold up the end.
_FLUSH_SECONDS = 2.0

# At a second signal: how long is waited for workers that can end, and for log lines.
_LAST_SECONDS = 0.2


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

    def run(self, drain_timeout: float, stats_interval: float | None) -> None:
        """Serves, with statistics at this interval, in seconds; returns when drained, fails when a
        server could not go on."""
        from rsecho import flush_logs
        from rsecho._rsecho import SignalWatch

        # Taken synchronously, so that no handler runs in the midst of something.
        signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            # The terminal is gone. Under nohup(1), which ignores it, serving goes on.
            signals.append(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        meter = Meter(self._servers, self._printer.stats, stats_interval)
        signal.signal(signal.SIGUSR1, lambda *_: meter.ask())
        watch = SignalWatch(signals, self._say_last_words)
        with failing_with(CANNOT_START):
            for server in self._servers:
                self._start(server)
        for taker in self._takers:
            taker.start()
        # Before anybody can know that it listens: what is counted from then on is told.
        meter.start()
        for server in self._servers:
            self._printer.listening(server)
        self._printer.ready()
        while any(server.is_running for server in self._servers):
            if watch.wait(min(_LOOK_SECONDS, meter.time_to_due())):
                self._drain(drain_timeout)
                watch.give_way()
                break
            meter.tell_if_due()
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
        if sys.stdout is not None:  # it is, where the terminal has hung up
            sys.stdout.flush()
        sys.stderr.flush()


def _stop(server: Server, drain_timeout: float) -> None:
    from rsecho import StopTimeoutError

    # Which worker stays in its responder is said as the process ends.
    with contextlib.suppress(StopTimeoutError):
        server.stop(drain_timeout)
