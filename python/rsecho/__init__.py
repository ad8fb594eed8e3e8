"""Echo servers and clients for UDP and TCP.

`UdpServer` and `TcpServer` answer, `UdpClient` and `TcpClient` ask, `rsecho.transfer` moves large
messages over UDP, `RecordLayout` decodes binary records. What help texts call `docs/` is a
directory beside this file.
"""

from rsecho._errors import (
    DebugBuildWarning,
    EndOfStreamError,
    FormatError,
    RecordError,
    RsechoError,
    ServerError,
    StateError,
    StopTimeoutError,
    TransferError,
    TransferTimeoutError,
)

# As type checkers know it; importing it from typing would take longer than all of the above.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from rsecho import transfer
    from rsecho._rsecho import __version__
    from rsecho.client import Reply, TcpClient, UdpClient
    from rsecho.guard import Guard
    from rsecho.layout import Column, Columns, RecordLayout
    from rsecho.limits import KernelLimit, KernelLimits, kernel_limits
    from rsecho.logs import flush_logs
    from rsecho.meter import (
        Distribution,
        PingResult,
        Sample,
        ping,
        ping_async,
        ping_stream,
    )
    from rsecho.records import Record
    from rsecho.responders import Peer
    from rsecho.server import Engine, StopReason, TcpServer, UdpServer, Wait
    from rsecho.sockets import OptionReport
    from rsecho.stats import TcpStats, UdpStats

__all__ = [
    "Column",
    "Columns",
    "DebugBuildWarning",
    "Distribution",
    "EndOfStreamError",
    "Engine",
    "FormatError",
    "Guard",
    "KernelLimit",
    "KernelLimits",
    "OptionReport",
    "Peer",
    "PingResult",
    "Record",
    "RecordError",
    "RecordLayout",
    "Reply",
    "RsechoError",
    "Sample",
    "ServerError",
    "StateError",
    "StopReason",
    "StopTimeoutError",
    "TcpClient",
    "TcpServer",
    "TcpStats",
    "TransferError",
    "TransferTimeoutError",
    "UdpClient",
    "UdpServer",
    "UdpStats",
    "Wait",
    "__version__",
    "flush_logs",
    "kernel_limits",
    "ping",
    "ping_async",
    "ping_stream",
    "transfer",
]

# Imported when first asked for: a command that only decodes records should not wait for what
# servers and clients need, nor pytest, which loads the plugin always, for any of it.
_LATER = {
    "Column": "layout",
    "Columns": "layout",
    "Engine": "server",
    "Guard": "guard",
    "KernelLimit": "limits",
    "KernelLimits": "limits",
    "OptionReport": "sockets",
    "Peer": "responders",
    "Record": "records",
    "RecordLayout": "layout",
    "Reply": "client",
    "StopReason": "server",
    "TcpClient": "client",
    "TcpServer": "server",
    "TcpStats": "stats",
    "UdpClient": "client",
    "UdpServer": "server",
    "UdpStats": "stats",
    "Wait": "server",
    "__version__": "_rsecho",
    "Distribution": "meter",
    "PingResult": "meter",
    "Sample": "meter",
    "flush_logs": "logs",
    "kernel_limits": "limits",
    "ping": "meter",
    "ping_async": "meter",
    "ping_stream": "meter",
}


# Modules that are used as such, likewise.
_MODULES = {"transfer"}


if not TYPE_CHECKING:
    # Hidden from type checkers, to which it would mean that every name is there.
    def __getattr__(name: str) -> object:
        if name not in _LATER and name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        _tell_of_debug_build()
        found: object = import_module(f"{__name__}.{_LATER.get(name, name)}")
        if name in _LATER:
            found = getattr(found, name)
        globals()[name] = found
        return found


# The command sets it: it has a line of its own for people who measure (cli/log_setup.py).
_has_told_of_debug_build = False


def _tell_of_debug_build() -> None:
    """Warns once per process, the first time that something of the package is used."""
    global _has_told_of_debug_build
    if _has_told_of_debug_build:
        return
    _has_told_of_debug_build = True
    from rsecho._rsecho import is_debug_build

    if is_debug_build:
        import warnings

        from rsecho._errors import DEBUG_BUILD, DebugBuildWarning

        warnings.warn(DEBUG_BUILD, DebugBuildWarning, stacklevel=3)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
