"""Async functions, called from a server's thread, on the event loop that a test runs in.

That is the loop of asyncio or trio that runs where the function is given, so that it can use
what the test made there. Where none runs, it is a loop of asyncio of our own.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Protocol

    Done = Callable[[object, BaseException | None], object]

    class Start(Protocol):
        """Calls a function and, on any thread, `done` with its result or error; returns what
        cancels it."""

        def __call__(
            self, function: Callable[..., Any], arguments: tuple[Any, ...], done: Done
        ) -> Callable[[], object]: ...


def starter() -> Start:
    """What calls async functions where this is called."""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        # Before asyncio, whose loop also runs where it is host to trio (guest mode).
        try:
            return _in_trio(trio.lowlevel.current_trio_token())
        except RuntimeError:
            pass
    running: Any = sys.modules.get("asyncio")
    if running is not None:
        try:
            return _in_asyncio(running.get_running_loop)
        except RuntimeError:
            pass
    return _in_asyncio(_own_loop)


def _in_asyncio(find_loop: Callable[[], asyncio.AbstractEventLoop]) -> Start:
    found = None if find_loop is _own_loop else find_loop()

    def start(
        function: Callable[..., Any], arguments: tuple[Any, ...], done: Done
    ) -> Callable[[], object]:
        import asyncio

        loop = found or _own_loop()
        coroutine = function(*arguments)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:
            coroutine.close()
            raise RuntimeError(
                "the event loop in which it was given to reply() has ended: give it in this test"
            ) from None

        def tell(_: object) -> None:
            if future.cancelled():
                done(None, asyncio.CancelledError())
            elif (error := future.exception()) is not None:
                done(None, error)
            else:
                done(future.result(), None)

        future.add_done_callback(tell)
        return future.cancel

    return start


def _in_trio(token: Any) -> Start:
    def start(
        function: Callable[..., Any], arguments: tuple[Any, ...], done: Done
    ) -> Callable[[], object]:
        trio: Any = sys.modules["trio"]
        scope = trio.CancelScope()

        async def within() -> Any:
            with scope:
                return await function(*arguments)
            raise trio.RunFinishedError("it was cancelled")

        def run() -> None:
            try:
                result = trio.from_thread.run(within, trio_token=token)
            except BaseException as error:
                done(None, error)
            else:
                done(result, None)

        def cancel() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)

        threading.Thread(target=run, name="rsecho-trio", daemon=True).start()
        return cancel

    return start


def was_cancelled(error: BaseException) -> bool:
    """Whether its event loop ended, or nobody waits for it any more."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"CancelledError", "Cancelled", "RunFinishedError"})


_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def _own_loop() -> asyncio.AbstractEventLoop:
    """One for the process, on a thread of its own."""
    import asyncio
    import atexit

    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="rsecho-async", daemon=True)
            thread.start()
            atexit.register(_end, loop, thread)
            _loops.append(loop)
        return _loops[0]


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(1.0)
    if not thread.is_alive():
        loop.close()
