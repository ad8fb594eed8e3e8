"""Waiting from asyncio, imported only by who uses it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


async def poll(look: Callable[[], _T | None], is_over: Callable[[], bool]) -> _T | None:
    """Calls `look`, which may block for a moment, on a thread of its own until it returns
    something, `is_over` says true, or the awaiting task is cancelled.

    Not in the loop's executor: a few waits for servers would take all its threads, and then
    nothing else could run there, such as what stops those servers.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T | None] = loop.create_future()
    is_cancelled = threading.Event()

    def run() -> None:
        found: _T | None = None
        error: BaseException | None = None
        try:
            while found is None and not is_cancelled.is_set():
                found = look()
                if is_over():
                    break
        except Exception as raised:
            error = raised
        # The loop may be closed by now; then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, error)

    def settle(found: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)

    threading.Thread(target=run, name="rsecho-wait", daemon=True).start()
    try:
        return await future
    finally:
        is_cancelled.set()
