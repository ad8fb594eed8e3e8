"""Socket options with their reports, sockets that are passed in, and the kernel's limits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rsecho
from support import NO_NAMESPACE, PATIENCE, open_descriptors, run, run_in_namespace


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize(
    ("keywords", "level", "option", "wanted"),
    [
        ({"reuse_port": True}, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
        ({"reuse_address": True}, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        ({"broadcast": True}, socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
        ({"ttl": 9}, socket.IPPROTO_IP, socket.IP_TTL, 9),
        ({"dscp": 46}, socket.IPPROTO_IP, socket.IP_TOS, 46 << 2),
        # Linux stores twice what it takes: socket(7).
        ({"recv_buffer_bytes": 65536}, socket.SOL_SOCKET, socket.SO_RCVBUF, 131072),
        ({"send_buffer_bytes": 65536}, socket.SOL_SOCKET, socket.SO_SNDBUF, 131072),
    ],
)
def test_each_option_reaches_the_socket_and_the_report(
    keywords: dict[str, Any], level: int, option: int, wanted: int
) -> None:
    # What is passed in is the same open file, so Python can ask the kernel for itself.
    with udp_socket() as sock, rsecho.UdpServer(sock=sock, **keywords) as server:
        assert sock.getsockopt(level, option) == wanted
        ((name, value),) = keywords.items()
        report = server.socket_report[name]
        assert report.requested == value
        assert report.effective == (wanted if "buffer" in name else value)


def test_times_are_reported_in_seconds() -> None:
    with rsecho.UdpServer("127.0.0.1", recv_timeout=0.25, send_timeout=2) as server:
        assert server.socket_report["recv_timeout"].requested == 0.25
        assert server.socket_report["send_timeout"].effective == 2.0


def test_a_buffer_above_the_ceiling_is_reported_with_the_way_out() -> None:
    limit = rsecho.kernel_limits().udp_recv_buffer_max_bytes
    assert limit is not None
    server = rsecho.UdpServer("127.0.0.1", recv_buffer_bytes=limit.value + 1)
    report = server.socket_report["recv_buffer_bytes"]
    assert (report.option, report.requested) == ("SO_RCVBUF", limit.value + 1)
    assert (report.ceiling, report.sysctl) == (limit.value, "net.core.rmem_max")
    assert report.severity == "warning"
    assert report.warning is not None
    assert f"sysctl -w net.core.rmem_max={limit.value + 1}" in report.warning


@pytest.mark.parametrize("as_number", [False, True])
def test_a_socket_that_is_passed_in_stays_the_callers(as_number: bool) -> None:
    with udp_socket() as sock:
        with rsecho.UdpServer(sock=sock.fileno() if as_number else sock) as server:
            assert server.address == sock.getsockname()
            with rsecho.UdpClient(*server.address) as client:
                assert client.request(b"x") == b"x"
        # Closed there, not here: it still receives.
        with rsecho.UdpClient(*server.address) as client:
            client.send(b"mine")
            sock.settimeout(PATIENCE)
            assert sock.recvfrom(100) == (b"mine", client.address)


def test_a_server_outlives_the_socket_that_was_passed_in() -> None:
    sock = udp_socket()
    with rsecho.UdpServer(sock=sock) as server:
        sock.close()
        with rsecho.UdpClient(*server.address) as client:
            assert client.request(b"x") == b"x"


def test_refuses_sockets_that_cannot_serve() -> None:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        with pytest.raises(ValueError, match="it is a TCP socket"):
            rsecho.UdpServer(sock=stream)
    unbound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with unbound, pytest.raises(ValueError, match="bind it first"):
        rsecho.UdpServer(sock=unbound)
    with pytest.raises(ValueError, match="the socket was closed: pass one that is open"):
        rsecho.UdpServer(sock=unbound)
    for local in socket.socketpair():
        with local, pytest.raises(ValueError, match="neither an IPv4"):
            rsecho.UdpServer(sock=local)
    with pytest.raises(OSError, match="bad file descriptor"):
        rsecho.UdpServer(sock=1 << 20)
    with udp_socket() as sock, pytest.raises(ValueError, match="leave host and port out"):
        rsecho.UdpServer("127.0.0.1", sock=sock)


def test_kernel_limits_are_what_the_kernel_says() -> None:
    limits = rsecho.kernel_limits()
    for name, plain in limits.to_dict().items():
        limit: rsecho.KernelLimit = getattr(limits, name)
        text = Path("/proc/sys", *limit.sysctl.split(".")).read_text()
        assert limit.values == tuple(map(int, text.split()))
        assert limit.value == limit.values[-1]
        assert plain == {
            "values": limit.values,
            "sysctl": limit.sysctl,
            "meaning": limit.meaning,
        }
    assert limits.udp_recv_buffer_max_bytes is not None


def test_f45_every_descriptor_is_closed_by_exec() -> None:
    before = open_descriptors()
    with (
        rsecho.UdpServer("127.0.0.1", workers=2) as server,
        rsecho.UdpServer("0.0.0.0", engine="portable") as portable,
        udp_socket() as sock,
        rsecho.UdpServer(sock=sock) as adopted,
        rsecho.TcpServer("127.0.0.1", workers=2) as tcp_server,
        rsecho.TcpServer("127.0.0.1", engine="portable") as tcp_portable,
        rsecho.TcpClient(*tcp_server.address) as tcp_client,
        rsecho.UdpClient(*server.address) as client,
    ):
        # Accepted connections are descriptors as well.
        assert client.request(b"x") == tcp_client.request(b"x")
        engines = {each.engine for each in (server, portable, tcp_server, tcp_portable)}
        assert engines == {"batch", "portable", "epoll"}
        assert adopted.is_running
        ours = set(open_descriptors()) - set(before) - {sock.fileno()}
        assert len(ours) >= 12
        listing = "import os; print(*os.listdir('/proc/self/fd'))"
        # close_fds=False: what is inherited is what lacks close-on-exec.
        child = subprocess.run(
            [sys.executable, "-c", listing], capture_output=True, close_fds=False, check=True
        )
        inherited = {int(number) for number in child.stdout.split()}
        for descriptor in ours:
            assert not os.get_inheritable(descriptor)
        # The child opens one of its own, for the listing.
        assert len(inherited & ours) <= 1


@pytest.mark.skipif(bool(NO_NAMESPACE), reason=NO_NAMESPACE)
def test_f03_link_local_addresses_keep_their_interface() -> None:
    program = """
        import subprocess, sys, time
        import rsecho

        for command in (
            "ip link set lo up",
            "ip link add va type veth peer name vb",
            "ip link set va up",
            "ip link set vb up",
            "ip -6 address add fe80::a/64 dev va nodad",
            "ip -6 address add fe80::b/64 dev vb nodad",
        ):
            subprocess.run(command.split(), check=True)
        try:
            rsecho.UdpServer("fe80::a")
        except ValueError as error:
            print("needs the name of its interface" in str(error), "as in fe80::a%" in str(error))
        deadline = time.monotonic() + 10
        while True:
            try:
                server = rsecho.UdpServer("fe80::a%va", engine=sys.argv[1])
                break
            except OSError:
                # Until the pair has a carrier.
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with server:
            print(server.engine, server.address[0])
            with rsecho.UdpClient(*server.address, timeout=10) as client:
                print(client.peer == server.address, client.address[0])
                print(client.request(b"scoped"))
    """
    for engine in ("batch", "portable"):
        result = run_in_namespace(program, engine)
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            "True True",
            f"{engine} fe80::a%va",
            "True fe80::a%va",
            "b'scoped'",
        ]


def test_a_debug_build_warns_once_when_it_is_used() -> None:
    result = run("""
        import sys, warnings
        from unittest import mock
        import rsecho._rsecho
        for name in [name for name in sys.modules if name == "rsecho"]:
            del sys.modules[name]
        with mock.patch.object(sys.modules["rsecho._rsecho"], "is_debug_build", True):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                from rsecho import UdpServer
                from rsecho import TcpServer
        print([(w.category.__name__, "--release" in str(w.message)) for w in caught])
    """)
    assert (result.stdout, result.stderr) == ("[('DebugBuildWarning', True)]\n", "")
