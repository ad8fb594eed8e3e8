"""What Python offers today: peers.py asyncio|uvloop udp|tcp|udp_upper [PORT].

The shortest correct server on each loop's fastest interface, the callbacks of a Protocol. The
one that answers in upper case does what `upper` is for `rsecho serve --responder`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, cast

HOST = "127.0.0.1"
RECEIVE_BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>; the socket module lacks it


class UdpEcho(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class UdpUpper(UdpEcho):
    """Sends each datagram back in upper case."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data.upper(), addr)


def upper(data: bytes, peer: tuple[str, int]) -> bytes:
    """The same as a callable for rsecho."""
    return data.upper()


class TcpEcho(asyncio.Protocol):
    """Writes back what it reads, and stops reading while the peer does not take it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def udp_socket(port: int) -> socket.socket:
    """Bound, with the receive buffer that every server compared has."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind((HOST, port))
    sock.setblocking(False)
    return sock


UDP = {"udp": UdpEcho, "udp_upper": UdpUpper}


async def serve(protocol: str, port: int) -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    if protocol in UDP:
        transport, _ = await loop.create_datagram_endpoint(UDP[protocol], sock=udp_socket(port))
        own = transport.get_extra_info("sockname")
    else:
        server = await loop.create_server(TcpEcho, HOST, port, backlog=4096)
        own = server.sockets[0].getsockname()
    print(f"listening {protocol}://{HOST}:{own[1]}", flush=True)
    await loop.create_future()


def main() -> None:
    """Reads the command line and serves."""
    loop, protocol, *rest = sys.argv[1:]
    port = int(rest[0]) if rest else 0
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve(protocol, port))
    else:
        asyncio.run(serve(protocol, port))


if __name__ == "__main__":
    main()
