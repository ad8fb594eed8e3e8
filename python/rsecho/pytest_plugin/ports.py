"""Ports on which nobody answers, held for as long as they are used.

A port that was free a moment ago may be somebody's by the time a test asks it. These are bound
by a socket of ours all the while, so nobody else can have them, neither by bind(2) nor as the
port that connect(2) picks.
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
    """A port that refuses connections: bound, and nobody listens (tcp(7), ECONNREFUSED)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.bind((_HOST, 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def refused_udp() -> Iterator[int]:
    """A port that answers datagrams with ICMP "port unreachable", which a connected socket
    reports as ECONNREFUSED (udp(7)).

    The socket that holds it is connected to itself. Such a socket takes datagrams of its peer
    only; its peer's address is its own, which nobody else can have. For everybody's datagrams
    the kernel finds no socket, as on a port that is free.
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
