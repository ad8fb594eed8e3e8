"""Clients of an echo server.

A client makes one request at a time; a request from a second thread waits until the first is done.
One thread may send while another receives. Ctrl-C ends every wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from rsecho import _arguments, _options, _rsecho, sockets
from rsecho import _lifecycle as _lifecycle

# The lifecycle is for clients, too: a thread must not wait when the interpreter ends.
from rsecho._brief import brief
from rsecho._explained import explained

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal, Self, Unpack

    from typing_extensions import Buffer

    from rsecho.sockets import OptionReport, TcpClientOptions, UdpClientOptions

__all__ = ["Client", "Reply", "TcpClient", "UdpClient"]

_Native = TypeVar("_Native", _rsecho.UdpClient, _rsecho.TcpClient)


def _check_peer(host: object, port: object, timeout: float | None, family: object) -> None:
    for name, value, kind in (
        ("host", host, "str"),
        ("port", port, "int"),
        ("family", family, "Literal[0, 4, 6]"),
    ):
        _options.check_type(name, value, kind)
    _options.deadline(timeout)


def _check_exchange(name: str, data: object, expected: object, takes_any: object) -> None:
    _options.check_type(name, data, "Buffer")
    _options.check_type("expected", expected, "Buffer | None")
    _options.check_type("takes_any", takes_any, "bool")


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """The reply to one request, with its round-trip time."""

    data: bytes
    """The bytes that came back."""
    rtt_ns: int
    """Round-trip time in nanoseconds: from sending the first byte to receiving the last one,
    measured without the GIL."""
    is_equal: bool
    """True if the reply is equal to the request, or to `expected`."""

    __repr__ = brief


class Client(Generic[_Native]):
    """Common base of `UdpClient` and `TcpClient`; use one of these."""

    def __init__(self, native: _Native, timeout: float | None) -> None:
        self._native: _Native = native
        self._timeout = timeout
        self._turn = Lock()

    @property
    def url(self) -> str:
        """The address of the server, as in `udp://127.0.0.1:9999`."""
        return self._native.name

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of this client."""
        return self._native.address

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the server."""
        return self._native.peer

    @property
    def timeout(self) -> float | None:
        """Seconds that a call waits; None: no limit."""
        return self._timeout

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, by keyword: the requested value and the one that the kernel
        set."""
        return sockets.report(self._native.socket_report)

    def request(self, data: Buffer) -> bytes:
        """Sends `data` and returns the reply. Raises what the class says."""
        _options.check_type("data", data, "Buffer")
        with self._turn:
            return self._native.request(data, self._timeout)[0]

    def exchange(
        self, data: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """As `request`, and measures the time and checks the reply.

        Args:
            data: The bytes to send.
            expected: The correct reply. None, the default: the same as `data`. Over TCP, as many
                bytes are read as it has.
            takes_any: Accepts any reply. Over TCP: the bytes that come first, 64 KiB at most. By
                default False. Excludes `expected`.

        Raises:
            ValueError: both `expected` and `takes_any` are set.
        """
        _check_exchange("data", data, expected, takes_any)
        with self._turn:
            reply = self._native.request(
                data, self._timeout, expected=expected, takes_any=takes_any
            )
        return Reply(*reply)

    async def request_async(self, data: Buffer) -> bytes:
        """`request` for asyncio, on a thread. Cancelling does not end it; its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.request, data)

    async def exchange_async(
        self, data: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """`exchange` for asyncio, on a thread. Cancelling does not end it; its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.exchange, data, expected=expected, takes_any=takes_any)

    def close(self) -> None:
        """Closes the socket and ends waits in other threads. Does nothing the second time."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError(
            f"cannot pickle or copy a {type(self).__name__}: it is a socket; make another"
        )

    def __repr__(self) -> str:
        native = getattr(self, "_native", None)
        return f"<{type(self).__name__} {'not made' if native is None else native.name}>"


@explained(sockets.UdpClientOptions)
class UdpClient(Client[_rsecho.UdpClient]):
    """Sends datagrams to one server, and receives only from it.

    `request` waits for one datagram. The echo protocol does not number its messages, so datagrams
    that arrived earlier are dropped before the request is sent. A late reply to an earlier request
    that arrives during the wait is taken for the reply; `exchange` compares the bytes.

    Args:
        host: Name or numeric address of the server. If a name has addresses of both kinds, the IPv4
            address is used.
        port: Port of the server.
        timeout: Seconds that each call waits, 0 or more. By default 1. None: no limit.
        family: 4 or 6: uses only addresses of that IP version. 0, the default: either.
        **options: See `UdpClientOptions`.

    Raises:
        ConnectionRefusedError: from any call: the host reports that nothing listens there (ICMP).
        TimeoutError: no reply arrived in time.
        OSError: with ENETUNREACH, EHOSTUNREACH, EMSGSIZE and so on in `errno`;
            socket.gaierror if the name does not resolve.
        TypeError: a keyword is unknown, or its value has another type.
        ValueError: a value is out of range, or would have no effect with the other keywords.
        StateError: the client is closed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float | None = 1.0,
        family: Literal[0, 4, 6] = 0,
        **options: Unpack[UdpClientOptions],
    ) -> None:
        _check_peer(host, port, timeout, family)
        native_options = sockets.options(options, sockets.UdpClientOptions, self)
        native = _rsecho.UdpClient(host, port, native_options, family=family)
        super().__init__(native, timeout)

    def send(self, data: Buffer) -> None:
        """Sends one datagram without waiting for a reply."""
        _options.check_type("data", data, "Buffer")
        self._native.send(data, self._timeout)

    def receive(self) -> bytes:
        """Waits for one datagram and returns it."""
        return self._native.receive(self._timeout)

    async def send_async(self, data: Buffer) -> None:
        """`send` for asyncio, on a thread."""
        import asyncio

        await asyncio.to_thread(self.send, data)

    async def receive_async(self) -> bytes:
        """`receive` for asyncio, on a thread. Cancelling does not end it; its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.receive)


@explained(sockets.TcpClientOptions)
class TcpClient(Client[_rsecho.TcpClient]):
    """One TCP connection to a server.

    Connecting tries all addresses of the name, one after the other, within `timeout`. After that,
    `timeout` limits the time without progress: a large transfer may take longer while it moves.
    `request` reads as many bytes as it sends; it sends and reads at the same time, so data of any
    size gets through.

    Args:
        host: Name or numeric address of the server.
        port: Port of the server.
        timeout: Seconds, as above, 0 or more. By default 1. None: no limit.
        family: 4 or 6: uses only addresses of that IP version. 0, the default: either.
        **options: See `TcpClientOptions`.

    Raises:
        ConnectionRefusedError: nothing listens there.
        ConnectionResetError, BrokenPipeError: the server dropped the connection.
        TimeoutError: no answer, or no progress.
        EndOfStreamError: the server ended the stream before all expected bytes had arrived.
        OSError, TypeError, ValueError, StateError: as for `UdpClient`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float | None = 1.0,
        family: Literal[0, 4, 6] = 0,
        **options: Unpack[TcpClientOptions],
    ) -> None:
        _check_peer(host, port, timeout, family)
        native_options = sockets.options(options, sockets.TcpClientOptions, self)
        native = _rsecho.TcpClient(host, port, native_options, family=family, timeout=timeout)
        super().__init__(native, timeout)

    def send_all(self, data: Buffer) -> None:
        """Sends all of `data`."""
        _options.check_type("data", data, "Buffer")
        self._native.send_all(data, self._timeout)

    def receive(self, max_bytes: int = 65_536) -> bytes:
        """Waits for data and returns it: 1 byte to `max_bytes`, never more than 1 MiB. Returns
        nothing at the end of the stream."""
        _options.check_type("max_bytes", max_bytes, "int")
        return self._native.receive(max_bytes, self._timeout)

    def receive_exactly(self, count: int) -> bytes:
        """Waits for `count` bytes and returns them."""
        _options.check_type("count", count, "int")
        return self._native.receive_exactly(count, self._timeout)

    def exchange_line(
        self, line: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """Sends `line` and a newline, and waits for one line, which is returned without its
        newline. The arguments are those of `exchange`. Bytes after the line can be received later.

        Raises:
            ValueError: `line` has a newline in it.
            EndOfStreamError: the stream ended before the newline.
            OSError: EMSGSIZE: the reply is 64 MiB longer than `line` and still has no newline.
        """
        _check_exchange("line", line, expected, takes_any)
        if b"\n" in bytes(line):
            raise ValueError(
                f"cannot set line={_arguments.shown(line)}: it has a newline in it, and each "
                "line is answered by one; send one line per call, without its newline"
            )
        with self._turn:
            reply = self._native.request_line(
                line, self._timeout, expected=expected, takes_any=takes_any
            )
        return Reply(*reply)

    def finish(self) -> None:
        """Ends the sending direction (shutdown). What the server still sends can be received."""
        self._native.finish()

    async def send_all_async(self, data: Buffer) -> None:
        """`send_all` for asyncio, on a thread."""
        import asyncio

        await asyncio.to_thread(self.send_all, data)

    async def exchange_line_async(
        self, line: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """`exchange_line` for asyncio, on a thread. Cancelling does not end it; its timeout
        does."""
        import asyncio

        return await asyncio.to_thread(
            self.exchange_line, line, expected=expected, takes_any=takes_any
        )

    async def receive_async(self, max_bytes: int = 65_536) -> bytes:
        """`receive` for asyncio, on a thread. Cancelling does not end it; its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.receive, max_bytes)

    async def receive_exactly_async(self, count: int) -> bytes:
        """`receive_exactly` for asyncio, on a thread. Cancelling does not end it; its timeout
        does."""
        import asyncio

        return await asyncio.to_thread(self.receive_exactly, count)
