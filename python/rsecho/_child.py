"""How a child ends that a callable or a handler of this process's forked."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


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
