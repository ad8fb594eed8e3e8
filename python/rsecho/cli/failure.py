"""How a command fails: one line and a status, never a traceback."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import click

from rsecho._lines import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_TIME = 1
USAGE = 2
CANNOT_START = 3


class CommandError(Exception):
    """The command cannot go on; `str()` is the line to print, `status` the exit status."""

    def __init__(self, message: str, status: int = RUN_TIME) -> None:
        super().__init__(message)
        self.status = status


def one_line(text: str) -> str:
    """The text on one line, with what would steer a terminal made visible."""
    return printable(" ".join(text.split()))


def reason(error: BaseException) -> str:
    """What an error says, without the number that OSError puts before it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


@contextlib.contextmanager
def failing_with(status: int) -> Iterator[None]:
    """Errors of the system end the command with `status`, wrong arguments with 2."""
    try:
        yield
    except (ValueError, socket.gaierror) as error:
        raise CommandError(reason(error), USAGE) from None
    except OSError as error:
        # Click turns an OSError with EPIPE into a silent end; ours have a message.
        raise CommandError(reason(error), status) from None
    except click.exceptions.Exit:
        raise
