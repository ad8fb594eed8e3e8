"""Each row of the README's table "from the socket cookbook to rsecho"."""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rsecho

if TYPE_CHECKING:
    from conftest import Recorder

PATIENCE = 10


def sysctl(name: str) -> list[int]:
    """The values of a sysctl, by the file; empty where there is none."""
    path = Path("/proc/sys") / name.replace(".", "/")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_reuse_address() -> None:
    with rsecho.TcpServer("127.0.0.1") as server:
        assert server.socket_report["reuse_address"].effective is True
    with rsecho.UdpServer("127.0.0.1", reuse_address=True) as first:
        assert first.socket_report["reuse_address"].effective is True


def test_system_maxima() -> None:
    limits = rsecho.kernel_limits()
    for limit in (
        limits.udp_recv_buffer_max_bytes,
        limits.udp_send_buffer_max_bytes,
        limits.tcp_recv_buffer_bytes,
        limits.tcp_send_buffer_bytes,
        limits.accept_queue_max,
        limits.syn_queue_max,
    ):
        if limit is not None:
            assert list(limit.values) == sysctl(limit.sysctl)


def test_a_warning_above_the_maximum(logged: Recorder) -> None:
    limit = rsecho.kernel_limits().udp_recv_buffer_max_bytes
    if limit is None or limit.value >= 2**31 - 1:
        return
    with rsecho.UdpServer("127.0.0.1", recv_buffer_bytes=limit.value + 1) as server:
        line = server.socket_report["recv_buffer_bytes"]
        assert line.severity == "warning"
        assert line.warning is not None
        assert "net.core.rmem_max" in line.warning
        assert line.ceiling == limit.value
    rsecho.flush_logs()
    warned = [r for r in logged.of("rsecho.server") if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warned] == [f"{server.url}: {line.warning}"]


@pytest.mark.parametrize("make", [rsecho.UdpServer, rsecho.TcpServer])
def test_effective_sizes(make: type[rsecho.UdpServer | rsecho.TcpServer]) -> None:
    with make("127.0.0.1", recv_buffer_bytes=65536, send_buffer_bytes=32768) as server:
        report = server.socket_report
        for name, asked in (("recv_buffer_bytes", 65536), ("send_buffer_bytes", 32768)):
            assert report[name].requested == asked
            effective = report[name].effective
            assert isinstance(effective, int)
            # At least what was asked for, whatever the system adds.
            assert effective >= min(asked, report[name].ceiling or asked)


@pytest.mark.parametrize("make", [rsecho.UdpServer, rsecho.TcpServer])
def test_port_0_and_the_real_address(
    make: type[rsecho.UdpServer | rsecho.TcpServer], logged: Recorder
) -> None:
    with make("localhost", 0) as server:
        host, port = server.address
        assert host == "127.0.0.1"
        assert port > 0
    rsecho.flush_logs()
    assert any(f"127.0.0.1:{port}" in line for line in logged.lines("rsecho.server"))


def test_echo_received_from_whom_sent(logged: Recorder) -> None:
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(PATIENCE)
        client.sendto(b"data", server.address)
        assert client.recvfrom(1024) == (b"data", server.address)
        own = client.getsockname()[1]
    rsecho.flush_logs()
    lines = logged.lines("rsecho.access")
    assert any(f'received 4 bytes from 127.0.0.1:{own}: "data"' in line for line in lines)
    assert any(f"sent 4 bytes to 127.0.0.1:{own}" in line for line in lines)


def test_an_empty_datagram_ends_the_server() -> None:
    with rsecho.UdpServer("127.0.0.1", stop_on_empty=True) as server:
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            assert client.request(b"") == b""
        reason = server.wait(PATIENCE)
        assert reason is not None
        assert reason.name == "empty"


def test_an_empty_datagram_is_a_datagram() -> None:
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert client.request(b"") == b""
        assert client.request(b"still there") == b"still there"


def test_timeout_that_ends() -> None:
    with rsecho.UdpServer("127.0.0.1", idle_timeout=0.05) as server:
        reason = server.wait(PATIENCE)
        assert reason is not None
        assert reason.name == "idle"


def test_timeout_that_keeps_serving() -> None:
    with rsecho.UdpServer("127.0.0.1", recv_timeout=0.01, send_timeout=0.01) as server:
        while server.stats().receive_timeouts < 3:
            assert server.wait(0.01) is None
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            assert client.request(b"data") == b"data"
        assert server.socket_report["recv_timeout"].requested == 0.01


