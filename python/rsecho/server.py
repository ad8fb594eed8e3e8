"""Echo servers for UDP and TCP.

A server is bound when it is made and answers once started; its workers are native threads
that never wait for Python.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

from rsecho import _lifecycle, _rsecho, _servers, responders, sockets, stats
from rsecho import guard as guards
from rsecho._errors import ServerError, StopTimeoutError
from rsecho.layout import RecordLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Protocol, Self, TypeAlias, Unpack

    from rsecho.guard import Guard
    from rsecho.records import Record
    from rsecho.responders import OnFields, OnRequest
    from rsecho.sockets import OptionReport, TcpServerOptions, UdpServerOptions
    from rsecho.stats import TcpStats, UdpStats

    class HasFileno(Protocol):
        """A socket, or whatever else has a descriptor."""

        def fileno(self) -> int:
            """The descriptor."""

    OnRecord: TypeAlias = Callable[[Record], object]

__all__ = ["Engine", "Server", "StopReason", "TcpServer", "UdpServer", "Wait"]

# The values of `engine=` and `wait=`.
Engine = Literal["auto", "batch", "portable"]
Wait = Literal["balanced", "latency", "busy"]

# How long `close` and leaving a `with` block wait for what is due, as `stop` does.
_DRAIN = 5.0


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a server has ended."""

    name: Literal["stopped", "idle", "empty", "failed", "panicked"]
    """It was told to; nothing came for `idle_timeout`; an empty datagram came and
    `stop_on_empty` was on; a system call that serving needs failed; native code panicked."""
    detail: str
    """The same in a sentence, with the error where there was one."""

    @property
    def is_healthy(self) -> bool:
        """True unless something went wrong."""
        return self.name not in ("failed", "panicked")


