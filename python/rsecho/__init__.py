"""Both ends of an echo: servers that answer UDP and TCP, clients that ask."""

from rsecho._errors import EndOfStreamError, RsechoError, ServerError, StateError
from rsecho._rsecho import __version__, is_debug_build
from rsecho.layout import Column, Columns, FormatError, RecordError, RecordLayout

# As type checkers know it; importing it from typing would take longer than all of the above.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from rsecho.client import Reply, TcpClient, UdpClient
    from rsecho.guard import Guard
    from rsecho.limits import KernelLimit, KernelLimits, kernel_limits
    from rsecho.logs import flush_logs
    from rsecho.records import Record
    from rsecho.responders import Peer
    from rsecho.server import Engine, StopReason, TcpServer, UdpServer, Wait
    from rsecho.sockets import OptionReport
    from rsecho.stats import TcpStats, UdpStats

__all__ = [
    "Column",
    "Columns",
    "EndOfStreamError",
    "Engine",
    "FormatError",
    "Guard",
    "KernelLimit",
    "KernelLimits",
    "OptionReport",
    "Peer",
    "Record",
    "RecordError",
    "RecordLayout",
    "Reply",
    "RsechoError",
    "ServerError",
    "StateError",
    "StopReason",
    "TcpClient",
    "TcpServer",
    "TcpStats",
    "UdpClient",
    "UdpServer",
    "UdpStats",
    "Wait",
    "__version__",
    "flush_logs",
    "kernel_limits",
]

# Imported when first asked for: a command that only decodes records should not wait for
# what servers and clients need.
_LATER = {
    "Engine": "server",
    "Guard": "guard",
    "KernelLimit": "limits",
    "KernelLimits": "limits",
    "OptionReport": "sockets",
    "Peer": "responders",
    "Record": "records",
    "Reply": "client",
    "StopReason": "server",
    "TcpClient": "client",
    "TcpServer": "server",
    "TcpStats": "stats",
    "UdpClient": "client",
    "UdpServer": "server",
    "UdpStats": "stats",
    "Wait": "server",
    "flush_logs": "logs",
    "kernel_limits": "limits",
}


if not TYPE_CHECKING:
    # Hidden from type checkers, to which it would mean that every name is there.
    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if is_debug_build:
    import warnings

    warnings.warn(
        "this is a debug build of rsecho: its figures mean nothing; build it with --release",
        RuntimeWarning,
        stacklevel=2,
    )
