"""The second signal, which ends a process that has not ended after the first."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# How long last words may take: whoever reads them may hang, or hold a lock.
_LAST_WORDS_SECONDS = 1.0


def end_at_next(signals: set[signal.Signals], last_words: Callable[[], object]) -> None:
    """From now on the first of these signals, which are blocked in every thread, has
    `last_words` called and ends the process, with 128 and its number as a shell would say.

    On a thread of its own: nothing that the main thread waits for keeps it from that.
    """

    def watch() -> None:
        number = signal.sigwait(signals)
        speaker = threading.Thread(target=last_words, daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS_SECONDS)
        # Not sys.exit, which would wait for other threads, and for what runs at exit.
        os._exit(128 + number)

    threading.Thread(target=watch, name="rsecho-signals", daemon=True).start()