def test_process_message_and_its_error_reply() -> None:
    for make in (rsecho.UdpServer, rsecho.TcpServer):
        with make("127.0.0.1", responder="prefix=Response: ", upper=True) as server:
            assert ask(server, b"hello, w\xc3\xb6rld") == "Response: HELLO, WÖRLD".encode()
            assert ask(server, b"\xff\xfe") == b"Error: Invalid encoding"
            assert server.stats().error_replies == 1


def test_an_error_for_each_datagram_that_fails(logged: Recorder) -> None:
    def process_message(data: bytes, _: rsecho.Peer) -> bytes:
        return b"%d" % (100 // int(data))

    with rsecho.UdpServer(
        "127.0.0.1", responder=process_message, error_reply=b"Error processing request"
    ) as server:
        assert ask(server, b"5") == b"20"
        assert ask(server, b"0") == b"Error processing request"
        assert ask(server, b"4") == b"25"
    assert any("ZeroDivisionError" in line for line in logged.lines("rsecho.responder"))


def test_stateless_requests() -> None:
    for make in (rsecho.UdpServer, rsecho.TcpServer):
        with make("127.0.0.1", responder="command") as server:
            asked = datetime.now().astimezone()
            told = datetime.fromisoformat(ask(server, b"TIME").decode())
            assert abs((told - asked).total_seconds()) < PATIENCE
            assert ask(server, b"ECHO some Text") == b"some Text"
            assert ask(server, b"  HOSTNAME ") == socket.gethostname().encode()
            host, port = ask(server, b"CLIENTIP").decode().rsplit(":", 1)
            assert host == "127.0.0.1" and int(port) > 0
            assert ask(server, b"SERVERADDRESS").decode() == "{}:{}".format(*server.address)
            assert ask(server, b"time") == b"Unknown command"


@pytest.mark.skipif(sys.platform != "linux", reason="127.255.255.255 is Linux's")
def test_broadcast() -> None:
    def respond(_: bytes, __: rsecho.Peer) -> bytes:
        return b"Server response"

    for answers in (False, True):
        with (
            rsecho.UdpServer("", responder=respond, answer_broadcast=answers) as server,
            socket.socket(type=socket.SOCK_DGRAM) as client,
        ):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.settimeout(PATIENCE)
            port = server.address[1]
            client.sendto(b"anyone?", ("127.255.255.255", port))
            if answers:
                assert client.recvfrom(100) == (b"Server response", ("127.0.0.1", port))
            client.sendto(b"you", ("127.0.0.1", port))
            assert client.recvfrom(100) == (b"Server response", ("127.0.0.1", port))
            assert server.stats().dropped["to_broadcast"] == (not answers)


def ask(server: rsecho.UdpServer | rsecho.TcpServer, request: bytes) -> bytes:
    """One request, and the reply to it; over TCP a line each."""
    if isinstance(server, rsecho.UdpServer):
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            return client.exchange(request).data
    with socket.create_connection(server.address, PATIENCE) as stream:
        stream.sendall(request + b"\r\n")
        stream.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: stream.recv(65536), b""))
        assert reply.endswith(b"\r\n")
        return reply[:-2]


def test_decode(logged: Recorder) -> None:
    record = struct.pack("! I 2s Q 2h f", 1, b"ab", 2, 3, 4, 2.5)
    with (
        rsecho.UdpServer("127.0.0.1", unpack="! I 2s Q 2h f") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert client.request(record) == record
    rsecho.flush_logs()
    assert any("field_0=1 field_1=b'ab'" in line for line in logged.lines("rsecho.records"))


def test_accept_queue_and_syn_queue() -> None:
    most = rsecho.kernel_limits().accept_queue_max
    with rsecho.TcpServer("127.0.0.1", backlog=5) as server:
        assert server.socket_report["backlog"].effective in (5, None)
    if most is not None:
        with rsecho.TcpServer("127.0.0.1", backlog=most.value + 1) as server:
            line = server.socket_report["backlog"]
            assert line.effective == most.value
            assert line.warning is not None
            assert "net.core.somaxconn" in line.warning


def test_send_all_and_shutdown() -> None:
    with (
        rsecho.TcpServer("127.0.0.1") as server,
        socket.create_connection(server.address, PATIENCE) as client,
    ):
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        found = b"".join(iter(lambda: client.recv(65536), b""))
        assert found == b"x" * 100_000


@pytest.mark.parametrize("make", [rsecho.UdpServer, rsecho.TcpServer])
def test_address_in_use(make: type[rsecho.UdpServer | rsecho.TcpServer]) -> None:
    with make("127.0.0.1") as server:
        with pytest.raises(OSError, match="already in use") as caught:
            make(*server.address)
        assert caught.value.errno == errno.EADDRINUSE
