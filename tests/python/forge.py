"""Datagrams with a forged source: raw sockets, for root on Linux."""

from __future__ import annotations

import os
import socket
import struct
import sys

import pytest

needs_root = pytest.mark.skipif(
    not (sys.platform == "linux" and os.geteuid() == 0),
    reason="forging and namespaces need root on Linux",
)


def udp_packet(
    source: tuple[str, int], destination: tuple[str, int], payload: bytes, hop_limit: int = 64
) -> bytes:
    """An IPv4 packet with a UDP datagram; its checksums are left to the kernel, or out."""
    length = 8 + len(payload)
    # A UDP checksum of 0 means none (RFC 768).
    udp = struct.pack("!4H", source[1], destination[1], length, 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    header = struct.pack("!2B3H2BH", 0x45, 0, 20 + length, 1, 0, hop_limit, socket.IPPROTO_UDP, 0)
    return header + addresses + udp


def udp6_packet(
    source: tuple[str, int], destination: tuple[str, int], payload: bytes, hop_limit: int = 64
) -> bytes:
    """The same in IPv6, where the checksum is no choice (RFC 8200 §8.1)."""
    length = 8 + len(payload)
    addresses = b"".join(
        socket.inet_pton(socket.AF_INET6, host[0]) for host in (source, destination)
    )
    ports = struct.pack("!2H", source[1], destination[1])
    summed = addresses + struct.pack("!2I", length, socket.IPPROTO_UDP) + ports
    summed += struct.pack("!2H", length, 0) + payload + bytes(len(payload) % 2)
    total = sum(word for (word,) in struct.iter_unpack("!H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    udp = ports + struct.pack("!2H", length, ~total & 0xFFFF) + payload
    return struct.pack("!IH2B", 6 << 28, length, socket.IPPROTO_UDP, hop_limit) + addresses + udp


def send_forged(
    source: tuple[str, int],
    destination: tuple[str, int],
    payload: bytes,
    count: int = 1,
    hop_limit: int = 64,
) -> None:
    """Sends the packet over loopback, or wherever its destination leads."""
    is_v6 = ":" in destination[0]
    packet = (udp6_packet if is_v6 else udp_packet)(source, destination, payload, hop_limit)
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for _ in range(count):
            raw.sendto(packet, (destination[0], 0))