class Server(ABC):
    """What UDP and TCP servers have in common. Not made itself."""

    _native: _rsecho.Server

    def __init__(
        self,
        native: _rsecho.Server,
        layout: RecordLayout | None,
        on_record: OnRecord | None,
        log_payload_bytes: int,
        setup: responders.Setup,
    ) -> None:
        self._native = native
        self._setup = setup
        # What only the server itself needs: a callable that knows its server would keep it.
        setup.native = None
        setup.failures.url = native.name
        self._layout = layout
        self._on_record = on_record
        self._log_payload_bytes = log_payload_bytes
        self._is_started = False
        # It was told to stop, and a worker stays in its responder, as somebody was told.
        self._is_left = False
        # The interpreter ends without it, and whatever else there was to use.
        self._is_past_exit = False
        _servers.register(self)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, two items for IPv6 as well; a link-local host keeps its interface,
        as in `fe80::1%eth0`."""
        return self._native.address

    @property
    def url(self) -> str:
        """As in `udp://127.0.0.1:9999`, by which log lines name it."""
        return self._native.name

    @property
    def engine(self) -> str:
        """The engine that really runs: UDP has `batch` and `portable`, TCP `epoll` and
        `portable`."""
        return self._native.engine

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, what was asked for and what the kernel gave."""
        return sockets.report(self._native.socket_report)

    @property
    def needs_loop(self) -> bool:
        """True where its responder is a coroutine function: it is started within a running event
        loop."""
        return self._setup.loop is not None

    @property
    def is_running(self) -> bool:
        """True between start and end."""
        return self._native.is_running

    @abstractmethod
    def stats(self) -> UdpStats | TcpStats:
        """What it has counted so far, all of one moment."""

    def start(self) -> None:
        """Starts the workers and returns.

        Raises:
            StateError: it was started before, or belongs to another process.
        """
        from rsecho import _pump

        if self._setup.loop is not None:
            self._setup.loop.bind(self.url)
        sink = _pump.Sink(self._layout, self._on_record, self._setup.failures.limiter)
        if not (self._native.is_foreign or self._is_started):
            _lifecycle.pump().attach(self._native.id, sink)
            self._follow_levels()
        self._native.start()
        self._is_started = True

    def _follow_levels(self) -> None:
        """Has the workers report each datagram as long as somebody logs that."""
        import logging

        is_wanted = logging.getLogger("rsecho.access").isEnabledFor(logging.DEBUG)
        self._native.set_access(self._log_payload_bytes if is_wanted else None)

    def impair(self, spec: str = "", *, record: int = 0, replay: str | None = None) -> str:
        """Spoils this from now on, and nothing else; "" for nothing.

        UDP: netem's terms, as `tc qdisc add … netem` takes them, of replies or, behind `in`, of
        what comes: "delay 50ms 10ms distribution normal", "loss gemodel 1% 10%", "duplicate 1%",
        "corrupt 0.1%", "delay 9ms reorder 25% gap 5", "rate 1mbit", "limit 100", "truncate 5%",
        "seed 7", "in loss 20%; out delay 10ms". TCP: Toxiproxy's, as in "latency 100 jitter 20",
        "bandwidth 64", "slicer 64", "limit_data 1000", "reset_peer 500", "timeout 1000",
        "slow_close 100", "half_close", "accept_hang", "refuse".

        A datagram that is sent after this has returned meets the new impairment; what an earlier
        one holds back goes on its way at once. What becomes of a datagram depends on the seed,
        its flow and its number in that, and on nothing else; flows are numbered from 0 as they
        first appear.

        Args:
            spec: What to spoil.
            record: UDP: so many decisions are kept for `impairment_trace`, at most 2**20.
            replay: UDP: a trace whose decisions are repeated; of `spec` then only `rate`,
                `slot` and `limit` count.

        Returns:
            What is in force now, with the seed that repeats it.

        Raises:
            ValueError: a text that is not in the grammar, or that this protocol cannot do.
        """
        return self._native.impair(spec, record, replay)

    @property
    def impairment(self) -> str:
        """What it spoils now, with the seed that repeats it; "" for nothing."""
        return self._native.impairment

    def impairment_trace(self) -> str:
        """What was decided since the last `impair(…, record=…)`, as JSON lines that `replay` takes.

        The first line names the schema, each other one is a decision: `direction`, `flow`, `index`,
        `copy` (of a duplicated datagram), `lost`, `duplicates`, `delay_ns`, `corrupt_bit`,
        `truncate_to`, `reordered`. Decisions beyond `record` are left out, with a warning.
        """
        text, left_out = self._native.impairment_trace()
        if left_out:
            warnings.warn(
                f"{left_out} decisions of {self.url} had no room: raise record=",
                RuntimeWarning,
                stacklevel=2,
            )
        return text

    def stop(self, drain_timeout: float = _DRAIN) -> None:
        """Answers what has come already, for `drain_timeout` seconds at most, and ends.

        Waits for that. Does nothing the second time. Ctrl-C ends it at once. Two places cannot
        wait: its own responder, which it lets return first; and the thread of the event loop on
        which its coroutine function runs, where it ends at once, without answers that could not
        come meanwhile (`async with` waits for them).

        A call of the responder that has begun when that time is over may end; none begins after
        it. What was asked and is not answered then is counted: as `dropped["stopped"]` (UDP),
        `abandoned_requests` (TCP).

        Raises:
            StopTimeoutError: the responder has not returned a second after that time. The server
                still runs (`is_running`), and ends as soon as it returns: `wait` for that.
            StateError: in a child after fork: the server is the parent's.
        """
        try:
            self._native.stop(self._drain_here(drain_timeout))
        except StopTimeoutError:
            self._is_left = True
            raise

    def close(self) -> None:
        """Stops, within 5 seconds, and frees the port. Does nothing the second time, nor after a
        fork.

        Raises:
            StopTimeoutError: as for `stop`.
        """
        if not self._native.is_foreign:
            self.stop()

    def _close_after(self, error: BaseException | None) -> None:
        """Closes it where a block is left by an error, which goes before one of the closing."""
        try:
            self.close()
        except StopTimeoutError as trouble:
            if error is None:
                raise
            error.add_note(str(trouble))

    def _drain_here(self, drain_timeout: float) -> float:
        loop = self._setup.loop
        return 0.0 if loop is not None and loop.is_here() else drain_timeout

    @overload
    def wait(self, timeout: None = None) -> StopReason: ...
    @overload
    def wait(self, timeout: float) -> StopReason | None: ...
    def wait(self, timeout: float | None = None) -> StopReason | None:
        """Waits until the server has ended and returns why; None: not within `timeout`.

        A failure is returned as well (see `StopReason.is_healthy`), not raised.

        Raises:
            StateError: it was never started, or belongs to another process.
        """
        finish = self._native.wait(timeout)
        return None if finish is None else StopReason(*finish)

    @overload
    async def wait_async(self, timeout: None = None) -> StopReason: ...
    @overload
    async def wait_async(self, timeout: float) -> StopReason | None: ...
    async def wait_async(self, timeout: float | None = None) -> StopReason | None:
        """`wait` for asyncio; can be cancelled, and takes no thread of the loop's executor."""
        from rsecho import _aio

        deadline = None if timeout is None else time.monotonic() + timeout

        def look() -> StopReason | None:
            left = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            return self.wait(max(left, 0.0))

        def is_over() -> bool:
            return deadline is not None and time.monotonic() >= deadline

        return await _aio.poll(look, is_over)

    def serve_forever(self) -> StopReason:
        """Starts if need be, and waits until the server has ended; returns why.

        Ctrl-C stops it, drained, and raises KeyboardInterrupt, as in `socketserver`.

        Raises:
            ServerError: it ended because it could not serve any more.
        """
        self._start_once()
        try:
            reason = self.wait()
        except BaseException as error:
            self._close_after(error)
            raise
        if not reason.is_healthy:
            raise ServerError(f"{self.url} has ended: {reason.detail}")
        return reason

    def _start_once(self) -> None:
        if not self._is_started:
            self.start()

    def __enter__(self) -> Self:
        """Starts it, unless it was."""
        self._start_once()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it. A `StopTimeoutError` is a note (PEP 678) of the error that ended the block,
        if one did."""
        self._close_after(error)

    async def __aenter__(self) -> Self:
        """Starts it, unless it was."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it as `with` does, while the loop goes on."""
        import asyncio

        await asyncio.to_thread(self._close_after, error)

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError(
            f"cannot pickle or copy a {type(self).__name__}: it is a socket with threads; "
            "pass its address instead"
        )

    def __repr__(self) -> str:
        native = getattr(self, "_native", None)
        if native is None:
            return f"<{type(self).__name__}, not bound>"
        if native.is_foreign:
            state = "of another process"
        elif native.is_running:
            state = "running"
        elif finish := native.finish():
            state = finish[0]
        else:
            state = "not started"
        return f"<{type(self).__name__} {native.name} {state}>"

    def __del__(self) -> None:
        native = getattr(self, "_native", None)
        if native is None or not native.is_running or self._is_past_exit:
            return None
        if self._is_left:
            return _servers.leave(native)
        try:
            text = f"unclosed {self!r}: stop it, or use a `with` block"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)
        finally:
            # Whoever collects must not wait for a responder.
            if native.dismiss():
                _servers.leave(native)


