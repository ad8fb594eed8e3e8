"""Exceptions for which the standard library has no name. The native module raises them, too."""

from __future__ import annotations

import errno


class RsechoError(Exception):
    """Base class of this package's own exceptions."""


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
    """The object cannot do this now: it is not started, has ended, was closed, or belongs to
    another process (before a fork)."""


class EndOfStreamError(RsechoError, EOFError):
    """The peer ended the stream before all expected bytes had arrived."""


class StopTimeoutError(RsechoError, TimeoutError):
    """A stopped server still runs, because its responder has not returned.

    Raised by `stop`, `close` and the end of a `with` block, one second after the drain time. The
    message names the worker thread. As soon as the responder returns, the server ends and frees its
    port; `Server.wait` waits for that. A responder that never returns does not keep the program
    from ending.
    """


class ServerError(RsechoError):
    """A server has ended because of an error; the message says which."""


class TransferError(RsechoError):
    """A large message did not arrive completely; the message says why, and what to do."""

    def __init__(
        self,
        message: str,
        reason: str = "",
        is_remote: bool = False,
        missing: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """The cause in one word: "unknown", "too_large", "too_many", "exists", "exists_alike",
        "bad_name", "not_found", "refused", "corrupt", "io", "timed_out", "cancelled" or "version".
        docs/transfer.md explains them under ABORT."""
        self.is_remote = is_remote
        """True if the other side reported the failure."""
        self.missing = missing
        """Receivers with the plain wire: the first and last number of each range of missing
        chunks."""


class TransferTimeoutError(TransferError, TimeoutError):
    """A large message took too long, or made no progress for too long."""

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
