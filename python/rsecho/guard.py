"""Whom servers do not answer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from rsecho import _rsecho

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network
    from typing import TypeAlias

    Network: TypeAlias = str | IPv4Network | IPv6Network
    """CIDR notation (RFC 4632), as in "192.0.2.0/24"."""
    Rate: TypeAlias = float | tuple[float, int]
    """So many a second, and so many at once."""

__all__ = ["Guard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The protections of a server. One that names none has all defaults: `Guard()`.

    Each datagram that is not answered is counted in `UdpStats.dropped`, by the reason in
    brackets; each connection that is not taken in, in the field of `TcpStats` in brackets.
    A source is an IPv4 address or an IPv6 /64; IPv4 within IPv6 is IPv4.

    Raises:
        ValueError: a rule that can never work.
    """

    allow: Iterable[Network] = ()
    """Only these networks may ask; none: anyone. [`denied`; `denied_connections`]"""
    deny: Iterable[Network] = ()
    """These may not, even where `allow` names them. [`denied`; `denied_connections`]"""
    answer_service_ports: bool = False
    """UDP: answer also to source ports below 1024, 2049 and 11211 off loopback: forged, they
    are those of servers that answer back (CVE-2024-2169). [`service_port`]"""
    loop_guard: bool = True
    """UDP: end what goes round and round between this server and another one. Each reply has a
    smaller hop limit than its request, 120 at most, so between two of these servers nothing
    goes round more than 64 times. An echo of another kind is bounded off loopback: of
    datagrams whose bytes their sender was sent before, one in 65,536 is not answered, and one
    in 64 of those beyond 10,000 a second. docs/guards.md has the bounds.
    [`echo_loop`, `repeated`]"""
    rate_per_source: Rate | None = None
    """UDP: datagrams a second from one source that are answered, or a pair of that and how
    many at once: by default a tenth of it, at least 5. [`rate_limited`]"""
    rate_total: Rate | None = None
    """UDP: the same for all sources together. When that is not enough for all, those who are
    known (have come back for 4 to 9 seconds, while it was) come first, then those who have come
    back, and each pace at which sources return has a sixteenth of it for itself: a flood of
    forged sources has one or few. [`rate_limited_total`]"""
    max_amplification: float | None = None
    """UDP: how many times the bytes of a request on the wire its reply may be. By default 3
    (RFC 9000 §8.1), and anything for sources on loopback. An echo is 1. [`amplification`]"""
    connections_per_source: int | None = None
    """TCP: connections from one source at a time, 0 for any number. By default 4096, and any
    number for sources on loopback. [`refused_by_source`]"""

    def __post_init__(self) -> None:
        for name in ("allow", "deny"):
            networks = getattr(self, name)
            if isinstance(networks, str):
                raise TypeError(f"{name} is a list of networks, not one: write [{networks!r}]")
            object.__setattr__(self, name, tuple(map(str, networks)))
        native(self)


def native(guard: Guard | None) -> _rsecho.GuardPolicy:
    """What the native servers take; None is all defaults."""
    if guard is None:
        return _rsecho.GuardPolicy()
    return _rsecho.GuardPolicy(**{each.name: getattr(guard, each.name) for each in fields(guard)})
