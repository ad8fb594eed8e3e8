"""One file over one stream of QUIC, by aioquic: what `rsecho push` is compared with.

    aioquic_peer.py receive ADDRESS PORT FILE CERTIFICATE KEY
    aioquic_peer.py send ADDRESS PORT FILE CERTIFICATE

Flow control is opened wide, so that it never waits for a window of the receiver's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived

if TYPE_CHECKING:
    from typing import BinaryIO

# What the certificate is made out to.
NAME = "bench.test"
WINDOW_BYTES = 64 << 20
# With the IPv4 and UDP headers an Ethernet packet, less the 20 that IPv6 would take.
MAX_DATAGRAM_BYTES = 1452


def configuration(*, is_client: bool) -> QuicConfiguration:
    """What both ends have in common."""
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["bench"],
        congestion_control_algorithm="cubic",
        max_data=WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        max_datagram_size=MAX_DATAGRAM_BYTES,
        server_name=NAME if is_client else None,
    )


class Receiver(QuicConnectionProtocol):  # type: ignore[misc,unused-ignore]
    """Writes a stream to a file, and answers one byte when it has ended."""

    file: BinaryIO
    ended: asyncio.Event

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.file.write(event.data)
            if event.end_stream:
                self.file.flush()
                self._quic.send_stream_data(event.stream_id, b"\0", end_stream=True)
        elif isinstance(event, ConnectionTerminated):
            self.ended.set()


class Sender(QuicConnectionProtocol):  # type: ignore[misc,unused-ignore]
    """Sends bytes, and waits for the answer."""

    answered: asyncio.Event
    failure = "the receiver closed the connection"

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self.failure = ""
        elif isinstance(event, ConnectionTerminated):
            self.failure = self.failure and event.reason_phrase
        else:
            return
        self.answered.set()


async def receive(address: str, port: int, path: str, certificate: str, key: str) -> None:
    """Takes one file and ends."""
    settings = configuration(is_client=False)
    settings.load_cert_chain(certificate, key)
    Receiver.ended = asyncio.Event()
    with Path(path).open("wb") as Receiver.file:
        await serve(address, port, configuration=settings, create_protocol=Receiver)
        await Receiver.ended.wait()


async def send(address: str, port: int, path: str, certificate: str) -> None:
    """Sends one file and waits until it is there."""
    settings = configuration(is_client=True)
    settings.load_verify_locations(certificate)
    data = Path(path).read_bytes()
    Sender.answered = asyncio.Event()
    async with connect(address, port, configuration=settings, create_protocol=Sender) as connection:
        assert isinstance(connection, Sender)
        quic: Any = connection._quic
        quic.send_stream_data(quic.get_next_available_stream_id(), data, end_stream=True)
        connection.transmit()
        await connection.answered.wait()
        if connection.failure:
            raise SystemExit(f"aioquic_peer: {connection.failure}")


def main() -> None:
    """Reads the command line."""
    verb, address, port, *rest = sys.argv[1:]
    if verb == "receive":
        asyncio.run(receive(address, int(port), *rest))
    else:
        asyncio.run(send(address, int(port), *rest))


if __name__ == "__main__":
    main()
