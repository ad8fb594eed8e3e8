"""What a person sees who looks at an object in a debugger or a failed test."""

from __future__ import annotations

import rsecho
from command import PATIENCE
from rsecho import transfer


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


def test_a_policy_shows_what_was_set() -> None:
    policy = transfer.Policy(echo=True, max_open_per_source=3)
    assert repr(policy) == "Policy(echo=True, max_open_per_source=3)"
    assert repr(transfer.Policy()) == "Policy()"


def test_messages_and_replies_do_not_print_megabytes() -> None:
    data = bytes(1 << 20)
    with transfer.Receiver("127.0.0.1") as receiver:
        sent = transfer.send(data, *receiver.address, name="a")
        message = receiver.receive(timeout=PATIENCE)
    shown = repr(message)
    assert shown.startswith("Message(data=<1048576 bytes: b'\\x00") and len(shown) < 400, shown
    # One that is not a file, and lacks nothing, says nothing of that.
    assert "missing" not in shown
    assert repr(sent).startswith("Sent(name='a', url='udp://127.0.0.1:")
    assert "resumed_from_bytes" not in repr(sent)
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert "data=b'hi'" in repr(client.exchange(b"hi"))
        assert len(repr(client.exchange(bytes(9000)))) < 150
        line = server.socket_report["ttl"]
    assert repr(line) == f"OptionReport(name='ttl', option='IP_TTL', effective={line.effective})"
    assert "meaning" not in repr(rsecho.kernel_limits())
