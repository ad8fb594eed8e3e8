"""Ports on which nobody answers, held while they are used.

A port that was free a moment ago may be taken when a test uses it. These are bound by a socket of
ours all the time, so no other program can get them, neither by bind(2) nor as the port that
connect(2) picks.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST = "127.0.0.1"


@contextlib.contextmanager
def refused_tcp() -> Iterator[int]:
    """A port that refuses connections: it is bound but not listened on (tcp(7), ECONNREFUSED)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.bind((_HOST, 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def refused_udp() -> Iterator[int]:
    """A port that answers datagrams with ICMP "port unreachable", which a connected socket
    reports as ECONNREFUSED (udp(7)).

    The socket that holds the port is connected to itself. A connected socket takes datagrams of
    its peer only, and no other socket can have this peer's address. So for all datagrams the
    kernel finds no socket, as on a free port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((_HOST, 0))
        holder.connect(holder.getsockname())
        yield holder.getsockname()[1]


@contextlib.contextmanager
def silent_udp() -> Iterator[int]:
    """A port that takes datagrams and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((_HOST, 0))
        yield holder.getsockname()[1]
