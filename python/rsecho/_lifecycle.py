"""What happens to servers when the interpreter ends or forks.

A thread in native code that comes back to an interpreter that is being torn down aborts the
process or hangs for ever, so all of them are stopped and joined before; but for those that do
not return from a responder, which are named and left behind. A forked child has the parent's
objects but none of its threads: its handles are dead there, and must not keep the parent's ports.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from rsecho import _rsecho, _servers

if TYPE_CHECKING:
    from rsecho._pump import Pump
    from rsecho.server import Server

# A program that ends with servers running has not asked for more: enough for replies that
# are due, not enough to be felt.
_DRAIN_AT_EXIT = 0.2

# How long it waits for responders after that, as every stop does.
_GRACE_AT_EXIT = 1.0

# A log handler that hangs must not keep the process from ending.
_LOG_AT_EXIT = 2.0


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
    servers = [server for server in _servers.live_servers() if server.is_running]
    try:
        _stop_all(servers)
    finally:
        _tell_left(servers)
        # Whatever happened (a second Ctrl-C, say), no thread may be left in native code.
        try:
            if module := sys.modules.get("rsecho._pump"):
                module.finish(_LOG_AT_EXIT)
        finally:
            _rsecho.shut_down()


def _stop_all(servers: list[Server]) -> None:
    # All at once, then one by one: their drains overlap.
    for server in servers:
        server._native.request_stop(_DRAIN_AT_EXIT)
    deadline = time.monotonic() + _DRAIN_AT_EXIT + _GRACE_AT_EXIT
    for server in servers:
        # One that was waited for before has had its time.
        left = 0.0 if server._is_left else max(deadline - time.monotonic(), 0.0)
        if server._native.wait(left) is not None:
            # Its threads end within a moment: for that as well.
            server._native.stop(0)


def _tell_left(servers: list[Server]) -> None:
    """Names the workers that stay in their responder, on standard error."""
    for server in servers:
        server._is_past_exit = True
    for native in _servers.natives(servers):
        names = native.dismiss() if native.is_running else []
        if not native.is_running:
            continue
        if not names:
            trouble = "its workers have not ended"
        elif len(names) == 1:
            trouble = f"worker {names[0]} is still in the responder"
        else:
            trouble = f"workers {', '.join(names)} are still in the responder"
        text = f"rsecho: {native.name}: {trouble}; exiting without waiting\n"
        # Standard error may be closed, or be gone.
        with contextlib.suppress(Exception):
            sys.stderr.write(text)
            sys.stderr.flush()


def _after_fork_in_child() -> None:
    _rsecho.after_fork()
    for native in _servers.natives(_servers.live_servers()):
        native.abandon()
    _servers.forget()
    if module := sys.modules.get("rsecho._pump"):
        module.forget()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
