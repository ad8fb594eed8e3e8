"""What happens to servers when the interpreter ends or forks.

A thread in native code that comes back to an interpreter that is being torn down aborts the
process or hangs for ever, so all of them are stopped and joined before. A forked child has the
parent's objects but none of its threads: its handles are dead there, and must not keep the
parent's ports.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rsecho import _rsecho

if TYPE_CHECKING:
    from typing import NoReturn

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


def end_child(raised: BaseException | None, what: str = "a responder") -> NoReturn:
    """Ends a child that a callable forked, where it would go on in its parent's place.

    It has a copy of a thread of its parent's, and of the connections that this serves: what the
    callable returned in it must go to nobody, and what it raised into no log but its own standard
    error. SystemExit ends it as it would any program; another exception by status 1 and its
    traceback, having returned by status 1 and a line that says so. Neither runs the handlers of
    atexit, which are for its parent to run.
    """
    status = 1
    try:
        if isinstance(raised, SystemExit):
            status = _exit_as_asked(raised)
        elif raised is not None:
            sys.excepthook(type(raised), raised, raised.__traceback__)
        else:
            sys.stderr.write(
                f"rsecho: process {os.getpid()}, which {what} forked, has returned from it and "
                "was ended: what it returned goes nowhere; end it by sys.exit() or os._exit()\n"
            )
    except BaseException as error:
        # Whatever it is: the parent's connections must not see this process any more.
        with contextlib.suppress(BaseException):
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        os._exit(status)


def _exit_as_asked(exit: SystemExit) -> int:
    """What Python does at the end of a program, in a process whose main thread is not here."""
    import threading

    code = exit.code
    if code is None:
        status = 0
    elif isinstance(code, int):
        status = code & 0xFF
    else:
        sys.stderr.write(f"{code}\n")
        status = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    return status


def _after_fork_in_child() -> None:
    _rsecho.after_fork()
    for server in live_servers():
        server._native.abandon()
    _servers.clear()
    if module := sys.modules.get("rsecho._pump"):
        module.forget()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
