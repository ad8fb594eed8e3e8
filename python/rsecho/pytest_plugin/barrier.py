"""Asking a server for something whose answer says that all that was sent before was looked at.

Sending over loopback ends with the data in the server's socket, and a worker takes what is
there in order. So a request of ours that is answered leaves none of a test's behind it.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsecho.server import TcpServer, UdpServer

# Far more than an answer takes; a server that does not answer (a full one, one that is busy
# with a test's own responder) is not waited for any longer.
_PATIENCE = 0.5

# A datagram is sent again after that, as the first may have met a full receive buffer.
_AGAIN = 0.1


def pass_udp(server: UdpServer, token: bytes) -> None:
    """Returns once `server` has answered `token`, or after a while."""
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
    """The same on a connection of its own, which is over for the server as well then."""
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
    """Where to reach a server from here."""
    host, port = address
    if ":" in host:
        return socket.AF_INET6, ("::1" if host == "::" else host, port)
    return socket.AF_INET, ("127.0.0.1" if host == "0.0.0.0" else host, port)
