"""Which addresses the listeners of one command take, and where two of them would collide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM_IPV6_ONLY = Path("/proc/sys/net/ipv6/bindv6only")


class Wanted(NamedTuple):
    """One socket to listen on, by its numeric address."""

    host: str
    port: int
    is_ipv6_only: bool | None = None
    """Of `::`. None: the system's default."""


def collision(protocol: str, sockets: Sequence[Wanted]) -> str | None:
    """Why two of these cannot both be bound, and the way out; None: all can."""
    by_port: dict[int, list[Wanted]] = {}
    for later in sockets:
        others = by_port.setdefault(later.port, [])
        for first in others if later.port else ():
            if problem := _between(protocol, first, later):
                return problem
        others.append(later)
    return None


def _between(protocol: str, first: Wanted, later: Wanted) -> str | None:
    if first.host == later.host:
        return (
            f"cannot listen on {_url(protocol, first)} twice: leave one out, or add --reuse-port "
            "for both to share the port"
        )
    wide, narrow = (first, later) if _covers(first, later) else (later, first)
    if not _covers(wide, narrow):
        return None
    both = f"cannot listen on both {_url(protocol, first)} and {_url(protocol, later)}"
    if _is_ipv4(narrow) and not _is_ipv4(wide):
        # Nobody else has the port: the first of our own sockets has it.
        return (
            f"{both}: [::] accepts IPv4 as well, so they would take the port from each other; "
            f"add --ipv6-only, or listen on {_url(protocol, wide)} alone"
        )
    return (
        f"{both}: the one includes the other, so they would take the port from each other; "
        f"listen on {_url(protocol, wide)} alone"
    )


def _covers(wide: Wanted, narrow: Wanted) -> bool:
    if wide.host == "0.0.0.0":
        return _is_ipv4(narrow)
    if wide.host != "::":
        return False
    only = _is_ipv6_only_by_default() if wide.is_ipv6_only is None else wide.is_ipv6_only
    return not (_is_ipv4(narrow) and only)


def _is_ipv4(socket: Wanted) -> bool:
    return ":" not in socket.host


def _is_ipv6_only_by_default() -> bool:
    try:
        return _SYSTEM_IPV6_ONLY.read_text().strip() == "1"
    except OSError:
        return False


def _url(protocol: str, socket: Wanted) -> str:
    host = socket.host if _is_ipv4(socket) else f"[{socket.host}]"
    return f"{protocol}://{host}:{socket.port}"
