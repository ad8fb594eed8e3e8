"""A receiver of large messages that looks at its socket only now and then, so that all that its
sender has on its way lies in its receive buffer: does it fit? It is written from docs/transfer.md.

`python transfer_reader.py HOST SO_RCVBUF ROUNDS` prints its port, then JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field

import transfer_wire as wire

_SO_MEMINFO = 55
_RMEM_ALLOC, _RCVBUF, _DROPS = 0, 1, 8
# Far longer than it takes to send a window.
_ROUND_SECONDS = 0.06


@dataclass
class Found:
    """What was seen."""

    buffer_bytes: int = 0
    """As the kernel counts: half of it is announced."""
    most_queued_bytes: int = 0
    """As the kernel counts."""
    most_came_bytes: int = 0
    """In one round."""
    longest_bytes: int = 0
    dropped: list[int] = field(default_factory=list)
    """After each round, since the start."""


def _meminfo(sock: socket.socket) -> tuple[int, ...]:
    return struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))


def _drain(sock: socket.socket, id_: int, numbers: set[int], found: Found) -> int:
    """Reads what has come; the end of its bytes."""
    prefix = came = 0
    while True:
        try:
            datagram = sock.recv(65_535)
        except BlockingIOError:
            found.most_came_bytes = max(found.most_came_bytes, came)
            return prefix
        # Without the checksum: Python takes longer for it than a round is.
        assert int.from_bytes(datagram[8:16]) == id_
        # Others, which ask whether somebody is there after a pause, have nothing but their number.
        numbers.add(int.from_bytes(datagram[16:24]))
        if wire.kind_of(datagram) == wire.DATA:
            offset = int.from_bytes(datagram[24:32])
            came += len(datagram)
            found.longest_bytes = max(found.longest_bytes, len(datagram))
            prefix = max(prefix, offset + len(datagram) - 32)


def _ranges(numbers: set[int]) -> tuple[tuple[int, int], ...]:
    """The newest 58."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers, reverse=True):
        if ranges and ranges[-1][0] == number + 1:
            ranges[-1] = number, ranges[-1][1]
        else:
            ranges.append((number, number))
    return tuple(ranges[:58])


def read(sock: socket.socket, rounds: int) -> Found:
    """Takes a message, and looks into the receive buffer that many times."""
    datagram, peer = sock.recvfrom(2000)
    offer = wire.decode(datagram)
    assert offer.kind == wire.OFFER
    found = Found(buffer_bytes=_meminfo(sock)[_RCVBUF])
    numbers: set[int] = set()
    prefix = 0
    sock.setblocking(False)
    for _ in range(rounds):
        room = wire.Ack(prefix + 2**30, found.buffer_bytes // 2, prefix, _ranges(numbers))
        sock.sendto(wire.ack(offer.id, room), peer)
        time.sleep(_ROUND_SECONDS)
        meminfo = _meminfo(sock)
        found.most_queued_bytes = max(found.most_queued_bytes, meminfo[_RMEM_ALLOC])
        found.dropped.append(meminfo[_DROPS])
        prefix = max(prefix, _drain(sock, offer.id, numbers, found))
    sock.sendto(wire.packet(wire.ABORT, offer.id, b"\x0cenough"), peer)
    return found


def main() -> None:
    """See above."""
    host, buffer, rounds = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(buffer))
        sock.settimeout(20)
        sock.bind((host, 0))
        print(sock.getsockname()[1], flush=True)
        print(json.dumps(asdict(read(sock, int(rounds)))))


if __name__ == "__main__":
    main()
