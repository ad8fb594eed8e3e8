"""Lines of one kind, one a second at most."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rsecho._rsecho import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable


_remind: Callable[[Limiter], None] | None = None


def remind_by(remind: Callable[[Limiter], None]) -> None:
    """Has that called from now on when a line is held back: by the thread that logs."""
    global _remind
    _remind = remind


class Limiter:
    """Lines of one kind, one a second at most: the first at once, the last of a burst when that
    second is over, by the thread that logs. May be used on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._throttle = Throttle()
        self._write: Callable[[str], None] = lambda _: None

    def offer(self, write: Callable[[str], None]) -> None:
        """Calls `write` with what to append to its line, now or, if it is the last, later."""
        with self._lock:
            left_out = self._throttle.offer(time.monotonic())
            if left_out is None:
                self._write = write
        if left_out is not None:
            write(_more(left_out))
        elif _remind is not None:
            _remind(self)

    @property
    def due(self) -> float | None:
        """When, by `time.monotonic`, the last line is due that was held back; None: none was."""
        return self._throttle.due()

    def flush(self) -> None:
        """Writes the last line that was held back, if it is due."""
        with self._lock:
            write, left_out = self._write, self._throttle.take_due(time.monotonic())
        if left_out is not None:
            write(_more(left_out))

    def finish(self) -> None:
        """Writes it whether it is due or not."""
        with self._lock:
            write, left_out = self._write, self._throttle.finish()
        if left_out is not None:
            write(_more(left_out))


def _more(left_out: int) -> str:
    return f" ({left_out} more like it)" if left_out else ""
