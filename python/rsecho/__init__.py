"""Both ends of an echo: servers that answer UDP and TCP, clients that ask."""

from rsecho._errors import EndOfStreamError, RsechoError, ServerError, StateError
from rsecho._rsecho import __version__, is_debug_build
from rsecho.client import Reply, TcpClient, UdpClient
from rsecho.layout import Column, Columns, FormatError, RecordError, RecordLayout
from rsecho.limits import KernelLimit, KernelLimits, kernel_limits
from rsecho.records import Record
from rsecho.server import StopReason, TcpServer, UdpServer
from rsecho.sockets import OptionReport
from rsecho.stats import TcpStats, UdpStats

__all__ = [
    "Column",
    "Columns",
    "EndOfStreamError",
    "FormatError",
    "KernelLimit",
    "KernelLimits",
    "OptionReport",
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
    "__version__",
    "kernel_limits",
]

if is_debug_build:
    import warnings

    warnings.warn(
        "this is a debug build of rsecho: its figures mean nothing; build it with --release",
        RuntimeWarning,
        stacklevel=2,
    )
