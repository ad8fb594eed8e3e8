"""What the package raises where the standard library has no name for it.

The native module raises these too; see src/python/errors.rs.
"""

from __future__ import annotations

import errno


class RsechoError(Exception):
    """The base of the package's own exceptions."""


# One text for the warning in Python and for the command's log line.
DEBUG_BUILD = (
    "this is a debug build of rsecho, which is slow: do not measure with it; "
    "`maturin develop --release` builds an optimised one"
)


class DebugBuildWarning(RuntimeWarning):
    """The native module was built without optimisation, so its speed says nothing.

    Issued once per process, the first time that something of the package is used.
    `warnings.simplefilter("ignore", rsecho.DebugBuildWarning)` silences it.
    """


class FormatError(RsechoError, ValueError):
    """A struct format, or its field names, cannot be compiled."""


class RecordError(RsechoError, ValueError):
    """Data does not fit a record layout, or a value does not fit its field."""


class StateError(RsechoError, RuntimeError):
    """The object cannot do this now: it has ended, was closed, or belongs to another process."""


class EndOfStreamError(RsechoError, EOFError):
    """The peer ended the stream before all that was wanted had come."""


class StopTimeoutError(RsechoError, TimeoutError):
    """A server told to stop still runs: its responder has not returned in time.

    Raised a second after the drain time, by `stop`, `close` and leaving a `with` block. The
    message names the worker. The server ends, and frees its port, as soon as the responder
    returns: `Server.wait` waits for that. Should it never return, the program can end all
    the same.
    """


class ServerError(RsechoError):
    """A server ended by itself because it could not serve any more."""


class TransferError(RsechoError):
    """A large message did not arrive whole; the text says why, and the way out."""

    def __init__(
        self,
        message: str,
        reason: str = "",
        is_remote: bool = False,
        missing: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """One of "unknown", "too_large", "too_many", "exists", "exists_alike", "bad_name",
        "not_found", "refused", "corrupt", "io", "timed_out", "cancelled" and "version": those of
        ABORT in docs/transfer.md."""
        self.is_remote = is_remote
        """True where the other side said so."""
        self.missing = missing
        """With the plain wire, to a receiver: the first and the last number of each range of chunks
        that did not come."""


class TransferTimeoutError(TransferError, TimeoutError):
    """A large message did not arrive whole in time, or made no progress for too long."""

    def __init__(
        self,
        message: str,
        reason: str = "timed_out",
        is_remote: bool = False,
        missing: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(message, reason, is_remote, missing)
        self.errno = errno.ETIMEDOUT


for _class in (
    RsechoError,
    FormatError,
    RecordError,
    StateError,
    EndOfStreamError,
    StopTimeoutError,
    ServerError,
    TransferError,
    TransferTimeoutError,
):
    # Where users find them: in messages, and in what pickle writes.
    _class.__module__ = "rsecho"
