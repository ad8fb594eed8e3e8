"""Clients that ask an echo server.

A client is for one request at a time: a second one waits for its turn. One thread may send
while another receives. Every wait ends at Ctrl-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from rsecho import _lifecycle as _lifecycle
from rsecho import _options, _rsecho, sockets

# The lifecycle is for clients, too: a thread must not wait when the interpreter ends.
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


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for what was sent."""

    data: bytes
    rtt_ns: int
    """From before the first byte was sent until the last one was here, measured without the
    GIL, in nanoseconds."""
    is_equal: bool
    """True when what came back is what was sent, or what was expected instead."""


class Client(Generic[_Native]):
    """What UDP and TCP clients have in common. Not made itself."""

    def __init__(self, native: _Native, timeout: float | None) -> None:
        self._native: _Native = native
        self._timeout = timeout
        self._turn = Lock()

    @property
    def url(self) -> str:
        """Whom it talks to, as in `udp://127.0.0.1:9999`."""
        return self._native.name

    @property
    def address(self) -> tuple[str, int]:
        """Its own host and port."""
        return self._native.address

    @property
    def peer(self) -> tuple[str, int]:
        """The host and port it talks to."""
        return self._native.peer

    @property
    def timeout(self) -> float | None:
        """How many seconds it waits; None: for ever."""
        return self._timeout

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, what was asked for and what the kernel gave."""
        return sockets.report(self._native.socket_report)

    def request(self, data: Buffer) -> bytes:
        """Sends `data` and returns what comes back; see the class for what can go wrong."""
        _options.check_type("data", data, "Buffer")
        with self._turn:
            return self._native.request(data, self._timeout)[0]

    def exchange(
        self, data: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """`request`, with the time it took and whether the reply is right.

        Args:
            data: What to send.
            expected: The reply that is right; None: what was sent. Over TCP as many bytes are
                waited for as it has.
            takes_any: Any reply is right. Over TCP, whatever comes first, 64 KiB at most.

        Raises:
            ValueError: both `expected` and `takes_any`.
        """
        _check_exchange("data", data, expected, takes_any)
        with self._turn:
            reply = self._native.request(
                data, self._timeout, expected=expected, takes_any=takes_any
            )
        return Reply(*reply)

    async def request_async(self, data: Buffer) -> bytes:
        """`request` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.request, data)

    async def exchange_async(
        self, data: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """`exchange` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.exchange, data, expected=expected, takes_any=takes_any)

    def close(self) -> None:
        """Closes the socket; a wait in another thread ends. Does nothing the second time."""
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
    """Sends datagrams to one peer and receives from it alone.

    `request` waits for one datagram. Echo has no numbers by which a reply says what it
    answers, so whatever came before the request is dropped first; a late reply that comes
    during the wait cannot be told from the right one. `exchange` says whether it is equal.

    Args:
        host: A name or a numeric address; a name's IPv4 address before its IPv6 address.
        port: The server's.
        timeout: Seconds to wait in each call; None: for ever.
        family: 4 or 6 for that family of addresses only.
        **options: See `UdpClientOptions`.

    Raises:
        ConnectionRefusedError: from any call: the peer's host says nobody listens (ICMP).
        TimeoutError: nothing came back.
        OSError: with ENETUNREACH, EHOSTUNREACH, EMSGSIZE and so on in `errno`;
            socket.gaierror for a name that does not resolve.
        ValueError: an argument that can never work.
        StateError: after `close`.
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
        """Sends one datagram."""
        _options.check_type("data", data, "Buffer")
        self._native.send(data, self._timeout)

    def receive(self) -> bytes:
        """Waits for one datagram."""
        return self._native.receive(self._timeout)

    async def send_async(self, data: Buffer) -> None:
        """`send` on a thread."""
        import asyncio

        await asyncio.to_thread(self.send, data)

    async def receive_async(self) -> bytes:
        """`receive` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.receive)


@explained(sockets.TcpClientOptions)
class TcpClient(Client[_rsecho.TcpClient]):
    """One connection to a server.

    Connecting tries every address of the name in turn, within `timeout` in all. After that
    `timeout` is one without progress: a large transfer takes as long as it moves. `request`
    reads as many bytes back as it sends, both at once, so that data of any size gets
    through.

    Args:
        host: A name or a numeric address.
        port: The server's.
        timeout: Seconds, as above; None: for ever.
        family: 4 or 6 for that family of addresses only.
        **options: See `TcpClientOptions`.

    Raises:
        ConnectionRefusedError: nobody listens there.
        ConnectionResetError, BrokenPipeError: the peer dropped the connection.
        TimeoutError: no answer, or nothing moved.
        EndOfStreamError: the peer ended the stream before all that was wanted had come.
        OSError, ValueError, StateError: as for `UdpClient`.
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
        """Waits for some bytes, `max_bytes` (and 1 MiB) at most; empty: the peer has ended
        the stream."""
        _options.check_type("max_bytes", max_bytes, "int")
        return self._native.receive(max_bytes, self._timeout)

    def receive_exactly(self, count: int) -> bytes:
        """Waits for `count` bytes."""
        _options.check_type("count", count, "int")
        return self._native.receive_exactly(count, self._timeout)

    def exchange_line(
        self, line: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """Sends `line` and a newline, and waits for a line, which the reply has without its
        newline. Otherwise as `exchange`; what follows the line can be received.

        Raises:
            EndOfStreamError: the stream ended before the newline.
            OSError: with EMSGSIZE: no newline came within 64 MiB more than `line` has.
        """
        _check_exchange("line", line, expected, takes_any)
        with self._turn:
            reply = self._native.request_line(
                line, self._timeout, expected=expected, takes_any=takes_any
            )
        return Reply(*reply)

    def finish(self) -> None:
        """Tells the peer that nothing more will be sent; what it still sends can be
        received."""
        self._native.finish()

    async def send_all_async(self, data: Buffer) -> None:
        """`send_all` on a thread."""
        import asyncio

        await asyncio.to_thread(self.send_all, data)

    async def exchange_line_async(
        self, line: Buffer, *, expected: Buffer | None = None, takes_any: bool = False
    ) -> Reply:
        """`exchange_line` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(
            self.exchange_line, line, expected=expected, takes_any=takes_any
        )

    async def receive_async(self, max_bytes: int = 65_536) -> bytes:
        """`receive` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.receive, max_bytes)

    async def receive_exactly_async(self, count: int) -> bytes:
        """`receive_exactly` on a thread; cancelling does not end it, its timeout does."""
        import asyncio

        return await asyncio.to_thread(self.receive_exactly, count)