class UdpServer(Server):
    """Answers each datagram with its own bytes (RFC 862).

    Args:
        host: A name or a numeric address; "" for all interfaces. A name's IPv4 address is
            taken before its IPv6 address.
        port: 0 picks a free one.
        family: 4 or 6 for that family of addresses only.
        sock: A bound UDP socket, or its descriptor, to serve on instead of `host` and
            `port`. It is duplicated: the caller's own stays open and is the caller's to close.
            Whether that blocks does not matter; once it is shut down, the server has failed;
            once it is connected, the server answers that peer only, and says so.
        idle_timeout: The server ends when nothing came for this many seconds.
        max_datagram_bytes: Longer datagrams are answered with this many of their bytes.
        stop_on_empty: An empty datagram ends the server, once answered.
        workers: Threads, each with a socket of its own (SO_REUSEPORT).
        cpus: The CPUs that the workers are bound to, in turn; none: any.
        engine: "auto", "batch" (Linux), or "portable".
        wait: What a worker does while nothing comes. "balanced" sleeps, and naps for 50 us
            under load to gather more for a send: the least CPU time. "latency" asks for up
            to 50 us before it sleeps. "busy" never sleeps, for a whole core.
        unpack: The layout of records, or a format for one; each datagram of that length is
            decoded and logged to `rsecho.records`.
        on_record: Called with each `Record`, on the thread that logs. What it raises is
            logged.
        responder: What to answer instead of what came: "upper", "prefix=TEXT", "discard",
            "daytime", "time", "command", "python=module:function", or a callable of
            `(data: bytes, peer: Peer)` that returns the reply or None for none; a coroutine
            function runs on the event loop in which the server is started. See
            `rsecho.responders`.
        upper: With "echo" or "prefix=TEXT": in upper case.
        error_reply: What is answered when a callable raises; None: nothing.
        responder_takes: "fields": the callable gets the fields of `unpack` by name instead of
            the bytes.
        answer_broadcast: Answers also what was sent to a broadcast or multicast address, after
            a random time of up to `broadcast_delay` seconds and at most `broadcast_rate` times
            a second; otherwise such datagrams are never answered (RFC 1122).
        impair: What to spoil on purpose, in netem's terms, as in "delay 50ms 10ms loss 1%": see
            `Server.impair`.
        log_payload_bytes: How much of a payload `rsecho.access` shows.
        guard: Whom not to answer; None: all defaults. See `Guard`.
        **options: See `UdpServerOptions`.

    Raises:
        OSError: the address cannot be bound, or the kernel refuses an option; its subclass
            says which (PermissionError, socket.gaierror, …).
        ValueError: an argument that can never work.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 0,
        *,
        family: Literal[0, 4, 6] = 0,
        sock: HasFileno | int | None = None,
        idle_timeout: float | None = None,
        max_datagram_bytes: int | None = None,
        stop_on_empty: bool = False,
        workers: int = 1,
        cpus: Sequence[int] = (),
        engine: Engine = "auto",
        wait: Wait = "balanced",
        unpack: RecordLayout | str | None = None,
        on_record: OnRecord | None = None,
        responder: str | OnRequest | OnFields | None = None,
        upper: bool = False,
        error_reply: bytes | None = None,
        responder_takes: Literal["bytes", "fields"] = "bytes",
        answer_broadcast: bool = False,
        broadcast_delay: float = 0.1,
        broadcast_rate: float = 10.0,
        impair: str = "",
        log_payload_bytes: int = 128,
        guard: Guard | None = None,
        **options: Unpack[UdpServerOptions],
    ) -> None:
        layout = _layout(unpack, on_record)
        setup = responders.Setup(
            responder,
            upper=upper,
            error_reply=error_reply,
            layout=layout,
            takes_fields=_takes_fields(responder_takes),
        )
        native = _rsecho.Server.udp(
            host,
            port,
            sockets.options(options, sockets.UdpServerOptions, self),
            _lifecycle.pump().queue,
            family=family,
            descriptor=_descriptor(sock, host, port),
            idle_timeout=idle_timeout,
            max_datagram_bytes=max_datagram_bytes,
            stop_on_empty=stop_on_empty,
            workers=workers,
            cpus=cpus,
            engine=engine,
            wait=wait,
            record_bytes=None if layout is None else layout.size,
            responder=setup.native,
            broadcast=(broadcast_delay, broadcast_rate) if answer_broadcast else None,
            impair=impair,
            guard=guards.native(guard),
        )
        super().__init__(native, layout, on_record, _payload_bytes(log_payload_bytes), setup)

    def stats(self) -> UdpStats:
        """What it has counted so far, all of one moment."""
        return stats.build(stats.UdpStats, self.engine, "dropped", self._native.stats())


class TcpServer(Server):
    """Sends each connection its own bytes back (RFC 862).

    Listens, and so lets connections wait, from the moment it is made.

    Args:
        host: As for `UdpServer`.
        port: 0 picks a free one.
        family: 4 or 6 for that family of addresses only.
        sock: A bound TCP socket, listening or not, or its descriptor; as for `UdpServer`. It
            is made non-blocking, and is so again where its owner makes it blocking.
        idle_timeout: A connection over which nothing came or went for this many seconds is
            closed; 0: never. None: an hour where others than this machine can connect, never
            on loopback.
        backlog: Connections that may wait to be accepted; None: as many as the kernel
            allows (net.core.somaxconn).
        max_connections: Connections at a time; more wait in the backlog.
        max_connection_seconds: A connection that has lived for this many seconds is closed,
            whatever came over it, and counted as `expired`; None or 0: never.
        min_bytes_per_second: A connection over which less came, on average over each window of
            `min_rate_window` seconds since it was accepted, is closed and counted as `slow`; so
            a silent one is. Time in which an answer is made or held back here does not count.
            None: never.
        min_rate_window: Seconds over which that is measured; the first are a new connection's
            grace.
        workers: Threads, each with a listener of its own (SO_REUSEPORT).
        cpus: As for `UdpServer`.
        engine: "auto", "batch" (epoll, Linux), or "portable".
        wait: What a worker does while nothing comes: "balanced" sleeps; "latency" and "busy"
            as for `UdpServer`.
        unpack: As for `UdpServer`; the stream is cut into records of the layout's length.
        on_record: As for `UdpServer`.
        responder: As for `UdpServer`. Each request on a connection is answered in order, with the
            line end that it had; "daytime" and "time" answer a connection and end it.
        framing: What a request is: "lines"; "records", of the layout's length; or "chunks",
            what was read. None: lines for a named responder, records with `unpack`, chunks
            for any other callable.
        max_line_bytes: A longer line is answered with an error, and the connection ends.
        upper: As for `UdpServer`.
        error_reply: As for `UdpServer`.
        responder_takes: As for `UdpServer`.
        impair: What to spoil on purpose, in Toxiproxy's terms: see `Server.impair`.
        log_payload_bytes: As for `UdpServer`.
        guard: As for `UdpServer`.
        **options: See `TcpServerOptions`.

    Raises:
        OSError: as for `UdpServer`.
        ValueError: an argument that can never work.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 0,
        *,
        family: Literal[0, 4, 6] = 0,
        sock: HasFileno | int | None = None,
        idle_timeout: float | None = None,
        backlog: int | None = None,
        max_connections: int | None = None,
        max_connection_seconds: float | None = None,
        min_bytes_per_second: float | None = None,
        min_rate_window: float = 10.0,
        workers: int = 1,
        cpus: Sequence[int] = (),
        engine: Engine = "auto",
        wait: Wait = "balanced",
        unpack: RecordLayout | str | None = None,
        on_record: OnRecord | None = None,
        responder: str | OnRequest | OnFields | None = None,
        framing: Literal["lines", "records", "chunks"] | None = None,
        max_line_bytes: int = 65_536,
        upper: bool = False,
        error_reply: bytes | None = None,
        responder_takes: Literal["bytes", "fields"] = "bytes",
        impair: str = "",
        log_payload_bytes: int = 128,
        guard: Guard | None = None,
        **options: Unpack[TcpServerOptions],
    ) -> None:
        layout = _layout(unpack, on_record)
        setup = responders.Setup(
            responder,
            upper=upper,
            error_reply=error_reply,
            layout=layout,
            takes_fields=_takes_fields(responder_takes),
        )
        native = _rsecho.Server.tcp(
            host,
            port,
            sockets.options(options, sockets.TcpServerOptions, self),
            _lifecycle.pump().queue,
            family=family,
            descriptor=_descriptor(sock, host, port),
            idle_timeout=idle_timeout,
            backlog=backlog,
            max_connections=max_connections,
            max_connection_seconds=max_connection_seconds,
            min_bytes_per_second=min_bytes_per_second,
            min_rate_window=min_rate_window,
            workers=workers,
            cpus=cpus,
            engine=engine,
            wait=wait,
            record_bytes=None if layout is None else layout.size,
            responder=setup.native,
            framing=_framing(framing, setup, layout),
            max_line_bytes=max_line_bytes,
            impair=impair,
            guard=guards.native(guard),
        )
        super().__init__(native, layout, on_record, _payload_bytes(log_payload_bytes), setup)

    def stats(self) -> TcpStats:
        """What it has counted so far, all of one moment."""
        return stats.build(stats.TcpStats, self.engine, "closed", self._native.stats())


