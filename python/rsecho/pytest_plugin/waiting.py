"""Waits on a thread, for the async library that runs: asyncio or trio, or anyio on either."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


async def poll(look: Callable[[], _T | None], is_over: Callable[[], bool]) -> _T | None:
    """Calls `look`, which may block for a moment, on a thread until it returns something,
    `is_over` says true, or the awaiting task is cancelled.

    Raises:
        RuntimeError: neither library runs.
    """
    if _is_in_trio():
        return await _poll_in_trio(look, is_over)
    from rsecho import _aio

    return await _aio.poll(look, is_over)


def _is_in_trio() -> bool:
    # Asked before asyncio, whose loop also runs where it is host to trio (guest mode).
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _poll_in_trio(look: Callable[[], _T | None], is_over: Callable[[], bool]) -> _T | None:
    trio: Any = sys.modules["trio"]
    is_cancelled = threading.Event()

    def run() -> _T | None:
        found: _T | None = None
        while found is None and not is_cancelled.is_set():
            found = look()
            if is_over():
                break
        return found

    # A limiter of its own: otherwise waits would use up the threads of trio's default one.
    limiter = trio.CapacityLimiter(1)
    try:
        found: _T | None = await trio.to_thread.run_sync(
            run, abandon_on_cancel=True, limiter=limiter
        )
        return found
    finally:
        is_cancelled.set()
