"""What sockets are asked to be, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from rsecho import _rsecho

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "OptionReport",
    "TcpClientOptions",
    "TcpServerOptions",
    "UdpClientOptions",
    "UdpServerOptions",
]


class _Options(TypedDict, total=False):
    reuse_address: bool | None
    """SO_REUSEADDR. TCP servers have it on, which skips TIME_WAIT. On UDP it lets another
    socket take the port and its traffic, even another user's, so it is off."""
    reuse_port: bool | None
    """SO_REUSEPORT: several sockets of one user share the port, each a part of the peers."""
    recv_buffer_bytes: int | None
    """SO_RCVBUF. The kernel clamps it to net.core.rmem_max, then doubles it."""
    send_buffer_bytes: int | None
    """SO_SNDBUF. The kernel clamps it to net.core.wmem_max, then doubles it."""
    force_buffers: bool
    """Pass those ceilings where the process may (CAP_NET_ADMIN)."""
    ttl: int | None
    """IP_TTL, IPV6_UNICAST_HOPS: 1 to 255."""
    dscp: int | None
    """Differentiated services code point, 0 to 63 (RFC 2474)."""
    ipv6_only: bool | None
    """IPV6_V6ONLY; off makes a socket on `::` answer IPv4 as well."""
    bind_to_device: str | None
    """SO_BINDTODEVICE: only this interface."""


class _TcpOptions(_Options, total=False):
    no_delay: bool | None
    """TCP_NODELAY; on by default."""
    keep_alive: bool | tuple[float | None, float | None, int | None] | None
    """SO_KEEPALIVE; as a tuple with seconds of silence before the first probe, seconds
    between probes, and how many may go unanswered (None: the system's)."""
    linger: float | None
    """SO_LINGER: for how many seconds close waits for unsent data; 0 resets."""
    congestion: str | None
    """TCP_CONGESTION, as in "cubic"."""


class UdpClientOptions(_Options, total=False):
    """Keywords of `UdpClient` that set options of its socket."""

    broadcast: bool | None
    """SO_BROADCAST: may send to broadcast addresses."""


class UdpServerOptions(_Options, total=False):
    """Keywords of `UdpServer` that set options of its socket."""

    broadcast: bool | None
    """SO_BROADCAST: may send to broadcast addresses."""
    recv_timeout: float | None
    """SO_RCVTIMEO: how many seconds one receive of a worker waits."""
    send_timeout: float | None
    """SO_SNDTIMEO: how many seconds one reply waits for room in the send buffer."""


class TcpClientOptions(_TcpOptions, total=False):
    """Keywords of `TcpClient` that set options of its socket."""


class TcpServerOptions(_TcpOptions, total=False):
    """Keywords of `TcpServer` that set options of its listener, and so of its connections."""

    recv_timeout: float | None
    """SO_RCVTIMEO, in seconds; the server never waits in a receive: see `idle_timeout`."""
    send_timeout: float | None
    """SO_SNDTIMEO: a connection whose peer takes nothing of what is due to it for so many
    seconds is reset, and counted as `stalled`; 0: never. By default 60 where others than this
    machine can connect, never on loopback."""


_Value = bool | int | float | str


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


def options(
    keywords: Mapping[str, object], known: type[_Options], owner: object
) -> _rsecho.SocketOptions:
    """The native options of `owner`; one that its protocol has not is an error, not ignored."""
    for name in keywords:
        if name not in known.__annotations__:
            raise TypeError(
                f"{type(owner).__name__}() got an unexpected keyword argument {name!r}: "
                f"the socket options are {', '.join(sorted(known.__annotations__))}"
            )
    return _rsecho.SocketOptions(**keywords)  # type: ignore[arg-type]  # checked above


def report(lines: list[_rsecho._ReportLine]) -> dict[str, OptionReport]:
    """A report by option, in the order in which the options were set."""
    reports = {}
    for name, option, requested, effective, ceiling, sysctl, warning in lines:
        severity, text = warning or (None, None)
        reports[name] = OptionReport(
            name, option, requested, effective, ceiling, sysctl, text, severity
        )
    return reports
