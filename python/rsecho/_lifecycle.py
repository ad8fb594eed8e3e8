"""What happens to servers when the interpreter ends or forks.

A thread in native code that comes back to an interpreter that is being torn down aborts the
process or hangs for ever, so all of them are stopped and joined before. A forked child has the
parent's objects but none of its threads: its handles are dead there, and must not keep the
parent's ports.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rsecho import _rsecho

if TYPE_CHECKING:
    from rsecho._pump import Pump
    from rsecho.server import Server

# By id, since `valuerefs` copies in one step: other threads may add meanwhile.
_servers: WeakValueDictionary[int, Server] = WeakValueDictionary()

# A program that ends with servers running has not asked for more: enough for replies that
# are due, not enough to be felt.
_DRAIN_AT_EXIT = 0.2

# A log handler that hangs must not keep the process from ending.
_LOG_AT_EXIT = 2.0


def register(server: Server) -> None:
    """Remembers a server for as long as it lives."""
    _servers[id(server)] = server


def live_servers() -> list[Server]:
    """Every server that has not been collected."""
    found = (reference() for reference in _servers.valuerefs())
    return [server for server in found if server is not None]


def pump() -> Pump:
    """The thread that feeds logging, which is imported with the first server."""
    from rsecho import _pump

    if not _pump.is_known():
        # logging closes its handlers at exit; what runs then was registered last, so that
        # the last lines are written before.
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)
    return _pump.get()


def _at_exit() -> None:
    try:
        _stop_all([server._native for server in live_servers() if server.is_running])
    finally:
        # Whatever happened (a second Ctrl-C, say), no thread may be left in native code.
        try:
            if module := sys.modules.get("rsecho._pump"):
                module.finish(_LOG_AT_EXIT)
        finally:
            _rsecho.shut_down()


def _stop_all(running: list[_rsecho.Server]) -> None:
    # All at once, then one by one: their drains overlap.
    for server in running:
        server.request_stop(_DRAIN_AT_EXIT)
    for server in running:
        server.stop(_DRAIN_AT_EXIT)


def _after_fork_in_child() -> None:
    _rsecho.after_fork()
    for server in live_servers():
        server._native.abandon()
    _servers.clear()
    if module := sys.modules.get("rsecho._pump"):
        module.forget()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
