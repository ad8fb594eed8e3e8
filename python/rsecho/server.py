"""Echo servers for UDP and TCP.

A server is bound when it is made and answers once started; its workers are native threads
that never wait for Python.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from rsecho import _lifecycle, _options, _policy, _rsecho, _servers, responders, sockets, stats
from rsecho import guard as guards
from rsecho._errors import ServerError, StopTimeoutError
from rsecho._explained import explained
from rsecho._options import Engine, Wait
from rsecho.layout import RecordLayout

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self, Unpack

    from rsecho._options import OnRecord, ServerOptions
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
        host: str,
        port: int,
        sock: HasFileno | int | None,
        options: ServerOptions,
        known: type,
    ) -> None:
        _options.check(options, known, self)
        given: dict[str, Any] = dict(options)
        self._on_record = given.pop("on_record", None)
        self._layout = layout = _layout(given.pop("unpack", None), self._on_record)
        self._setup = setup = responders.Setup(
            given.pop("responder", None),
            upper=given.pop("upper", False),
            error_reply=given.pop("error_reply", None),
            layout=layout,
            takes_fields=_takes_fields(given.pop("responder_takes", "bytes")),
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
        """Impairs this from now on, and nothing else; "" for nothing.

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
            spec: What to do to it.
            record: UDP: the number of decisions to keep for `impairment_trace`, at most 2**20.
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
        """What impairs it now, with the seed that repeats it; "" for nothing."""
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


@explained(_options.UdpServerOptions)
class UdpServer(Server):
    """Answers each datagram with its own bytes (RFC 862).

    Args:
        host: A name or a numeric address; "" for all interfaces. A name's IPv4 address is
            taken before its IPv6 address.
        port: 0 picks a free one.
        sock: A bound UDP socket, or its descriptor, to serve on instead of `host` and
            `port`. It is duplicated: the caller's own stays open and is the caller's to close.
            Whether that blocks does not matter; once it is shut down, the server has failed;
            once it is connected, the server answers that peer only, and says so.
        **options: See `rsecho.sockets.UdpServerOptions`.

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
        sock: HasFileno | int | None = None,
        **options: Unpack[UdpServerOptions],
    ) -> None:
        super().__init__(host, port, sock, options, _options.UdpServerOptions)

    def _bind(self, given: dict[str, Any]) -> _rsecho.Server:
        if (policy := given.pop("transfer", None)) is not None:
            given = sockets.roomy(given) | {"transfer": _policy.native(policy)}
        return _rsecho.Server.udp(given, _lifecycle.pump().queue)

    def stats(self) -> UdpStats:
        """What it has counted so far, all of one moment."""
        return stats.build(stats.UdpStats, self.engine, "dropped", self._native.stats())


@explained(_options.TcpServerOptions)
class TcpServer(Server):
    """Sends each connection its own bytes back (RFC 862).

    Listens, and so lets connections wait, from the moment it is made.

    Args:
        host: As for `UdpServer`.
        port: 0 picks a free one.
        sock: A bound TCP socket, listening or not, or its descriptor; as for `UdpServer`. It
            is made non-blocking, and is so again where its owner makes it blocking.
        **options: See `rsecho.sockets.TcpServerOptions`.

    Raises:
        OSError: as for `UdpServer`.
        ValueError: an argument that can never work.
    """

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
