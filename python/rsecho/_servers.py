"""Which servers there are."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from rsecho import _rsecho
    from rsecho.server import Server

# By id, since `valuerefs` copies in one step: other threads may add meanwhile.
_servers: WeakValueDictionary[int, Server] = WeakValueDictionary()

# Of servers that were collected: those whose worker stays in its responder.
_left: list[_rsecho.Server] = []


def register(server: Server) -> None:
    """Remembers a server for as long as it lives."""
    _servers[id(server)] = server


def leave(native: _rsecho.Server) -> None:
    """Remembers a server that is collected with a worker in its responder."""
    _left[:] = [other for other in _left if other.is_running]
    _left.append(native)


def live_servers() -> list[Server]:
    """Every server that has not been collected."""
    found = (reference() for reference in _servers.valuerefs())
    return [server for server in found if server is not None]


def natives(servers: list[Server]) -> list[_rsecho.Server]:
    """The native halves of these servers, and of those that were left."""
    return [*(server._native for server in servers), *_left]


def forget() -> None:
    """For the child of a fork: they are the parent's."""
    _servers.clear()
    _left.clear()
