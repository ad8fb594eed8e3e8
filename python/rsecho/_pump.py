"""The thread that takes native events to `logging` and to `on_record` callbacks.

Rule 1: native threads never wait for this one. The queue is bounded; what does not fit is
counted and told.
Rule 2: nothing that a handler, a filter or a callback raises ends this thread, not even
SystemExit: it would silence every server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from rsecho._lifecycle import end_child, live_servers
from rsecho._rsecho import EventQueue
from rsecho.logs import escape_payload
from rsecho.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsecho import _rsecho
    from rsecho.layout import RecordLayout

SERVER = logging.getLogger("rsecho.server")
ACCESS = logging.getLogger("rsecho.access")
RECORDS = logging.getLogger("rsecho.records")

# How often levels are looked at, and how often a repeated line may appear.
_SECOND = 1.0

# Events taken at a time: a second's look at the levels is never far.
_BATCH = 512


class Sink:
    """What one server does with records. Outlives the server until its last event is out."""

    def __init__(
        self, layout: RecordLayout | None, on_record: Callable[[Record], object] | None
    ) -> None:
        self.layout = layout
        self.on_record = on_record
        self.unfit = Limiter()
        self.failed = Limiter()


class Limiter:
    """Lets one line a second through; the next one says how many were held back."""

    def __init__(self) -> None:
        self._due = 0.0
        self._held = 0
        self._write: Callable[[str], None] = lambda _: None

    def offer(self, write: Callable[[str], None]) -> None:
        """Calls `write` with what to append to its line, now or when it is due."""
        self._held += 1
        self._write = write
        self.flush()

    def flush(self) -> None:
        """Writes the last line that was held back, if it is due."""
        now = time.monotonic()
        if self._held and now >= self._due:
            held, self._held, self._due = self._held, 0, now + _SECOND
            self._write(f" ({held - 1} more like it)" if held > 1 else "")


class Pump:
    """One for the process."""

    def __init__(self) -> None:
        self.queue = EventQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._sinks: dict[int, Sink] = {}
        self._flushes: list[threading.Event] = []
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
                self.queue.wait(_SECOND)
            except SystemExit:
                # The interpreter is going and nobody has told us otherwise.
                return
            while self._take() == _BATCH:
                self._look()
            self._look()
        while self._take():
            pass
        self._tell_lost()

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
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _SECOND
        try:
            for server in live_servers():
                server._follow_levels()
            for sink in list(self._sinks.values()):
                sink.unfit.flush()
                sink.failed.flush()
            self._fault_limiter.flush()
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
            _emit(SERVER, logging.WARNING, time.time_ns(), text, event="lost", count=lost)

        self._lost_limiter.offer(write)

    def _fault(self, error: BaseException) -> None:
        """What logging itself does with an error of a handler: says so on stderr."""
        if not logging.raiseExceptions:
            return
        text = "".join(traceback.format_exception(error))

        def write(more: str) -> None:
            # Standard error may be closed, or be what raised.
            with contextlib.suppress(Exception):
                sys.stderr.write(f"--- rsecho: logging raised{more} ---\n{text}")

        self._fault_limiter.offer(write)

    def _dispatch(self, server_id: int, event: _rsecho._Event) -> None:
        if event[0] == "notice":
            _, when, server, level, name, text = event
            if name == "wake":
                return
            _emit(SERVER, level, when, text, event=name, server=server)
            if name == "stopped":
                # The last that is heard of it.
                self._sinks.pop(server_id, None)
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
            text = f"{server} opened by {_host_port(peer)}"
            parts: dict[str, Any] = {"server": server, "peer": _host_port(peer)}
            _emit(ACCESS, logging.DEBUG, when, text, event="opened", **parts)
        else:
            _, when, server, peer, why, received, sent = event
            text = (
                f"{server} closed with {_host_port(peer)}: {why}, received {received}, sent {sent}"
            )
            parts = {"server": server, "peer": _host_port(peer), "reason": why}
            parts |= {"received_bytes": received, "sent_bytes": sent}
            _emit(ACCESS, logging.DEBUG, when, text, event="closed", **parts)

    def _record(self, sink: Sink | None, event: _rsecho._RecordEvent) -> None:
        _, when, server, peer, data = event
        if sink is None or sink.layout is None:
            return
        record = Record(when, server, peer, data, sink.layout, sink.layout.unpack(data))
        try:
            if RECORDS.isEnabledFor(logging.INFO):
                fields = record.fields
                values = " ".join(f"{name}={value!r}" for name, value in fields.items())
                parts: dict[str, Any] = {"server": server, "peer": _host_port(peer)}
                parts |= {"length": len(data), "fields": fields}
                text = f"{server} record from {_host_port(peer)}: {values}"
                _emit(RECORDS, logging.INFO, when, text, event="record", **parts)
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
            peer = _host_port(record.peer)

            def write(more: str) -> None:
                text = f"{record.server} on_record raised for a record from {peer}{more}"
                parts: dict[str, Any] = {"server": record.server, "peer": peer}
                now = time.time_ns()
                _emit(SERVER, logging.ERROR, now, text, event="on_record", raised=raised, **parts)

            sink.failed.offer(write)

    def _unfit(self, sink: Sink | None, event: _rsecho._UnfitEvent) -> None:
        _, when, server, peer, length, data = event
        if sink is None or sink.layout is None:
            return
        size = sink.layout.size

        def write(more: str) -> None:
            text = (
                f"{server} no record from {_host_port(peer)}: expected {size} bytes, received "
                f"{length}: {escape_payload(data, length)}{more}"
            )
            parts: dict[str, Any] = {"server": server, "peer": _host_port(peer)}
            parts |= {"length": length, "expected": size}
            _emit(RECORDS, logging.WARNING, when, text, event="unfit", **parts)

        sink.unfit.offer(write)


def _received(event: _rsecho._ReceivedEvent) -> None:
    if not ACCESS.isEnabledFor(logging.DEBUG):
        return
    _, when, server, pair, length, data, dropped = event
    peer, payload = _host_port(pair), escape_payload(data, length)
    parts: dict[str, Any] = {"server": server, "peer": peer, "length": length, "payload": payload}
    if dropped is None:
        text = f"{server} received {length} bytes from {peer}: {payload}"
        _emit(ACCESS, logging.DEBUG, when, text, event="received", **parts)
    else:
        text = f"{server} dropped {length} bytes from {peer}: {dropped}: {payload}"
        _emit(ACCESS, logging.DEBUG, when, text, event="dropped", reason=dropped, **parts)


def _answered(event: _rsecho._AnsweredEvent) -> None:
    _, when, server, pair, length, dropped = event
    peer = _host_port(pair)
    parts: dict[str, Any] = {"server": server, "peer": peer, "length": length}
    if dropped is None:
        text = f"{server} sent {length} bytes to {peer}"
        _emit(ACCESS, logging.DEBUG, when, text, event="sent", **parts)
    else:
        text = f"{server} could not send {length} bytes to {peer}: {dropped}"
        _emit(ACCESS, logging.DEBUG, when, text, event="dropped", reason=dropped, **parts)


def _emit(
    logger: logging.Logger,
    level: int,
    time_ns: int,
    text: str,
    *,
    raised: BaseException | None = None,
    **parts: object,
) -> None:
    """Logs a line as of the time at which it happened."""
    if not logger.isEnabledFor(level):
        return
    extra = {"time_ns": time_ns, **parts}
    cause = None if raised is None else (type(raised), raised, raised.__traceback__)
    # Without arguments, so a "%" in the text stays one.
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), cause, None, extra)
    seconds = time_ns / 1e9
    record.relativeCreated += (seconds - record.created) * 1e3
    record.created = seconds
    record.msecs = float(time_ns // 1_000_000 % 1000)
    logger.handle(record)


def _host_port(pair: tuple[str, int]) -> str:
    host, port = pair
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def finish(timeout: float) -> None:
    """Ends the pump's thread once everything is written."""
    if _pump is not None:
        _pump.finish(timeout)


def forget() -> None:
    """For the child of a fork: its parent's pump is not there, and its locks may be held."""
    global _pump, _making
    _pump = None
    _making = threading.Lock()