def _framing(framing: str | None, setup: responders.Setup, layout: RecordLayout | None) -> str:
    if setup.native is None and framing is not None:
        raise ValueError(f"cannot set framing={framing!r}: plain echo has no requests")
    if framing is None:
        framing = "lines" if not setup.is_callable else "chunks" if layout is None else "records"
    if framing == "records":
        if layout is None:
            raise ValueError("cannot cut into records: give their layout as unpack=")
        return f"records={layout.size}"
    return framing


def _takes_fields(what: str) -> bool:
    if what not in ("bytes", "fields"):
        raise ValueError(f"cannot set responder_takes={what!r}: it is 'bytes' or 'fields'")
    return what == "fields"


def _layout(unpack: RecordLayout | str | None, on_record: OnRecord | None) -> RecordLayout | None:
    if unpack is None:
        if on_record is not None:
            raise ValueError("cannot call on_record without records: give their layout as unpack=")
        return None
    return unpack if isinstance(unpack, RecordLayout) else RecordLayout(unpack)


def _descriptor(sock: HasFileno | int | None, host: str, port: int) -> int | None:
    if sock is None:
        return None
    if (host, port) != ("localhost", 0):
        raise ValueError("cannot bind an address and serve on sock= too: give one of them")
    return sock if isinstance(sock, int) else sock.fileno()


def _payload_bytes(log_payload_bytes: int) -> int:
    # A longer datagram does not exist.
    if not 0 <= log_payload_bytes <= 65_535:
        raise ValueError(f"cannot log {log_payload_bytes} bytes of a payload: 0 to 65535 can be")
    return log_payload_bytes
