"""The thread that takes native events to `logging` and to `on_record` callbacks.

Rule 1: native threads never wait for this one. The queue is bounded; what does not fit is
counted and told.
Rule 2: nothing that a handler, a filter or a callback raises ends this thread, not even
SystemExit: it would silence every server.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from rsecho._child import end_child
from rsecho._limiter import Limiter, remind_by
from rsecho._lines import emit, escape_payload, host_port, marked
from rsecho._rsecho import EventQueue
from rsecho._servers import live_servers
from rsecho.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsecho import _rsecho
    from rsecho.layout import RecordLayout

# Silent until the program configures logging.
logging.getLogger("rsecho").addHandler(logging.NullHandler())

SERVER = logging.getLogger("rsecho.server")
ACCESS = logging.getLogger("rsecho.access")
RECORDS = logging.getLogger("rsecho.records")

# How often levels are looked at; also how long this thread sleeps at most, so that a line that
# a worker holds back for a second is written when that is over.
_SECOND = 1.0

# Events taken at a time: a second's look at the levels is never far.
_BATCH = 512


class Sink:
    """What one server does with records. Outlives the server until its last event is out."""

    def __init__(
        self,
        layout: RecordLayout | None,
        on_record: Callable[[Record], object] | None,
        failures: Limiter,
    ) -> None:
        self.layout = layout
        self.on_record = on_record
        self.unfit = Limiter()
        self.failed = Limiter()
        self._failures = failures

    def finish(self) -> None:
        """Writes what was held back: nothing may come after the server's last line."""
        for limiter in (self.unfit, self.failed, self._failures):
            limiter.finish()


