"""A client that sends and fetches large messages, and its results. Users find it in
`rsecho.transfer`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from rsecho import _lifecycle as _lifecycle
from rsecho import _options, _rsecho, _rules, _sources, sockets
from rsecho._arguments import refused
from rsecho._brief import brief
from rsecho._explained import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import Self, TypeAlias, Unpack

    from typing_extensions import Buffer

    from rsecho._options import TransferClientOptions
    from rsecho._sources import Source
    from rsecho.sockets import OptionReport

    Name: TypeAlias = str | Sequence[str]
    """With "/" between its components, or the components: UTF-8, 1 to 255 bytes each, 16 of them at
    most. It is never a path."""
    Progress: TypeAlias = Callable[[int, int | None], object]
    """Called with the bytes that are done and those that there are (None: not known), ten times a
    second at most and once at the end. What it raises ends the transfer."""

__all__ = ["MAX_MESSAGE_BYTES", "Client", "Fetched", "Sent"]

_T = TypeVar("_T")

# As long as a message in memory may be unless told, on either side.
MAX_MESSAGE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sent:
    """Result of a transfer, with its figures. None where the wire does not provide one."""

    name: str
    """Name of the message, with "/" between its components; "": no name."""
    url: str
    """Address of the other side, as in `udp://127.0.0.1:9999`."""
    length_bytes: int
    """Length of the message in bytes."""
    digest: str | None = None
    """BLAKE3 hash of the contents, in hexadecimal."""
    resumed_from_bytes: int = 0
    """Number of bytes that were present from an earlier attempt, and were not moved again."""
    was_there: bool = False
    """True if the same contents were present under the same name already."""
    duration_ns: int = 0
    """Duration of the transfer in nanoseconds."""
    sent_bytes: int = 0
    """Bytes of the message that were sent, repetitions included."""
    sent_packets: int = 0
    """Packets that were sent."""
    retransmitted_packets: int = 0
    """Packets that repeated earlier data."""
    lost_packets: int = 0
    """Packets that were considered lost."""
    srtt_ns: int | None = None
    """Smoothed round-trip time at the end, in nanoseconds (RFC 6298)."""
    min_rtt_ns: int | None = None
    """Shortest round-trip time, in nanoseconds."""
    chunk_bytes: int | None = None
    """Bytes of the message per datagram, at the end."""
    cwnd_bytes: int | None = None
    """Congestion window at the end, in bytes (RFC 9438)."""

    __repr__ = brief

    @property
    def bytes_per_second(self) -> float:
        """Average speed, of the bytes that were not present before."""
        moved = 0 if self.was_there else self.length_bytes - self.resumed_from_bytes
        return moved / (self.duration_ns / 1e9) if self.duration_ns else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fetched(Sent):
    """Result of a fetch. The packet counters are those of this side."""

    data: bytes | None = None
    """The contents; None if they were written to a file."""
    path: Path | None = None
    """The file; None if the contents are in `data`."""

    __repr__ = brief


@explained(_options.TransferClientOptions)
class Client:
    """Sends large messages to one server, and fetches them, over one socket, one at a time.

    The functions `send`, `fetch` and `echo` of this module create one for each call.

    Args:
        host: Name or numeric address of the server. If a name has addresses of both kinds, the IPv4
            address is used.
        port: Port of the server.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError: from a transfer: it failed. Its subclass `TransferTimeoutError`, which is a
            TimeoutError as well: it took too long.
        ConnectionRefusedError: the host reports that nothing listens there (ICMP).
        OSError: with ENETUNREACH, EHOSTUNREACH and so on in `errno`; socket.gaierror if the name
            does not resolve.
        TypeError: a keyword is unknown, or its value has another type.
        ValueError: a value is out of range, or would have no effect with the other keywords.
        StateError: the client is closed.
    """

    def __init__(self, host: str, port: int, **options: Unpack[TransferClientOptions]) -> None:
        _options.check(options, _options.TransferClientOptions, self)
        given: dict[str, Any] = dict(options)
        self._timeout: float | None = given.pop("timeout", None)
        self._progress_timeout: float = given.pop("progress_timeout", 10.0)
        self._rate: int | None = given.pop("rate", None)
        self._wire: str = given.pop("wire", "native")
        self._chunk_bytes: int | None = given.pop("chunk_bytes", None)
        for argument, value, kind in (("host", host, "str"), ("port", port, "int")):
            _options.check_type(argument, value, kind)
        _rules.check(options, _rules.TRANSFER)
        # Refused here rather than by the first transfer.
        _rsecho.check_terms(self._limits() | {"chunk_bytes": self._chunk_bytes})
        family, engine = given.pop("family", 0), given.pop("engine", "auto")
        native_options = _rsecho.SocketOptions(**sockets.roomy(given))
        self._native = _rsecho.TransferClient(
            host, port, native_options, family=family, engine=engine
        )
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
    def engine(self) -> str:
        """The engine in use: "batch" or "portable"."""
        return self._native.engine

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, by keyword: the requested value and the one that the kernel
        set."""
        return sockets.report(self._native.socket_report)

    def send(
        self,
        source: Source,
        *,
        name: Name | None = None,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Sent:
        """Sends one message; returns when the receiver has all of it.

        Args:
            source: bytes or another buffer, which is not copied and must not change meanwhile; a
                file as `pathlib.Path`; or an object with `read`, such as a file opened with mode
                "rb" or a pipe, which is read to its end.
            name: Name of the message at the receiver; "": no name. None: the last component of a
                path; otherwise no name.
            replace: Asks the receiver to replace a file of that name. By default False.
            progress: Called with the number of bytes done and the total (None: not known), at most
                ten times per second and once at the end. An exception from it ends the transfer.
        """
        _options.check_type("replace", replace, "bool")
        _options.check_type("progress", progress, "Progress | None")
        explicit = name
        if name is None:
            name = os.path.basename(os.fspath(source)) if isinstance(source, os.PathLike) else ""  # noqa: PTH119
        words = components(name)
        asked = {"name": explicit, "called": words or None, "replace": replace, "wire": self._wire}
        _rules.check(asked, _rules.SEND)
        given = self._limits() | {
            "name": words,
            "replaces": replace,
            "wire": self._wire,
            "chunk_bytes": self._chunk_bytes,
        }
        with self._turn, _sources.opened(source, self.close) as native:
            found = self._native.send(native, given, progress)
        return _build(Sent, words, self.url, found)

    def fetch(
        self,
        name: Name,
        *,
        to: str | PathLike[str] | None = None,
        overwrite: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        progress: Progress | None = None,
    ) -> Fetched:
        """Fetches a file from the server by its name.

        Args:
            name: Name of the file on the server, with "/" between its components.
            to: File to write, or an existing directory, in which the file gets the last component
                of `name`. None: the data is returned in memory.
            overwrite: Allows replacing that file. By default False. Needs `to`.
            max_message_bytes: Longest message accepted in memory, in bytes. By default 16 MiB.
            progress: Called with the number of bytes done and the total (None: not known), at most
                ten times per second and once at the end. An exception from it ends the transfer.
        """
        self._needs_native("fetch")
        words = components(name)
        if not words:
            raise ValueError(f"cannot set name={name!r}: it is empty; give the name of a file")
        for argument, value, kind in (
            ("to", to, "str | PathLike | None"),
            ("overwrite", overwrite, "bool"),
            ("max_message_bytes", max_message_bytes, "int"),
            ("progress", progress, "Progress | None"),
        ):
            _options.check_type(argument, value, kind)
        # Its default cannot be told from the same number.
        limit = None if max_message_bytes == MAX_MESSAGE_BYTES else max_message_bytes
        _rules.check({"to": to, "overwrite": overwrite, "max_message_bytes": limit}, _rules.FETCH)
        path = None if to is None else Path(to)
        if path is not None and path.is_dir():
            path /= words[-1]
        given = self._limits() | {"overwrites": overwrite, "max_message_bytes": max_message_bytes}
        del given["rate"]
        sink = None if path is None else ("path", os.fspath(path))
        with self._turn:
            # Not as the tuple's inferred type, which mypy widens.
            found = self._native.fetch(words, sink, given, progress)  # type: ignore[arg-type]
        return _build(Fetched, words, self.url, found | {"path": path})

    def echo(self, data: Buffer, *, progress: Progress | None = None) -> bytes:
        """Sends a message to a server that echoes messages, and returns what comes back."""
        self._needs_native("echo")
        _options.check_type("data", data, "Buffer")
        _options.check_type("progress", progress, "Progress | None")
        with self._turn:
            return self._native.echo(data, self._limits(), progress)

    def _limits(self) -> dict[str, Any]:
        return {
            "timeout": self._timeout,
            "progress_timeout": self._progress_timeout,
            "rate": self._rate,
        }

    def _needs_native(self, what: str) -> None:
        if self._wire == "plain":
            raise ValueError(f"cannot {what} with wire='plain': it has no words to ask with")

    async def _on_thread(
        self, call: Callable[[Progress | None], _T], progress: Progress | None
    ) -> _T:
        """`call` on a thread; cancelling closes the client. `progress` is called on the loop."""
        from rsecho import _aio

        if progress is None:
            return await _aio.run(partial(call, None), self.close)
        on_loop = _aio.OnLoop(progress)
        found = await _aio.run(partial(call, on_loop), self.close)
        on_loop.check()
        return found

    async def send_async(
        self,
        source: Source,
        *,
        name: Name | None = None,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Sent:
        """`send` for asyncio, on a thread. Cancelling ends the transfer and closes the client.
        `progress` is called on the event loop."""

        def call(progress: Progress | None) -> Sent:
            return self.send(source, name=name, replace=replace, progress=progress)

        return await self._on_thread(call, progress)

    async def fetch_async(
        self,
        name: Name,
        *,
        to: str | PathLike[str] | None = None,
        overwrite: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        progress: Progress | None = None,
    ) -> Fetched:
        """`fetch` for asyncio, as `send_async`."""

        def call(progress: Progress | None) -> Fetched:
            return self.fetch(
                name,
                to=to,
                overwrite=overwrite,
                max_message_bytes=max_message_bytes,
                progress=progress,
            )

        return await self._on_thread(call, progress)

    async def echo_async(self, data: Buffer, *, progress: Progress | None = None) -> bytes:
        """`echo` for asyncio, as `send_async`."""
        return await self._on_thread(lambda progress: self.echo(data, progress=progress), progress)

    def close(self) -> None:
        """Closes the socket, and ends a transfer in another thread. Does nothing the second
        time."""
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
        raise TypeError("cannot pickle or copy a Client: it is a socket; make another")

    def __repr__(self) -> str:
        native = getattr(self, "_native", None)
        return f"<transfer.Client {'not made' if native is None else native.name}>"


def components(name: Name) -> list[str]:
    """The components of a name, none of a message without one.

    Raises:
        TypeError: it is none.
        ValueError: it is not UTF-8.
    """
    if not (isinstance(name, str) or _is_list_of_str(name)):
        raise refused("name", name, "a str, or a list of them", TypeError)
    if not name:
        return []
    words = name.split("/") if isinstance(name, str) else list(name)
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"cannot use {name!r} as a name: it is not UTF-8; give another by name="
        ) from None
    return words


def _is_list_of_str(name: object) -> bool:
    return isinstance(name, list | tuple) and all(isinstance(each, str) for each in name)


def _build(kind: type[_T], name: list[str], url: str, found: dict[str, Any]) -> _T:
    """The native figures as `kind`."""
    values = {
        **found,
        "name": "/".join(name),
        "url": url,
        "length_bytes": found["length"],
        "resumed_from_bytes": found.get("resumed_from") or 0,
        "digest": found["digest"].hex() if found.get("digest") else None,
    }
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})


for _class in (Client, Sent, Fetched):
    # Where users find them.
    _class.__module__ = "rsecho.transfer"
