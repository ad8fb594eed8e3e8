"""What came to one server, and the script that answers it: shared by its thread and a test's.

What runs on the server's thread under the lock holds the GIL and is short: it never sleeps.
Reply functions run outside the lock.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

from rsecho.pytest_plugin.matching import shown
from rsecho.pytest_plugin.playing import Playing
from rsecho.pytest_plugin.script import End, Received, Script
from rsecho.pytest_plugin.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsecho.pytest_plugin.matching import Matcher
    from rsecho.pytest_plugin.script import Ask, Expectation, Step, Taken
    from rsecho.responders import Peer

_T = TypeVar("_T")

# Requests that a report shows.
_SHOWN_REQUESTS = 10


class Inbox:
    """Every method may be called on any thread."""

    def __init__(self, *, is_stream: bool, protocol: str) -> None:
        self._is_stream = is_stream
        self._is_tcp = protocol == "tcp"
        # Re-entrant, as a predicate may look at what came.
        self._changed = threading.Condition(threading.RLock())
        self._received: list[Received] = []
        self._script = Script(protocol=protocol, is_stream=is_stream)
        self._timers = Timers()
        # Answers on their way, and from how many on to look for those that have ended.
        self._playing: list[Playing] = []
        self._many = 16
        self.token = b"rsecho" + os.urandom(16)
        """Nobody else sends that: answered, and never shown."""

    def take(self, data: bytes, peer: Peer, rest: Ask) -> Playing | None:
        """Something came: kept before it is answered, so that a client that has the answer finds
        it here. Called on the server's thread.

        Returns:
            The answer, to be begun outside the lock: as the script says, then by `rest` what the
            script leaves; None: the script takes nothing of it, and kept nothing before.
        """
        with self._changed:
            self._received.append(Received(data, peer))
            self._changed.notify_all()
            taken = self._script.take(data, peer)
            if not taken.parts and taken.unclaimed == data:
                return None
            playing = self._playing_of(taken, peer, rest)
            # Known before it begins: a test may clear all of them meanwhile.
            self._playing.append(playing)
            if len(self._playing) > self._many:
                self._playing = [each for each in self._playing if not each.is_over]
                self._many = 2 * len(self._playing) + 16
            return playing

    def _playing_of(self, taken: Taken, peer: Peer, rest: Ask) -> Playing:
        steps: list[tuple[Step, bytes]] = []
        for part in taken.parts:
            steps += [(step, part.data) for step in part.steps]
        if taken.unclaimed is not None:
            steps.append((rest, taken.unclaimed))
        if taken.is_refused and self._is_tcp:
            # Its client would wait for as long as it can.
            steps.append((End(is_reset=False), b""))
        return Playing(
            steps, peer, self._timers, self._fail, joins=self._is_stream, is_tcp=self._is_tcp
        )

    @property
    def received(self) -> list[Received]:
        """What came, in order; a copy."""
        with self._changed:
            return list(self._received)

    def expect(self, what: Matcher) -> Expectation:
        """See `Script.expect`."""
        with self._changed:
            return self._script.expect(what)

    def demand(self, *, strict: bool = False, in_order: bool = False) -> None:
        """See `Script.be_strict` and `Script.be_in_order`."""
        with self._changed:
            if strict:
                self._script.be_strict()
            if in_order:
                self._script.be_in_order()

    def unmet(self) -> list[str]:
        """See `Script.unmet`."""
        with self._changed:
            return self._script.unmet()

    def look(self, wanted: Callable[[list[Received]], _T | None], timeout: float) -> _T | None:
        """What `wanted` returns for what came; while that is None, again after the next change,
        which is waited for without the GIL, or after `timeout` seconds."""
        with self._changed:
            found = wanted(self._received)
            if found is None and timeout > 0:
                self._changed.wait(timeout)
                found = wanted(self._received)
            return found

    def clear(self, *, is_over: bool = False) -> bool:
        """Forgets what came and what was expected, and gives up answers on their way; failures
        as well if the test `is_over`. Returns whether there were such answers."""
        with self._changed:
            self._received.clear()
            if is_over:
                self._script.forget()
            else:
                self._script.clear()
            playing, self._playing = self._playing, []
        self._timers.clear()
        given_up = [each for each in playing if each.give_up()]
        return bool(given_up)

    def told(self) -> str:
        """What came, for a report."""
        from rsecho._lines import host_port

        received = self.received
        if not received:
            return "nothing came"
        lines = [f"{len(received)} came:"]
        for data, peer in received[:_SHOWN_REQUESTS]:
            lines.append(f"  {shown(data)} from {host_port(peer)}")
        if len(received) > _SHOWN_REQUESTS:
            lines.append(f"  … and {len(received) - _SHOWN_REQUESTS} more")
        return "\n".join(lines)

    def _fail(self, text: str) -> None:
        with self._changed:
            self._script.fail(text)