class Pump:
    """One for the process."""

    def __init__(self) -> None:
        self.queue = EventQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._sinks: dict[int, Sink] = {}
        self._flushes: list[threading.Event] = []
        # What holds a line back.
        self._held: set[Limiter] = set()
        self._next_look = 0.0
        self._lost = 0
        self._lost_limiter = Limiter()
        self._fault_limiter = Limiter()
        # A child that is forked on this thread must not go on in its parent's log.
        self._process = os.getpid()

    def attach(self, server_id: int, sink: Sink) -> None:
        """Makes ready for the events of a server."""
        with self._lock:
            self._sinks[server_id] = sink
            if self._thread is None:
                self._is_closing = False
                self.queue.reopen()
                self._thread = threading.Thread(target=self._run, name="rsecho-log", daemon=True)
                self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Waits until what has happened so far is written; False: not in time."""
        done = threading.Event()
        with self._lock:
            if self._thread is None:
                return True
            if self._thread is threading.current_thread():
                return False
            self._flushes.append(done)
        self.queue.wake()
        return done.wait(timeout)

    def remind(self, limiter: Limiter) -> None:
        """Has the line written that is held back there, when it is due."""
        with self._lock:
            if limiter in self._held:
                return
            self._held.add(limiter)
            if self._thread is None or self._thread is threading.current_thread():
                return
        self.queue.wake()

    def finish(self, timeout: float) -> None:
        """Writes what is there and ends the thread; gives up on a handler that hangs."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._is_closing = True
            self.queue.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self.queue.wait(self._time_to_due())
            except SystemExit:
                # The interpreter is going and nobody has told us otherwise.
                return
            # With more than that: it comes faster than it is taken.
            while self._take() >= _BATCH:
                self._look()
            self._look()
        while self._take():
            pass
        self._tell_lost()
        with self._lock:
            held, self._held = self._held, set()
        for limiter in held:
            self._attempt(limiter.finish)

    def _time_to_due(self) -> float:
        with self._lock:
            times = [due for limiter in self._held if (due := limiter.due) is not None]
        return max(0.0, min(_SECOND, min(times, default=math.inf) - time.monotonic()))

    def _flush_due(self) -> None:
        if not self._held:
            return
        with self._lock:
            held, self._held = self._held, set()
        for limiter in held:
            self._attempt(limiter.flush)
        with self._lock:
            self._held |= {limiter for limiter in held if limiter.due is not None}

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BaseException as error:
            self._fault(error)

    def _take(self) -> int:
        # Before the events are: what happened before a flush was asked for is among them.
        with self._lock:
            flushes = list(self._flushes)
        events = self.queue.drain(_BATCH)
        for server_id, event in events:
            raised = None
            try:
                self._dispatch(server_id, event)
            except BaseException as error:
                raised = error
            if os.getpid() != self._process:
                end_child(raised, "on_record or a handler of logging")
            if raised is not None:
                self._fault(raised)
        if len(events) < _BATCH:
            with self._lock:
                self._flushes = [flush for flush in self._flushes if flush not in flushes]
            for flush in flushes:
                flush.set()
        return len(events)

    def _look(self) -> None:
        self._flush_due()
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _SECOND
        try:
            for server in live_servers():
                server._follow_levels()
            self._tell_lost()
        except BaseException as error:
            self._fault(error)

    def _tell_lost(self) -> None:
        self._lost += self.queue.take_dropped()
        if not self._lost:
            return

        def write(_more: str) -> None:
            lost, self._lost = self._lost, 0
            text = f"{lost} events were not logged: they came faster than logging takes them"
            emit(SERVER, logging.WARNING, time.time_ns(), text, event="lost", count=lost)

        self._lost_limiter.offer(write)

    def _fault(self, error: BaseException) -> None:
        """What logging itself does with an error of a handler: says so on stderr."""
        if not logging.raiseExceptions:
            return
        text = marked("".join(traceback.format_exception(error)))

        def write(more: str) -> None:
            # Standard error may be closed, or be what raised.
            with contextlib.suppress(Exception):
                sys.stderr.write(f"--- rsecho: logging raised{more} ---\n{text}\n")

        self._fault_limiter.offer(write)

    def _dispatch(self, server_id: int, event: _rsecho._Event) -> None:
        if event[0] == "notice":
            _, when, server, level, name, text, parts = event
            if name == "wake":
                return
            if name == "stopped" and (sink := self._sinks.pop(server_id, None)):
                # The last that is heard of it.
                self._attempt(sink.finish)
            emit(SERVER, level, when, text, event=name, server=server, **_named(server, parts))
        elif event[0] == "received":
            _received(event)
        elif event[0] == "answered":
            _answered(event)
        elif event[0] == "record":
            self._record(self._sinks.get(server_id), event)
        elif event[0] == "unfit":
            self._unfit(self._sinks.get(server_id), event)
        elif event[0] == "opened":
            _, when, server, peer = event
            text = f"{server} opened by {host_port(peer)}"
            ends: dict[str, Any] = {"server": server, "peer": host_port(peer)}
            emit(ACCESS, logging.DEBUG, when, text, event="opened", **ends)
        else:
            _, when, server, peer, why, received, sent = event
            text = (
                f"{server} closed with {host_port(peer)}: {why}, received {received}, sent {sent}"
            )
            ends = {"server": server, "peer": host_port(peer), "reason": why}
            counts: dict[str, Any] = {"received_bytes": received, "sent_bytes": sent}
            emit(ACCESS, logging.DEBUG, when, text, event="closed", **ends, **counts)

    def _record(self, sink: Sink | None, event: _rsecho._RecordEvent) -> None:
        _, when, server, peer, data = event
        if sink is None or sink.layout is None:
            return
        record = Record(when, server, peer, data, sink.layout, sink.layout.unpack(data))
        try:
            if RECORDS.isEnabledFor(logging.INFO):
                fields = record.fields
                values = " ".join(f"{name}={value!r}" for name, value in fields.items())
                parts: dict[str, Any] = {"server": server, "peer": host_port(peer)}
                parts |= {"length_bytes": len(data), "fields": fields}
                text = f"{server} record from {host_port(peer)}: {values}"
                emit(RECORDS, logging.INFO, when, text, event="record", **parts)
        finally:
            # A log handler's failure is no reason to withhold the record.
            if sink.on_record is not None:
                self._call(sink, sink.on_record, record)

    def _call(self, sink: Sink, on_record: Callable[[Record], object], record: Record) -> None:
        try:
            on_record(record)
        except BaseException as error:
            if os.getpid() != self._process:
                # In a child that it forked: nothing is to be logged there.
                raise
            raised = error
            peer = host_port(record.peer)

            def write(more: str) -> None:
                text = f"{record.server} on_record raised for a record from {peer}{more}"
                parts: dict[str, Any] = {"server": record.server, "peer": peer}
                now = time.time_ns()
                emit(SERVER, logging.ERROR, now, text, event="on_record", raised=raised, **parts)

            sink.failed.offer(write)

    def _unfit(self, sink: Sink | None, event: _rsecho._UnfitEvent) -> None:
        _, when, server, peer, length, data = event
        if sink is None or sink.layout is None:
            return
        size = sink.layout.size

        def write(more: str) -> None:
            text = (
                f"{server} no record from {host_port(peer)}: expected {size} bytes, received "
                f"{length}: {escape_payload(data, length)}{more}"
            )
            parts: dict[str, Any] = {"server": server, "peer": host_port(peer)}
            parts |= {"length_bytes": length, "expected_bytes": size}
            emit(RECORDS, logging.WARNING, when, text, event="unfit", **parts)

        sink.unfit.offer(write)


