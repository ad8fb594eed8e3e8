"""Receiving large messages in Python. Users find it in `rsecho.transfer`."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsecho import _options
from rsecho._brief import brief
from rsecho._errors import ServerError, StateError, TransferError, TransferTimeoutError
from rsecho._explained import explained
from rsecho._policy import Policy, Received
from rsecho.server import UdpServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, Unpack

    from rsecho import _rsecho
    from rsecho._options import ReceiverOptions
    from rsecho.sockets import OptionReport
    from rsecho.stats import UdpStats

__all__ = ["Message", "Receiver", "receive", "receive_async"]

# How long a look at what has come lasts, while a coroutine waits for it.
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """A received message: complete and equal to what was sent, unless `missing` names gaps."""

    data: bytes | None
    """The contents; None if it was stored as a file."""
    path: Path | None
    """The file; None if the contents are in `data`."""
    name: str
    """The name given by the sender, with "/" between its components; "": no name."""
    peer: tuple[str, int]
    """Host and port of the sender."""
    id: int
    """Number of the transfer, chosen at random by the sender."""
    length_bytes: int
    """Length of the message in bytes."""
    digest: str
    """BLAKE3 hash of the contents, in hexadecimal."""
    missing: tuple[tuple[int, int], ...] = ()
    """With `keep_partial`: the first and last number of each range of missing chunks. Zeros take
    their place, except after the last received chunk."""

    __repr__ = brief

    @property
    def is_whole(self) -> bool:
        """True if nothing is missing."""
        return not self.missing


@explained(_options.ReceiverOptions)
class Receiver:
    """A server that receives large messages, and returns them one by one.

        with Receiver("127.0.0.1", 9999, directory="in") as receiver:
            for message in receiver:
                print(message.name, message.path)

    Creating it binds the port. It starts with the `with` block, with `start`, or with the first
    wait. Iteration ends when it is closed. Messages in memory, and notices of received files, count
    towards `max_total_bytes` until they are taken. Other datagrams are discarded, unless
    `responder` is set.

    Args:
        host: Name or numeric address to bind; "" for all IPv4 interfaces. By default "localhost".
        port: Port to bind; 0, the default, picks a free one.
        **options: See `rsecho.sockets.ReceiverOptions`.

    Raises:
        OSError: the address cannot be bound, or the directory cannot be used.
        TypeError: a keyword is unknown, or its value has another type.
        ValueError: a value is out of range, or would have no effect with the other keywords.
    """

    def __init__(
        self, host: str = "localhost", port: int = 0, **options: Unpack[ReceiverOptions]
    ) -> None:
        _options.check(options, _options.ReceiverOptions, self)
        given: dict[str, Any] = {"responder": "discard", **options}
        of_policy = {
            name: given.pop(name)
            for name in _options.TransferOptions.__annotations__
            if name in given
        }
        if of_policy and given.get("transfer") is not None:
            raise ValueError(
                f"cannot set {', '.join(of_policy)} beside transfer=: set them in that policy"
            )
        if of_policy.get("receives") is False:
            raise ValueError(
                "cannot set receives=False: a Receiver receives; to share files only, use "
                "UdpServer(transfer=Policy(receives=False, directory=…))"
            )
        policy = given.get("transfer") or Policy(**of_policy)
        given["transfer"] = Received.of(policy)
        self._server = UdpServer(host, port, **given)
        # Taken by a wait that was cancelled before it could return it.
        self._unclaimed: deque[_rsecho._Message] = deque()
        self._is_started = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it is bound to."""
        return self._server.address

    @property
    def url(self) -> str:
        """Its address, as in `udp://127.0.0.1:9999`."""
        return self._server.url

    @property
    def engine(self) -> str:
        """The engine in use: "batch" or "portable"."""
        return self._server.engine

    @property
    def socket_report(self) -> dict[str, OptionReport]:
        """For each socket option, by keyword: the requested value and the one that the kernel
        set."""
        return self._server.socket_report

    @property
    def is_running(self) -> bool:
        """True from start until it has ended."""
        return self._server.is_running

    def stats(self) -> UdpStats:
        """All counters, read at one moment."""
        return self._server.stats()

    def start(self) -> None:
        """Starts receiving. Does nothing the second time."""
        if not self._is_started:
            self._server.start()
            self._is_started = True

    def receive(self, timeout: float | None = None) -> Message:
        """Waits for the next message and returns it. Starts the receiver if necessary.

        Args:
            timeout: Seconds to wait, 0 or more. None, the default: no limit.

        Raises:
            TimeoutError: no message arrived in time.
            TransferError: a message failed before it was complete. The next call waits for the next
                message.
            StateError: the receiver is closed.
            ServerError: it has ended because of an error.
        """
        _options.deadline(timeout)
        self.start()
        found = self._unclaimed.popleft() if self._unclaimed else self._take(timeout)
        if found is not None:
            return _message(found)
        raise self._nothing(timeout)

    async def receive_async(self, timeout: float | None = None) -> Message:
        """`receive` for asyncio. Cancelling it loses no message."""
        from rsecho import _aio

        deadline = _options.deadline(timeout)
        self.start()

        def look() -> bool | None:
            left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            found = self._take(max(min(left, _LOOK_SECONDS), 0.0))
            if found is not None:
                self._unclaimed.append(found)
            return True if self._unclaimed else None

        def is_over() -> bool:
            return not self.is_running or (deadline is not None and time.monotonic() >= deadline)

        while not self._unclaimed:
            if await _aio.poll(look, is_over) is None:
                raise self._nothing(timeout)
        return _message(self._unclaimed.popleft())

    def _take(self, timeout: float | None) -> _rsecho._Message | None:
        return self._server._native.take_message(timeout)

    def _nothing(self, timeout: float | None) -> Exception:
        reason = self._server.wait(0.0)
        if timeout is not None and reason is None:
            return TransferTimeoutError(f"no message came to {self.url} within {timeout:g} s")
        if reason is not None and not reason.is_healthy:
            return ServerError(f"{self.url} has ended: {reason.detail}")
        return StateError(f"cannot receive on {self.url}: it has ended; make another receiver")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """The next message that is complete or kept in part. Failed ones are logged and skipped."""
        while True:
            try:
                return self.receive()
            except TransferError:
                continue
            except StateError:
                raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """As `__next__`."""
        while True:
            try:
                return await self.receive_async()
            except TransferError:
                continue
            except StateError:
                raise StopAsyncIteration from None

    def close(self) -> None:
        """Closes it as `UdpServer.close` does, and ends waits for messages. Does nothing the second
        time."""
        self._server.close()

    def __enter__(self) -> Self:
        """Starts it, unless it is started."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Closes it."""
        self._server.__exit__(kind, error, where)

    async def __aenter__(self) -> Self:
        """Starts it, unless it is started."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """As `__exit__`, without blocking the event loop."""
        await self._server.__aexit__(kind, error, where)

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("cannot pickle or copy a Receiver: it is a socket with threads")

    def __repr__(self) -> str:
        server = getattr(self, "_server", None)
        return f"<Receiver {'not bound' if server is None else server.url}>"


def _message(found: _rsecho._Message) -> Message:
    """The message, or what it failed of."""
    peer, number, name, data, path, length, digest, missing, error = found
    ranges = tuple(missing or ())
    if data is None and path is None:
        reason, text = error or ("unknown", "a message failed")
        kind = TransferTimeoutError if reason == "timed_out" else TransferError
        raise kind(text, reason, False, ranges)
    return Message(
        data=data,
        path=None if path is None else Path(path),
        name="/".join(name),
        peer=peer,
        id=number,
        length_bytes=length,
        digest=digest.hex(),
        missing=ranges,
    )


def _check_waiting(timeout: float | None, on_ready: object) -> None:
    _options.deadline(timeout)
    _options.check_type("on_ready", on_ready, "Callable | None")


@explained(_options.ReceiverOptions)
def receive(
    host: str = "localhost",
    port: int = 0,
    *,
    timeout: float | None = None,
    on_ready: Callable[[tuple[str, int]], object] | None = None,
    **options: Unpack[ReceiverOptions],
) -> Message:
    """Receives one message, then closes the port. For more than one: `Receiver`.

    Args:
        host: Name or numeric address to bind; "" for all IPv4 interfaces. By default "localhost".
        port: Port to bind; 0, the default, picks a free one.
        timeout: Seconds to wait for the message, 0 or more. None, the default: no limit.
        on_ready: Called with the pair (host, port) when senders can begin.
        **options: See `rsecho.sockets.ReceiverOptions`.

    Raises:
        TimeoutError: no message arrived in time.
        TransferError: a message failed before it was complete.
        OSError, TypeError, ValueError: as for `Receiver`.
    """
    _check_waiting(timeout, on_ready)
    with Receiver(host, port, **options) as receiver:
        if on_ready is not None:
            on_ready(receiver.address)
        return receiver.receive(timeout)


@explained(_options.ReceiverOptions)
async def receive_async(
    host: str = "localhost",
    port: int = 0,
    *,
    timeout: float | None = None,
    on_ready: Callable[[tuple[str, int]], object] | None = None,
    **options: Unpack[ReceiverOptions],
) -> Message:
    """`receive` for asyncio. It can be cancelled.

    Args:
        host: Name or numeric address to bind; "" for all IPv4 interfaces. By default "localhost".
        port: Port to bind; 0, the default, picks a free one.
        timeout: Seconds to wait for the message, 0 or more. None, the default: no limit.
        on_ready: Called with the pair (host, port) when senders can begin.
        **options: See `rsecho.sockets.ReceiverOptions`.
    """
    _check_waiting(timeout, on_ready)
    async with Receiver(host, port, **options) as receiver:
        if on_ready is not None:
            on_ready(receiver.address)
        return await receiver.receive_async(timeout)


for _class in (Message, Receiver):
    # Where users find them.
    _class.__module__ = "rsecho.transfer"
