"""Only type-checked, never run: what servers and clients promise to users."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import assert_type

import rsecho
from rsecho.logs import JsonFormatter, escape_payload

server = rsecho.UdpServer(
    "127.0.0.1",
    0,
    recv_buffer_bytes=1 << 20,
    send_buffer_bytes=None,
    reuse_port=True,
    dscp=46,
    broadcast=False,
    idle_timeout=5,
    stop_on_empty=True,
    workers=2,
    cpus=[0, 1],
    engine="batch",
    wait="latency",
    unpack="!I",
    on_record=lambda record: print(record.values, record.fields["field_0"]),
)
rsecho.UdpServer(sock=socket.socket())
rsecho.UdpServer(sock=3)
rsecho.UdpServer(unpack=rsecho.RecordLayout("!I"))
rsecho.UdpServer(no_delay=True)  # type: ignore[call-arg]
rsecho.UdpServer(engine="turbo")  # type: ignore[arg-type]
rsecho.UdpServer(family=5)  # type: ignore[arg-type]
rsecho.UdpServer("127.0.0.1", 0, 4)  # type: ignore[call-arg]

tcp = rsecho.TcpServer(
    "::1", 0, backlog=128, max_connections=10, keep_alive=(30, None, 3), linger=0, no_delay=True
)
rsecho.TcpServer(keep_alive=True, congestion="reno")
rsecho.TcpServer(broadcast=True)  # type: ignore[call-arg]
rsecho.TcpServer(keep_alive="on")  # type: ignore[arg-type]

assert_type(server.address, tuple[str, int])
assert_type(server.url, str)
assert_type(server.socket_report["ttl"], rsecho.OptionReport)
assert_type(server.stats(), rsecho.UdpStats)
assert_type(server.stats().dropped, dict[str, int])
assert_type(tcp.stats(), rsecho.TcpStats)
assert_type(tcp.stats().kernel_drops, int | None)
assert_type(tcp.stats().refused_by_source, int)
assert_type(tcp.stats().refused_by_rate, int)
assert_type(server.wait(), rsecho.StopReason)
assert_type(server.wait(1.0), rsecho.StopReason | None)
assert_type(server.serve_forever(), rsecho.StopReason)
server.address = ("", 0)  # type: ignore[misc]
server.stats().received_packets = 1  # type: ignore[misc]
rsecho.nothing  # type: ignore[attr-defined]  # noqa: B018

with rsecho.TcpServer() as entered, rsecho.TcpClient(*entered.address, timeout=None) as client:
    assert_type(entered, rsecho.TcpServer)
    assert_type(client, rsecho.TcpClient)
    assert_type(client.request(bytearray()), bytes)
    assert_type(client.exchange(b""), rsecho.Reply)
    client.send_all("text")  # type: ignore[arg-type]

with rsecho.UdpClient("localhost", 7, ttl=3) as asker:
    assert_type(asker.receive(), bytes)
    asker.finish()  # type: ignore[attr-defined]
rsecho.UdpClient("localhost")  # type: ignore[call-arg]
rsecho.UdpClient("localhost", 7, recv_timeout=1.0)  # type: ignore[call-arg]


async def asynchronously() -> None:
    async with rsecho.UdpServer() as entered, rsecho.UdpClient(*entered.address) as client:
        assert_type(entered, rsecho.UdpServer)
        assert_type(await client.exchange_async(b""), rsecho.Reply)
        assert_type(await entered.wait_async(), rsecho.StopReason)
        assert_type(await entered.wait_async(1), rsecho.StopReason | None)


limits = rsecho.kernel_limits()
assert_type(limits.accept_queue_max, rsecho.KernelLimit | None)
limits.nothing  # type: ignore[attr-defined]  # noqa: B018
assert_type(rsecho.flush_logs(), bool)
assert_type(escape_payload(b""), str)
JsonFormatter("%(message)s")

guard = rsecho.Guard(
    allow=["10.0.0.0/8", ip_network("2001:db8::/32")],
    rate_per_source=100,
    rate_total=(1000.0, 50),
    max_amplification=2,
    connections_per_source=0,
)
rsecho.UdpServer(guard=guard.only("udp"))
rsecho.TcpServer(guard=guard.only("tcp"))
rsecho.UdpServer(guard=rsecho.Guard)  # type: ignore[arg-type]
assert_type(guard.only("udp"), rsecho.Guard)
guard.only("sctp")  # type: ignore[arg-type]
rsecho.Guard(connection_rate_per_source=10)
rsecho.Guard(connection_rate_per_source=(0.5, 3))
rsecho.Guard(connection_rate_per_source="10")  # type: ignore[arg-type]
rsecho.Guard("10.0.0.0/8")  # type: ignore[call-arg]
guard.loop_guard = False  # type: ignore[misc]
