"""What came to one server, and the script that answers it: shared by its thread and a test's.

What runs on the server's thread holds the GIL and is short: it never sleeps.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rsecho.pytest_plugin.script import Answer, Script, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsecho.pytest_plugin.script import Expectation, Matcher
    from rsecho.responders import Peer

_T = TypeVar("_T")

# Requests that a message shows.
_SHOWN_REQUESTS = 10


class Received(NamedTuple):
    """One request that came; equal to a tuple of the same two."""

    data: bytes
    """A datagram; of a connection what one read brought, or a line, or a record."""
    peer: Peer
    """Who sent it: `(host, port)`."""


class Inbox:
    """Every method may be called on any thread."""

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream
        # Re-entrant, as a predicate may look at what came.
        self._changed = threading.Condition(threading.RLock())
        self._received: list[Received] = []
        self._script = Script()
        self.token = b"rsecho" + os.urandom(16)
        """Nobody else sends that: answered, and never shown."""

    def take(self, data: bytes, peer: Peer) -> Answer:
        """Something came: kept before it is answered, so that whoever has the answer finds it.
        Called on the server's thread."""
        if data.startswith(self.token):
            return Answer(data, None)
        with self._changed:
            self._received.append(Received(data, peer))
            self._changed.notify_all()
            if self._is_stream:
                return self._script.answer_stream(data, peer)
            return self._script.answer(data)

    @property
    def received(self) -> list[Received]:
        """What came, in order; a copy."""
        with self._changed:
            return list(self._received)

    def expect(self, what: Matcher) -> Expectation:
        """See `Script.expect`."""
        with self._changed:
            return self._script.expect(what)

    def unmet(self) -> list[str]:
        """See `Script.unmet`."""
        with self._changed:
            return self._script.unmet()

    def look(self, wanted: Callable[[list[Received]], _T | None], timeout: float) -> _T | None:
        """What `wanted` says of what came; where that is None, again after the next change,
        which is waited for without the GIL, or after `timeout` seconds."""
        with self._changed:
            found = wanted(self._received)
            if found is None and timeout > 0:
                self._changed.wait(timeout)
                found = wanted(self._received)
            return found

    def clear(self) -> None:
        """Forgets all of it."""
        with self._changed:
            self._received.clear()
            self._script.clear()

    def told(self) -> str:
        """What came, for who reads why a test failed."""
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
