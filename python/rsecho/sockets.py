"""Keywords that set socket options, and the report about their effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rsecho import _rsecho, _rules
from rsecho._brief import brief
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


@dataclass(frozen=True, slots=True, repr=False)
class OptionReport:
    """One option of one socket: the requested value, and the one that the kernel set."""

    name: str
    """The keyword that sets it, as in `recv_buffer_bytes`."""
    option: str
    """The kernel's name, as in `SO_RCVBUF`."""
    requested: _Value | None = None
    """The requested value, times in seconds. None: not set, the system's default applies."""
    effective: _Value | None = None
    """The value that the kernel reports; None: it reports none."""
    ceiling: int | None = None
    """The maximum that the kernel accepts; None: no limit is known."""
    sysctl: str | None = None
    """The sysctl that sets this maximum."""
    warning: str | None = None
    """How the values differ, why, and what to do, in one line; None: they agree."""
    severity: Literal["notice", "warning"] | None = None
    """Importance of the warning."""

    __repr__ = brief


def options(keywords: Mapping[str, object], known: type, owner: object) -> _rsecho.SocketOptions:
    """The native options of a client."""
    check(keywords, known, owner)
    _rules.check(keywords, _rules.CLIENT)
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
