"""Echo servers for UDP and TCP.

Creating a server binds its socket; starting it starts its workers, native threads that do not need
the GIL.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from rsecho import (
    _lifecycle,
    _options,
    _policy,
    _rsecho,
    _rules,
    _servers,
    responders,
    sockets,
    stats,
)
from rsecho import guard as guards
from rsecho._errors import FormatError, ServerError, StopTimeoutError
from rsecho._explained import explained
from rsecho._options import Engine, Wait
from rsecho.layout import RecordLayout

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self, Unpack

    from rsecho._options import ServerOptions
    from rsecho.sockets import OptionReport, TcpServerOptions, UdpServerOptions
    from rsecho.stats import TcpStats, UdpStats

    class HasFileno(Protocol):
        """A socket, or whatever else has a descriptor."""

        def fileno(self) -> int:
            """The descriptor."""


__all__ = ["Engine", "Server", "StopReason", "TcpServer", "UdpServer", "Wait"]

# How long `close` and leaving a `with` block wait for what is due, as `stop` does.
_DRAIN = 5.0


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a server has ended."""

    name: Literal["stopped", "idle", "empty", "failed", "panicked"]
    """"stopped": stop was requested. "idle": no datagram arrived for `idle_timeout`. "empty": an
    empty datagram arrived, with `stop_on_empty`. "failed": a system call failed. "panicked": a bug
    in native code."""
    detail: str
    """The same as a sentence, with the error if there was one."""

    @property
    def is_healthy(self) -> bool:
        """False for "failed" and "panicked"."""
        return self.name not in ("failed", "panicked")


