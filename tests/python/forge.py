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


def udp_packet(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram; its checksums are left to the kernel, or out."""
    length = 8 + len(payload)
    # A UDP checksum of 0 means none (RFC 768).
    udp = struct.pack("!4H", source[1], destination[1], length, 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    header = struct.pack("!2B3H2BH", 0x45, 0, 20 + length, 1, 0, 64, socket.IPPROTO_UDP, 0)
    return header + addresses + udp


def send_forged(
    source: tuple[str, int], destination: tuple[str, int], payload: bytes, count: int = 1
) -> None:
    """Sends the packet over loopback, or wherever its destination leads."""
    packet = udp_packet(source, destination, payload)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for _ in range(count):
            raw.sendto(packet, (destination[0], 0))
