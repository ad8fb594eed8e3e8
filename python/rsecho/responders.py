"""Responders: what a server answers instead of the request itself.

A responder is a name, a callable or a coroutine function. A callable is called with `(data, peer)`
and returns the reply, or None for no reply. It runs on a worker thread of the server, with the GIL
held for a whole batch of requests. A coroutine function runs on the event loop in which the server
was started. An exception affects only its own request, which is counted, logged with the traceback,
and answered with `error_reply` if that is set.

A callable may fork (`os.fork`, `multiprocessing`) and run programs (`subprocess`). A forked child
exits at the point where it would continue in the server: with the status of `sys.exit()`; if it
raises or returns, with status 1 and a traceback or a line on standard error. Its return value is
not sent.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rsecho import _arguments, _rsecho
from rsecho._errors import RecordError, StateError
from rsecho._limiter import Limiter
from rsecho._lines import emit, host_port, said

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from rsecho.layout import RecordLayout

    Answer: TypeAlias = bytes | bytearray | memoryview | None
    OnRequest: TypeAlias = (
        Callable[[bytes, "Peer"], Answer] | Callable[[bytes, "Peer"], Awaitable[Answer]]
    )
    # Any: a dict is invariant, and a function of `dict[str, object]` takes this as well.
    Fields: TypeAlias = dict[str, Any]
    OnFields: TypeAlias = (
        Callable[[Fields, "Peer"], Answer] | Callable[[Fields, "Peer"], Awaitable[Answer]]
    )

__all__ = ["Peer", "load_callable"]

_logger = logging.getLogger("rsecho.responder")

# Requests of one server that a loop may have at a time: beyond them they fail, as they would
# in a queue that only grows.
_MOST_AT_A_TIME = 10_000


class Peer(NamedTuple):
    """Address of a client, as the pair (host, port) of the `socket` module."""

    host: str
    """Numeric address; a link-local one includes its interface, as in `fe80::1%eth0`."""
    port: int


class Failures:
    """Logs what responders raise, with a traceback, once a second at most."""

    def __init__(self) -> None:
        self.url = ""
        self.limiter = Limiter()

    def __call__(self, error: BaseException, peer: tuple[str, int]) -> None:
        """Called on the thread that asked the responder."""
        if isinstance(error, RecordError):
            return  # said already, by rsecho.records
        when, url, name = time.time_ns(), self.url, host_port(peer)

        def write(more: str) -> None:
            text = f"the responder of {url} failed for {name}: {said(error)}{more}"
            parts = {"event": "responder_failed", "server": url, "peer": name}
            emit(_logger, logging.ERROR, when, text, raised=error, **parts)

        self.limiter.offer(write)


class Loop:
    """Runs a coroutine function for each request on the loop in which the server starts."""

    def __init__(
        self,
        function: Callable[[Any, Peer], Awaitable[Answer]],
        failures: Failures,
        error_reply: bytes | None,
    ) -> None:
        self._function = function
        self._failures = failures
        self._error_reply = error_reply
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        # Held, since a loop itself remembers its tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self, url: str) -> None:
        """Takes the running loop.

        Raises:
            StateError: none runs.
        """
        import asyncio

        try:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
        except RuntimeError:
            raise StateError(
                f"cannot start {url}: its responder is a coroutine function and no event loop "
                "runs here; start it within one, as with `async with`"
            ) from None

    def is_here(self) -> bool:
        """True on the thread of the loop."""
        return self._thread == threading.get_ident()

    def dispatch(self, batch: Sequence[tuple[int, bytes, Peer]], answers: _rsecho.Answers) -> None:
        """Hands a batch over, from the server's thread."""
        if self._loop is None:
            raise StateError("no event loop was taken: start the server within one")
        self._loop.call_soon_threadsafe(self._start, batch, answers)

    def _start(self, batch: Sequence[tuple[int, bytes, Peer]], answers: _rsecho.Answers) -> None:
        import asyncio

        for ticket, data, peer in batch:
            if len(self._tasks) >= _MOST_AT_A_TIME:
                text = f"{_MOST_AT_A_TIME} requests are being answered already"
                self._failures(RuntimeError(text), peer)
                answers.fail(ticket, self._error_reply)
                continue
            task = asyncio.get_running_loop().create_task(self._answer(ticket, data, peer, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, ticket: int, data: bytes, peer: Peer, answers: _rsecho.Answers) -> None:
        try:
            answers.reply(ticket, await self._function(data, peer))
        except Exception as error:
            self._failures(error, peer)
            # An error is not answered with an error.
            answers.fail(ticket, None if data == self._error_reply else self._error_reply)
        except BaseException as error:
            import asyncio

            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and not task.cancelling():
                # Nobody cancelled this one: something that it waited for was.
                self._failures(error, peer)
                answers.fail(ticket, None if data == self._error_reply else self._error_reply)
                return
            # The loop is ending; the request with it.
            answers.fail(ticket, None)
            raise


class GivesLater:
    """A callable of (data, peer) that may return a `_rsecho.Later`."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[bytes, Peer], Any]) -> None:
        self.function = function

    def __call__(self, data: bytes, peer: Peer) -> Any:
        """Asks it."""
        return self.function(data, peer)


class Setup:
    """`responder=` and what belongs to it, made ready for a server."""

    def __init__(
        self,
        responder: str | OnRequest | OnFields | None,
        *,
        upper: bool,
        error_reply: bytes | None,
        layout: RecordLayout | None,
        takes_fields: bool,
    ) -> None:
        self.failures = Failures()
        self.loop: Loop | None = None
        self.native: _rsecho.Responder | None = None
        """None: plain echo."""
        self.is_callable = False
        function: Callable[..., Any] | None = None
        if isinstance(responder, str):
            path = responder.removeprefix("python=")
            if path != responder:
                function = load_callable(path)
            else:
                self.native = _rsecho.Responder.named(responder, upper=upper)
        elif callable(responder):
            function = responder
        elif upper:
            self.native = _rsecho.Responder.named("echo", upper=True)
        if function is None:
            return
        self.is_callable = True
        if takes_fields:
            function = _of_fields(function, layout)
        if _is_coroutine_function(function):
            self.loop = Loop(function, self.failures, error_reply)
            self.native = _rsecho.Responder.deferred(self.loop.dispatch, self.failures, error_reply)
        else:
            gives_later = isinstance(function, GivesLater)
            self.native = _rsecho.Responder.callable(
                function, self.failures, error_reply, gives_later=gives_later
            )


def load_callable(path: str) -> Callable[..., Any]:
    """The object that `module:function` names, or `package.module:object.method`.

    Raises:
        TypeError: `path` is not a str.
        ValueError: there is no such module or object, or it cannot be called.
    """
    from importlib import import_module

    _arguments.check("path", path, "str")
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"cannot set responder='python={path}': write python=module:function")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        way_out = "is it on PYTHONPATH?" if error.name == module_name else "install that first"
        raise ValueError(
            f"cannot set responder='python={path}': it cannot be imported ({error}); {way_out}"
        ) from error
    except (Exception, SystemExit) as error:
        # Whatever a module does as it is imported; a SyntaxError spans several lines.
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"cannot set responder='python={path}': it cannot be imported ({reason}); "
            f"`python -c 'import {module_name}'` shows where"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"cannot set responder='python={path}': {module_name} has no {name}; "
                "write python=module:function"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(
            f"cannot set responder='python={path}': {name} is of type "
            f"{type(found).__name__}, which cannot be called; name a function"
        )
    function: Callable[..., Any] = found
    return function


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    import inspect

    # An object's own way to be called counts as well.
    method = getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)


def _of_fields(function: Callable[..., Any], layout: RecordLayout | None) -> Callable[..., Any]:
    if layout is None:
        raise ValueError(
            "cannot set responder_takes='fields': the fields are those of a record layout, and "
            "none is set; give it as unpack="
        )
    names, unpack = layout.names, layout.unpack

    def decode(data: bytes) -> Fields:
        return dict(zip(names, unpack(data), strict=True))

    if _is_coroutine_function(function):

        async def answer_later(data: bytes, peer: Peer) -> Answer:
            return await function(decode(data), peer)  # type: ignore[no-any-return]

        return answer_later

    def answer(data: bytes, peer: Peer) -> Answer:
        return function(decode(data), peer)  # type: ignore[no-any-return]

    return answer
