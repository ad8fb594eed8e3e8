"""Ctrl-C that ends a wait, and nothing else, so that what was begun is finished and shown."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Interrupts(contextlib.ExitStack):
    """SIGINT and SIGTERM raise KeyboardInterrupt inside `waiting` only. A second one raises it
    at once: what is finished then may wait as well, for the reader of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.number: int | None = None
        """The signal that came."""
        self._is_waiting = False
        for number in (signal.SIGINT, signal.SIGTERM):
            # Ignored in what nohup or a shell's `&` started: that stays as it is.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.callback(signal.signal, number, signal.signal(number, self._came))

    @property
    def status(self) -> int:
        """Of a command that was ended by the signal, as shells report it."""
        return 128 + (self.number or 0)

    def _came(self, number: int, frame: FrameType | None) -> Any:
        is_second = self.number is not None
        self.number = number
        if self._is_waiting or is_second:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Where a signal may end what is done."""
        self._is_waiting = True
        try:
            if self.number is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_waiting = False