class Server(ABC):
    """Common base of `UdpServer` and `TcpServer`; use one of these."""

    _native: _rsecho.Server
    # As `_rules` calls it.
    _protocol: str

    def __init__(
        self,
        host: str,
        port: int,
        sock: HasFileno | int | None,
        options: ServerOptions,
        known: type,
    ) -> None:
        _options.check(options, known, self)
        for name, value, kind in (
            ("host", host, "str"),
            ("port", port, "int"),
            ("sock", sock, "HasFileno | int | None"),
        ):
            _options.check_type(name, value, kind)
        given: dict[str, Any] = dict(options)
        _rules.check({**given, "sock": sock}, _rules.SERVER, self._protocol)
        self._on_record = given.pop("on_record", None)
        self._layout = layout = _layout(given.pop("unpack", None))
        self._setup = setup = responders.Setup(
            given.pop("responder", None),
            upper=given.pop("upper", False),
            error_reply=given.pop("error_reply", None),
            layout=layout,
            takes_fields=given.pop("responder_takes", "bytes") == "fields",
        )
        self._log_payload_bytes = _payload_bytes(given.pop("log_payload_bytes", 128))
        given |= {
            "host": host,
            "port": port,
            "sock": _descriptor(sock, host, port),
            "record_bytes": None if layout is None else layout.size,
            "responder": setup.native,
            "guard": guards.native(options.get("guard")),
        }
        self._native = self._bind(given)
        # What only the server itself needs: a callable that knows its server would keep it.
        setup.native = None
        setup.failures.url = self._native.name
        self._is_started = False
        # It was told to stop, and a worker stays in its responder, as somebody was told.
        self._is_left = False
        # The interpreter ends without it, and whatever else there was to use.
        self._is_past_exit = False
        _servers.register(self)

    @abstractmethod
    def _bind(self, given: dict[str, Any]) -> _rsecho.Server:
        """The native server with these options."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Two items for IPv6 as well; a link-local host includes its interface, as
        in `fe80::1%eth0`."""
        return self._native.address

    @property
    def url(self) -> str:
        """The address as log lines show it, as in `udp://127.0.0.1:9999`."""
        return self._native.name

    @property
    def engine(self) -> str:
        """The engine in use: "batch" or "portable" for UDP, "epoll" or "portable" for TCP."""
        return self._native.engine

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, by keyword: the requested value and the one that the kernel
        set."""
        return sockets.report(self._native.socket_report)

    @property
    def needs_loop(self) -> bool:
        """True if the responder is a coroutine function: then `start` needs a running event
        loop."""
        return self._setup.loop is not None

    @property
    def is_running(self) -> bool:
        """True from start until the server has ended."""
        return self._native.is_running

    @abstractmethod
    def stats(self) -> UdpStats | TcpStats:
        """All counters, read at one moment."""

    def start(self) -> None:
        """Starts the workers and returns at once.

        Raises:
            StateError: it was started before, belongs to another process, or needs an event loop
                and none is running here.
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
        """Replaces the current impairment; an empty string removes it.

        UDP: in the words of `tc qdisc add … netem`, for replies or, after `in`, for incoming
        datagrams: "delay 50ms 10ms distribution normal", "loss gemodel 1% 10%", "duplicate 1%",
        "corrupt 0.1%", "delay 9ms reorder 25% gap 5", "rate 1mbit", "limit 100", "truncate 5%",
        "seed 7", "in loss 20%; out delay 10ms".
        TCP: in the words of Toxiproxy, as in "latency 100 jitter 20", "bandwidth 64", "slicer 64",
        "limit_data 1000", "reset_peer 500", "timeout 1000", "slow_close 100", "half_close",
        "accept_hang", "refuse".

        Datagrams sent after this has returned meet the new impairment; datagrams that the old one
        delays are sent at once. What happens to a datagram depends only on the seed, on its flow
        and on its number within the flow. Flows are numbered from 0, in the order in which they
        appear.

        Args:
            spec: The impairment; docs/impair.md has all words.
            record: UDP only: the number of decisions to keep for `impairment_trace`, at most 2**20.
                By default 0. Excludes `replay`.
            replay: UDP only: a trace whose decisions are repeated. Of `spec`, only `rate`, `slot`
                and `limit` are used then.

        Returns:
            The impairment that is now in force, with the seed that repeats it.

        Raises:
            ValueError: `spec` is not in the grammar, or has words that this protocol lacks.
        """
        _options.check_type("spec", spec, "str")
        _options.check_type("record", record, "int")
        _options.check_type("replay", replay, "str | None")
        if replay is not None and record:
            raise ValueError(
                f"cannot set record={record} with replay=: a replay repeats decisions and makes "
                "none; leave one of them out"
            )
        return self._native.impair(spec, record, replay)

    @property
    def impairment(self) -> str:
        """The current impairment, with the seed that repeats it; empty if there is none."""
        return self._native.impairment

    def impairment_trace(self) -> str:
        """The decisions since the last `impair(…, record=…)`, as JSON lines for `replay`.

        The first line names the schema. Each further line is one decision: `direction`, `flow`,
        `index`, `copy` (number of a duplicate), `lost`, `duplicates`, `delay_ns`, `corrupt_bit`,
        `truncate_to`, `reordered`. If there were more than `record` of them, a RuntimeWarning says
        how many are missing.
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
        """Stops the server: answers the requests that have arrived, then ends. Waits for the end.

        A second call does nothing. Ctrl-C ends the server at once. In two places it cannot wait: in
        its own responder, which returns first; and on the thread of the event loop that runs its
        coroutine function, where the server ends at once without the answers still missing
        (`async with` waits for them).

        After `drain_timeout` no further call of the responder begins; one that runs may finish.
        Requests that are not answered by then are counted: as `dropped["stopped"]` (UDP) or
        `abandoned_requests` (TCP).

        Args:
            drain_timeout: Seconds for answering what has arrived, 0 or more. By default 5.

        Raises:
            StopTimeoutError: the responder has not returned one second after that time. The server
                still runs (`is_running`), and ends when the responder returns: use `wait`.
            StateError: in a forked child; the server belongs to the parent.
        """
        _options.check_type("drain_timeout", drain_timeout, "float")
        try:
            self._native.stop(self._drain_here(drain_timeout))
        except StopTimeoutError:
            self._is_left = True
            raise

    def close(self) -> None:
        """Stops the server within 5 seconds and frees the port. Does nothing the second time, or in
        a forked child.

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
        """Waits until the server has ended, and returns the reason.

        A failure is returned, too (see `StopReason.is_healthy`), not raised.

        Args:
            timeout: Seconds to wait, 0 or more. None, the default: no limit.

        Returns:
            Why it has ended; None if it still runs after `timeout`.

        Raises:
            StateError: it was never started, or belongs to another process.
        """
        _options.check_type("timeout", timeout, "float | None")
        finish = self._native.wait(timeout)
        return None if finish is None else StopReason(*finish)

    @overload
    async def wait_async(self, timeout: None = None) -> StopReason: ...
    @overload
    async def wait_async(self, timeout: float) -> StopReason | None: ...
    async def wait_async(self, timeout: float | None = None) -> StopReason | None:
        """`wait` for asyncio. It can be cancelled, and does not use the executor of the event
        loop."""
        from rsecho import _aio

        deadline = _options.deadline(timeout)

        def look() -> StopReason | None:
            left = 0.1 if deadline is None else min(0.1, deadline - time.monotonic())
            return self.wait(max(left, 0.0))

        def is_over() -> bool:
            return deadline is not None and time.monotonic() >= deadline

        return await _aio.poll(look, is_over)

    def serve_forever(self) -> StopReason:
        """Starts the server unless it runs, waits until it has ended, and returns the reason.

        Ctrl-C stops it as `stop` does, and raises KeyboardInterrupt, as in `socketserver`.

        Raises:
            ServerError: it ended because of an error.
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
        """Starts the server, unless it is started."""
        self._start_once()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes the server. If the block ended with an error, a `StopTimeoutError` becomes a note
        (PEP 678) of that error."""
        self._close_after(error)

    async def __aenter__(self) -> Self:
        """Starts the server, unless it is started."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """As `__exit__`, without blocking the event loop."""
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


@explained(_options.UdpServerOptions)
class UdpServer(Server):
    """Answers each datagram with its own bytes (RFC 862).

    Args:
        host: Name or numeric address to bind; "" for all IPv4 interfaces. If a name has addresses
            of both kinds, the IPv4 address is used. By default "localhost".
        port: Port to bind; 0, the default, picks a free one.
        sock: A bound UDP socket, or its descriptor, to serve on instead of `host` and `port`. It is
            duplicated; the caller closes the original. It may block or not. If it is shut down, the
            server fails; if it is connected, the server answers that peer only, and logs that.
        **options: See `rsecho.sockets.UdpServerOptions`.

    Raises:
        OSError: the address cannot be bound, or the kernel refuses an option; its subclass
            says which (PermissionError, socket.gaierror, …).
        TypeError: a keyword is unknown, or its value has another type.
        ValueError: a value is out of range, or would have no effect with the other keywords.
    """

    _protocol = _rules.UDP

    def __init__(
        self,
        host: str = "localhost",
        port: int = 0,
        *,
        sock: HasFileno | int | None = None,
        **options: Unpack[UdpServerOptions],
    ) -> None:
        super().__init__(host, port, sock, options, _options.UdpServerOptions)

    def _bind(self, given: dict[str, Any]) -> _rsecho.Server:
        if (policy := given.pop("transfer", None)) is not None:
            _policy.check_served(policy)
            given = sockets.roomy(given) | {"transfer": _policy.native(policy)}
        return _rsecho.Server.udp(given, _lifecycle.pump().queue)

    def stats(self) -> UdpStats:
        """All counters, read at one moment."""
        return stats.build(stats.UdpStats, self.engine, "dropped", self._native.stats())


@explained(_options.TcpServerOptions)
class TcpServer(Server):
    """Sends the bytes of each connection back (RFC 862).

    It listens as soon as it is created; connections wait until it is started.

    Args:
        host: As for `UdpServer`.
        port: As for `UdpServer`.
        sock: A bound TCP socket, listening or not, or its descriptor; as for `UdpServer`. The
            server makes it non-blocking, and does so again if its owner makes it blocking.
        **options: See `rsecho.sockets.TcpServerOptions`.

    Raises:
        OSError, TypeError, ValueError: as for `UdpServer`.
    """

    _protocol = _rules.TCP

    def __init__(
        self,
        host: str = "localhost",
        port: int = 0,
        *,
        sock: HasFileno | int | None = None,
        **options: Unpack[TcpServerOptions],
    ) -> None:
        super().__init__(host, port, sock, options, _options.TcpServerOptions)

    def _bind(self, given: dict[str, Any]) -> _rsecho.Server:
        given["framing"] = _framing(given.get("framing"), self._setup, self._layout)
        return _rsecho.Server.tcp(given, _lifecycle.pump().queue)

    def stats(self) -> TcpStats:
        """All counters, read at one moment."""
        return stats.build(stats.TcpStats, self.engine, "closed", self._native.stats())


def _framing(framing: str | None, setup: responders.Setup, layout: RecordLayout | None) -> str:
    if framing is None:
        framing = "lines" if not setup.is_callable else "chunks" if layout is None else "records"
    if framing == "records" and layout is not None:
        return f"records={layout.size}"
    return framing


def _layout(unpack: RecordLayout | str | None) -> RecordLayout | None:
    if unpack is None:
        return None
    try:
        layout = unpack if isinstance(unpack, RecordLayout) else RecordLayout(unpack)
    except FormatError as error:
        raise FormatError(f"cannot use unpack=: {error}") from None
    if layout.size == 0:
        raise ValueError(
            f"cannot set unpack={layout.format!r}: its records have no bytes; add a field, as in "
            "'!I'"
        )
    return layout


def _descriptor(sock: HasFileno | int | None, host: str, port: int) -> int | None:
    if sock is None:
        return None
    if (host, port) != ("localhost", 0):
        raise ValueError(
            f"cannot set host={host!r} and port={port} with sock=: that socket has its address "
            "already; leave host and port out, or sock"
        )
    return sock if isinstance(sock, int) else sock.fileno()


def _payload_bytes(log_payload_bytes: int) -> int:
    # A longer datagram does not exist.
    if not 0 <= log_payload_bytes <= 65_535:
        raise ValueError(
            f"cannot set log_payload_bytes={log_payload_bytes}: a payload has 0 to 65535 bytes"
        )
    return log_payload_bytes
