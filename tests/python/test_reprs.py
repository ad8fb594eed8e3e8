"""What a person sees who looks at an object in a debugger or a failed test."""

from __future__ import annotations

import rsecho
from command import PATIENCE


def test_statistics_show_what_is_not_zero() -> None:
    stats = rsecho.UdpStats(
        engine="batch", received_packets=3, dropped={"denied": 1, "repeated": 0}, kernel_drops=0
    )
    assert repr(stats) == "UdpStats(engine='batch', received_packets=3, dropped={'denied': 1})"
    assert repr(rsecho.TcpStats(closed={"peer": 0})) == "TcpStats()"
    assert repr(rsecho.TcpStats(kernel_drops=2)) == "TcpStats(kernel_drops=2)"


def test_a_repr_makes_the_same_object() -> None:
    stats = rsecho.UdpStats(engine="batch", sent_bytes=9, dropped={"denied": 1}, more={"new": 2})
    assert eval(repr(stats), {"UdpStats": rsecho.UdpStats}) == stats


def test_a_server_shows_where_it_is_and_how_it_is() -> None:
    server = rsecho.UdpServer("127.0.0.1", 0)
    assert repr(server) == f"<UdpServer {server.url} not started>"
    with server, rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
        client.request(b"data")
        assert repr(server) == f"<UdpServer {server.url} running>"
        assert repr(client) == f"<UdpClient {server.url}>"
        assert len(repr(server.stats())) < 200
    assert repr(server) == f"<UdpServer {server.url} stopped>"
