"""The packets of docs/transfer.md, written from that page alone: whatever the page leaves open, or
says otherwise than the code, fails here."""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

OFFER, COOKIE, DATA, ACK, END, DONE, ABORT, PULL, PROBE = range(1, 10)
UNKNOWN_LENGTH = 2**64 - 1
NO_COOKIE = bytes(16)
# The reasons of ABORT that tests ask for.
UNKNOWN, TOO_MANY, NOT_FOUND = 1, 3, 7

_HEADER = struct.Struct("!2sBBIQ")
_MIN_REQUEST_BYTES = 128


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            # The polynomial of RFC 3720, bits reversed.
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720 §B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# --- BLAKE3 -----------------------------------------------------------------------------------

_IV: tuple[int, ...] = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


class _Node(NamedTuple):
    """What is left to compress of a chunk or a parent: whether it is the root is known later."""

    value: tuple[int, ...]
    block: bytes
    counter: int
    length: int
    flags: int

    def chained(self, flags: int = 0) -> tuple[int, ...]:
        return _compress(self._replace(flags=self.flags | flags))


def _rotated(word: int, count: int) -> int:
    return (word >> count | word << 32 - count) & 0xFFFFFFFF


def _compress(node: _Node) -> tuple[int, ...]:
    words = list(struct.unpack("<16I", node.block.ljust(64, b"\0")))
    low, high = node.counter & 0xFFFFFFFF, node.counter >> 32
    state = [*node.value, *_IV[:4], low, high, node.length, node.flags]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(_COLUMNS_AND_DIAGONALS):
            for word, first, second in ((0, 16, 12), (1, 8, 7)):
                added = state[a] + state[b] + words[2 * number + word]
                state[a] = added & 0xFFFFFFFF
                state[d] = _rotated(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                state[b] = _rotated(state[b] ^ state[c], second)
        words = [words[index] for index in _PERMUTATION]
    return tuple(state[index] ^ state[index + 8] for index in range(8))


def _tree(data: bytes, first: int) -> _Node:
    if len(data) <= 1024:
        value, blocks = _IV, range(0, max(len(data), 1), 64)
        for at in blocks:
            block = data[at : at + 64]
            flags = (_CHUNK_START if at == 0 else 0) | (_CHUNK_END if at == blocks[-1] else 0)
            node = _Node(value, block, first, len(block), flags)
            value = node.chained()
        return node
    # On the left the largest power of two of whole chunks that leaves something on the right.
    chunks = (len(data) - 1) // 1024
    left = 1 << chunks.bit_length() - 1
    sides = _tree(data[: left * 1024], first), _tree(data[left * 1024 :], first + left)
    block = b"".join(struct.pack("<8I", *side.chained()) for side in sides)
    return _Node(_IV, block, 0, 64, _PARENT)


def blake3(data: bytes) -> bytes:
    """BLAKE3, without a key; 32 bytes. Slow: for short messages."""
    return struct.pack("<8I", *_tree(data, 0).chained(_ROOT))


# --- packets ----------------------------------------------------------------------------------


class Packet(NamedTuple):
    """A packet that came."""

    kind: int
    id: int
    body: bytes


def packet(kind: int, id_: int, body: bytes = b"", *, version: int = 1) -> bytes:
    """A packet with its checksum."""
    bare = _HEADER.pack(b"rE", version, kind, 0, id_) + body
    return bare[:4] + struct.pack("!I", crc32c(bare)) + bare[8:]


def decode(datagram: bytes) -> Packet:
    """A packet of which magic, version and checksum are right."""
    magic, version, kind, checksum, id_ = _HEADER.unpack_from(datagram)
    assert (magic, version) == (b"rE", 1)
    assert checksum == crc32c(datagram[:4] + bytes(4) + datagram[8:])
    return Packet(kind, id_, datagram[_HEADER.size :])


def kind_of(datagram: bytes) -> int | None:
    """Its type, unlooked at; None: it is no packet."""
    return datagram[3] if datagram[:3] == b"rE\x01" and len(datagram) >= _HEADER.size else None


def _name(name: str) -> bytes:
    parts = [each.encode() for each in name.split("/")] if name else []
    return bytes([len(parts)]) + b"".join(bytes([len(each)]) + each for each in parts)


def _request(kind: int, id_: int, body: bytes) -> bytes:
    return packet(kind, id_, body.ljust(_MIN_REQUEST_BYTES - _HEADER.size, b"\0"))


def offer(
    id_: int,
    length: int,
    *,
    cookie: bytes = NO_COOKIE,
    name: str = "",
    identity: bytes = bytes(16),
    digest: bytes | None = None,
    replaces: bool = False,
) -> bytes:
    """OFFER."""
    flags = (digest is not None) | replaces << 1
    numbers = struct.pack("!B16sQ16s", flags, cookie, length, identity)
    return _request(OFFER, id_, numbers + (digest or bytes(32)) + _name(name))


def pull(id_: int, *, cookie: bytes = NO_COOKIE, name: str = "") -> bytes:
    """PULL; without a name an echo."""
    return _request(PULL, id_, bytes([not name]) + cookie + _name(name))


def data(id_: int, number: int, offset: int, some: bytes) -> bytes:
    """DATA."""
    return packet(DATA, id_, struct.pack("!2Q", number, offset) + some)


def end(id_: int, number: int, length: int, digest: bytes) -> bytes:
    """END."""
    return packet(END, id_, struct.pack("!2Q", number, length) + digest)


def probe(id_: int, number: int, length: int = 24) -> bytes:
    """PROBE, of so many bytes in all."""
    return packet(PROBE, id_, struct.pack("!Q", number).ljust(length - _HEADER.size, b"\0"))


def done(id_: int) -> bytes:
    """DONE."""
    return packet(DONE, id_, b"\0")


class Ack(NamedTuple):
    """The body of an ACK."""

    limit: int
    in_flight: int
    prefix: int
    ranges: tuple[tuple[int, int], ...] = ()
    """Packet numbers that came, as (first, last), the newest first."""
    delay_us: int = 0


def ack(id_: int, body: Ack) -> bytes:
    """ACK."""
    said = struct.pack("!QIQI", body.limit, body.in_flight, body.prefix, body.delay_us)
    said += bytes([len(body.ranges)])
    before = None
    for first, last in body.ranges:
        said += struct.pack("!Q", last) if before is None else struct.pack("!I", before - last)
        said += struct.pack("!I", last - first + 1)
        before = first
    return packet(ACK, id_, said)


def read_ack(body: bytes) -> Ack:
    """The body of an ACK."""
    limit, in_flight, prefix, delay_us, count = struct.unpack_from("!QIQIB", body)
    at, ranges, before = 25, [], None
    for _ in range(count):
        if before is None:
            (last,) = struct.unpack_from("!Q", body, at)
            at += 8
        else:
            last = before - struct.unpack_from("!I", body, at)[0]
            at += 4
        (length,) = struct.unpack_from("!I", body, at)
        at += 4
        before = last - length + 1
        ranges.append((before, last))
    assert at == len(body)
    return Ack(limit, in_flight, prefix, tuple(ranges), delay_us)


# --- a peer -----------------------------------------------------------------------------------


class Peer(socket.socket):
    """A UDP socket that speaks it, step by step."""

    def __init__(self, to: tuple[str, int], *, port: int = 0, timeout: float = 5) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.settimeout(timeout)
        self.bind(("0.0.0.0", port))
        self.connect(to)

    def ask(self, request: bytes) -> Packet:
        """Sends, and waits for an answer of that transfer."""
        self.send(request)
        return self.answer(int.from_bytes(request[8:16]))

    def answer(self, id_: int) -> Packet:
        """What comes next for a transfer."""
        while True:
            found = decode(self.recv(65_535))
            if found.id == id_:
                return found

    def open(self, id_: int, length: int, **more: object) -> Packet:
        """Offers a message, with the cookie; the answer to that."""
        found = self.ask(offer(id_, length, **more))  # type: ignore[arg-type]
        if found.kind == COOKIE:
            found = self.ask(offer(id_, length, cookie=found.body, **more))  # type: ignore[arg-type]
        return found

    def push(self, message: bytes, id_: int | None = None, **more: object) -> Packet:
        """Sends a short message whole; the last answer."""
        id_ = random_id() if id_ is None else id_
        found = self.open(id_, len(message), **more)
        if found.kind != ACK:
            return found
        numbers = range(0, len(message), 1000)
        for number, at in enumerate(numbers):
            self.send(data(id_, number, at, message[at : at + 1000]))
        self.send(end(id_, len(numbers), len(message), blake3(message)))
        while (found := self.answer(id_)).kind == ACK:
            pass
        return found


def random_id() -> int:
    """Of a transfer."""
    return int.from_bytes(os.urandom(8))
