"""What sockets are asked to be, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rsecho import _rsecho
from rsecho._options import (
    GuardOptions,
    ReceiverOptions,
    TcpClientOptions,
    TcpServerOptions,
    TransferClientOptions,
    TransferOptions,
    UdpClientOptions,
    UdpServerOptions,
    check,
)
from rsecho.limits import kernel_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "GuardOptions",
    "OptionReport",
    "ReceiverOptions",
    "TcpClientOptions",
    "TcpServerOptions",
    "TransferClientOptions",
    "TransferOptions",
    "UdpClientOptions",
    "UdpServerOptions",
]


_Value = bool | int | float | str

# What a receive buffer holds bounds what may be on its way to a receiver, and so how fast a large
# message moves.
_ROOMY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class OptionReport:
    """One option of one socket: what was asked for, and what the kernel made of it."""

    name: str
    """The keyword that sets it, as in `recv_buffer_bytes`."""
    option: str
    """The kernel's name, as in `SO_RCVBUF`."""
    requested: _Value | None
    """What was asked for; None: nothing, the system's default stands. Times in seconds."""
    effective: _Value | None
    """What the kernel says it is; None: it does not say."""
    ceiling: int | None
    """The most that the kernel takes."""
    sysctl: str | None
    """The sysctl that holds the ceiling."""
    warning: str | None
    """What differs, why, and the way out, in one line."""
    severity: Literal["notice", "warning"] | None
    """How much that matters."""


def options(keywords: Mapping[str, object], known: type, owner: object) -> _rsecho.SocketOptions:
    """The native options of a client."""
    check(keywords, known, owner)
    return _rsecho.SocketOptions(**keywords)


def report(lines: list[_rsecho._ReportLine]) -> dict[str, OptionReport]:
    """A report by option, in the order in which the options were set."""
    reports = {}
    for name, option, requested, effective, ceiling, sysctl, warning in lines:
        severity, text = warning or (None, None)
        reports[name] = OptionReport(
            name, option, requested, effective, ceiling, sysctl, text, severity
        )
    return reports


def roomy(given: Mapping[str, Any]) -> dict[str, Any]:
    """With a receive buffer for large messages, unless one was asked for: as large as the kernel
    gives without a warning."""
    if given.get("recv_buffer_bytes") is not None:
        return dict(given)
    ceiling = kernel_limits().udp_recv_buffer_max_bytes
    most = _ROOMY_BYTES if ceiling is None or given.get("force_buffers") else ceiling.value
    return {**given, "recv_buffer_bytes": min(_ROOMY_BYTES, most)}