def _named(server: str, parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of a notice as attributes of a record, counters by their names in the stats."""
    counters: dict[str, Any] = parts.pop("counters", {})
    if "reasons" in parts:
        name = "dropped" if server.startswith("udp") else "closed"
        parts[name] = {reason: count for reason, count in parts.pop("reasons").items() if count}
    return parts | counters


def _received(event: _rsecho._ReceivedEvent) -> None:
    if not ACCESS.isEnabledFor(logging.DEBUG):
        return
    _, when, server, pair, length, data, dropped = event
    peer, payload = host_port(pair), escape_payload(data, length)
    parts: dict[str, Any] = {
        "server": server,
        "peer": peer,
        "length_bytes": length,
        "payload": payload,
    }
    if dropped is None:
        text = f"{server} received {length} bytes from {peer}: {payload}"
        emit(ACCESS, logging.DEBUG, when, text, event="received", **parts)
    else:
        text = f"{server} dropped {length} bytes from {peer}: {dropped}: {payload}"
        emit(ACCESS, logging.DEBUG, when, text, event="dropped", reason=dropped, **parts)


def _answered(event: _rsecho._AnsweredEvent) -> None:
    _, when, server, pair, length, dropped = event
    peer = host_port(pair)
    parts: dict[str, Any] = {"server": server, "peer": peer, "length_bytes": length}
    if dropped is None:
        text = f"{server} sent {length} bytes to {peer}"
        emit(ACCESS, logging.DEBUG, when, text, event="sent", **parts)
    else:
        text = f"{server} could not send {length} bytes to {peer}: {dropped}"
        emit(ACCESS, logging.DEBUG, when, text, event="dropped", reason=dropped, **parts)


_pump: Pump | None = None
_making = threading.Lock()


def is_known() -> bool:
    """True once there is a pump."""
    return _pump is not None


def get() -> Pump:
    """The process's pump."""
    global _pump
    with _making:
        if _pump is None:
            _pump = Pump()
        return _pump


def flush(timeout: float) -> bool:
    """Waits until what has happened so far is written; False: not in time."""
    return _pump is None or _pump.flush(timeout)


def remind(limiter: Limiter) -> None:
    """Has the line written that is held back there, when it is due."""
    if _pump is not None:
        _pump.remind(limiter)


remind_by(remind)


def finish(timeout: float) -> None:
    """Ends the pump's thread once everything is written."""
    if _pump is not None:
        _pump.finish(timeout)


def forget() -> None:
    """For the child of a fork: its parent's pump is not there, and its locks may be held."""
    global _pump, _making
    _pump = None
    _making = threading.Lock()
