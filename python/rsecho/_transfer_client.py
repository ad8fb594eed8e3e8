"""A client that sends and fetches large messages, and what it tells of them. Users find it in
`rsecho.transfer`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from rsecho import _lifecycle as _lifecycle
from rsecho import _options, _rsecho, _sources, sockets
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a transfer, by its figures. Those that a wire does not tell are None."""

    name: str
    """With "/" between its components; "" for a message without a name."""
    url: str
    """To whom it went, or from whom it came."""
    length_bytes: int
    """Of the message."""
    digest: str | None = None
    """BLAKE3 of all of it, in hex."""
    resumed_from_bytes: int = 0
    """So much was there from an earlier attempt."""
    was_there: bool = False
    """All of it was: the same contents, under the same name."""
    duration_ns: int = 0
    sent_bytes: int = 0
    """Of the message, what was sent again included."""
    sent_packets: int = 0
    retransmitted_packets: int = 0
    """Packets with what was sent before."""
    lost_packets: int = 0
    srtt_ns: int | None = None
    """Smoothed round-trip time at the end (RFC 6298)."""
    min_rtt_ns: int | None = None
    """The least round-trip time."""
    chunk_bytes: int | None = None
    """Of the message in a datagram, at the end."""
    cwnd_bytes: int | None = None
    """The congestion window at the end (RFC 9438)."""

    @property
    def bytes_per_second(self) -> float:
        """Of what was not there before, by the time it took."""
        moved = 0 if self.was_there else self.length_bytes - self.resumed_from_bytes
        return moved / (self.duration_ns / 1e9) if self.duration_ns else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched(Sent):
    """What was fetched, and the figures of that. Those of packets are what this side knows."""

    data: bytes | None = None
    """The message; None where it is a file."""
    path: Path | None = None
    """The file."""


@explained(_options.TransferClientOptions)
class Client:
    """A socket that sends large messages to one server, and fetches them, one after the other.

    `send`, `fetch` and `echo` of this module make one each time.

    Args:
        host: A name or a numeric address; a name's IPv4 address before its IPv6 address.
        port: The server's.
        **options: See `rsecho.sockets.TransferClientOptions`.

    Raises:
        TransferError: from any transfer: why it failed; its subclass `TransferTimeoutError`, a
            TimeoutError too, if in time.
        ConnectionRefusedError: the peer's host says nobody listens (ICMP).
        OSError: with ENETUNREACH, EHOSTUNREACH and so on in `errno`; socket.gaierror for a name
            that does not resolve.
        ValueError: an argument that can never work.
        StateError: after `close`.
    """

    def __init__(self, host: str, port: int, **options: Unpack[TransferClientOptions]) -> None:
        _options.check(options, _options.TransferClientOptions, self)
        given: dict[str, Any] = dict(options)
        self._timeout: float | None = given.pop("timeout", None)
        self._progress_timeout: float = given.pop("progress_timeout", 10.0)
        self._rate: int | None = given.pop("rate", None)
        self._wire: str = given.pop("wire", "native")
        self._chunk_bytes: int | None = given.pop("chunk_bytes", None)
        if self._wire not in ("native", "plain"):
            raise ValueError(f"cannot speak wire={self._wire!r}: it is 'native' or 'plain'")
        if self._chunk_bytes is not None and self._wire != "plain":
            raise ValueError("cannot set chunk_bytes with wire='native': it follows the path")
        family, engine = given.pop("family", 0), given.pop("engine", "auto")
        native_options = _rsecho.SocketOptions(**sockets.roomy(given))
        self._native = _rsecho.TransferClient(
            host, port, native_options, family=family, engine=engine
        )
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
    def engine(self) -> str:
        """The engine that really runs."""
        return self._native.engine

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, what was asked for and what the kernel gave."""
        return sockets.report(self._native.socket_report)

    def send(
        self,
        source: Source,
        *,
        name: Name | None = None,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Sent:
        """Sends one message; returns once the receiver has it whole.

        Args:
            source: bytes or another buffer, which is not copied and must not change meanwhile; a
                file by its `pathlib.Path`; or a file opened with mode "rb", a pipe, or what else
                has `read`, which is read to its end.
            name: What it is called there; "": nothing. None: a path by its last component,
                anything else nothing.
            replace: May take the place of what has that name there.
            progress: See `Progress`.
        """
        if name is None:
            name = os.path.basename(os.fspath(source)) if isinstance(source, os.PathLike) else ""  # noqa: PTH119
        words = components(name)
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
        """Fetches what has this name there.

        Args:
            name: Its name.
            to: The file that it becomes, or a directory that is there, for its last component in
                it. None: memory.
            overwrite: May take the place of that file.
            max_message_bytes: The longest that is taken into memory.
            progress: See `Progress`.
        """
        self._needs_native("fetch")
        words = components(name)
        if not words:
            raise ValueError("cannot fetch what has no name: say which")
        path = None if to is None else Path(to)
        if path is not None and path.is_dir():
            path /= words[-1]
        given = self._limits() | {"overwrites": overwrite, "max_message_bytes": max_message_bytes}
        del given["bytes_per_second"]
        sink = None if path is None else ("path", os.fspath(path))
        with self._turn:
            # Not as the tuple's inferred type, which mypy widens.
            found = self._native.fetch(words, sink, given, progress)  # type: ignore[arg-type]
        return _build(Fetched, words, self.url, found | {"path": path})

    def echo(self, data: Buffer, *, progress: Progress | None = None) -> bytes:
        """Sends a message and fetches it back, from a server that echoes messages."""
        self._needs_native("echo")
        with self._turn:
            return self._native.echo(data, self._limits(), progress)

    def _limits(self) -> dict[str, Any]:
        return {
            "timeout": self._timeout,
            "progress_timeout": self._progress_timeout,
            "bytes_per_second": self._rate,
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
        """`send` on a thread. Cancelling ends it, and closes the client; `progress` is called on
        the event loop."""

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
        """`fetch` on a thread, as for `send_async`."""

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
        """`echo` on a thread, as for `send_async`."""
        return await self._on_thread(lambda progress: self.echo(data, progress=progress), progress)

    def close(self) -> None:
        """Closes the socket; a transfer in another thread ends. Does nothing the second time."""
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
    if isinstance(name, bytes | bytearray):
        raise TypeError(f"cannot use {name!r} as a name: it is a str, or a list of them")
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
