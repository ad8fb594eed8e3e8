"""Waits until a server has looked at everything that was sent to it.

Over loopback, data is in the server's socket when send(2) returns, and a worker takes it in order.
So once the server answers a request of ours, it has looked at all requests of the test before it.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsecho.server import TcpServer, UdpServer

# Seconds, far more than an answer takes. A server that is full, or busy with a test's own
# responder, does not answer; then the test goes on without this.
_PATIENCE = 0.5

# Seconds until a datagram is sent again: the first may have met a full receive buffer.
_AGAIN = 0.1


def pass_udp(server: UdpServer, token: bytes) -> None:
    """Returns once `server` has answered `token`, or after half a second."""
    family, address = _loopback(server.address)
    deadline = time.monotonic() + _PATIENCE
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(_AGAIN)
            client.connect(address)
            while time.monotonic() < deadline:
                client.send(token)
                try:
                    client.recv(len(token) + 1)
                    return
                except TimeoutError:
                    continue
    except OSError:
        # It has ended.
        return


def pass_tcp(server: TcpServer, token: bytes) -> None:
    """The same on a connection of its own, which has ended for the server as well then."""
    family, address = _loopback(server.address)
    deadline = time.monotonic() + _PATIENCE
    others = server.stats().active_connections
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE)
            client.connect(address)
            client.sendall(token)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    except OSError:
        return
    # Its end is counted a moment after its peer sees it.
    while server.stats().active_connections > others and time.monotonic() < deadline:
        time.sleep(0.0005)


def _loopback(address: tuple[str, int]) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The address at which a server is reached over loopback."""
    host, port = address
    if ":" in host:
        return socket.AF_INET6, ("::1" if host == "::" else host, port)
    return socket.AF_INET, ("127.0.0.1" if host == "0.0.0.0" else host, port)
