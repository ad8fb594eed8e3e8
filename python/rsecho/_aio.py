"""Waiting from asyncio, imported only by who uses it.

Each wait has a thread of its own, not one of the loop's executor: a few waits for servers would
take all of those, and then nothing else could run there, such as what stops those servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


async def poll(look: Callable[[], _T | None], is_over: Callable[[], bool]) -> _T | None:
    """Calls `look`, which may block for a moment, on a thread until it returns something,
    `is_over` says true, or the awaiting task is cancelled."""
    is_cancelled = threading.Event()

    def run() -> _T | None:
        found: _T | None = None
        while found is None and not is_cancelled.is_set():
            found = look()
            if is_over():
                break
        return found

    try:
        return await _on_thread(run, "rsecho-wait")
    finally:
        is_cancelled.set()


async def run(call: Callable[[], _T], cancel: Callable[[], object]) -> _T:
    """Calls `call` on a thread. Where the awaiting task is cancelled, calls `cancel`, which is to
    have it return soon, and waits for that: nothing of it goes on once this has ended."""
    future = _on_thread(call, "rsecho-transfer")
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel()
        while not future.done():
            # Cancelled again, perhaps, by somebody who has less patience: it ends all the same.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        # What it failed with is that it was cancelled.
        future.exception()
        raise


def _on_thread(call: Callable[[], _T], name: str) -> asyncio.Future[_T]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        found: Any = None
        try:
            found = call()
        except Exception as raised:
            error = raised
        # The loop may be closed by now; then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, error)

    def settle(found: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class OnLoop:
    """A callback of the thread's that is called on the loop that runs now. What it raises there is
    raised on the thread by its next call, and by `check`."""

    def __init__(self, callback: Callable[..., object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._error: BaseException | None = None

    def __call__(self, *arguments: object) -> None:
        self.check()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._call, arguments)

    def _call(self, arguments: tuple[object, ...]) -> None:
        if self._error is None:
            try:
                self._callback(*arguments)
            except Exception as error:
                self._error = error

    def check(self) -> None:
        """Raises what the callback raised."""
        if self._error is not None:
            raise self._error
