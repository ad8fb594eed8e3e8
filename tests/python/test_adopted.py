"""Sockets that somebody else still holds: whatever their owner does to them, a server on one
serves on, or ends and says why; it neither hangs, nor spins, nor dies without a word."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import rsecho
from command import RSECHO
from support import PATIENCE, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Recorder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")

HOSTS = ["127.0.0.1", "::1"]
UDP_ENGINES: list[rsecho.Engine] = ["batch", "portable"]
TCP_ENGINES: list[rsecho.Engine] = ["auto", "portable"]
WAITS: list[rsecho.Wait] = ["balanced", "latency", "busy"]

# Of linux/in.h, linux/in6.h, linux/udp.h and asm/socket.h: the socket module lacks them.
IP_PKTINFO, IP_RECVERR, IPV6_RECVERR = 8, 11, 25
SO_NO_CHECK, UDP_SEGMENT, UDP_GRO = 11, 103, 104
UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX = 101, 102
SO_RCVLOWAT = 18


def bound(host: str, kind: socket.SocketKind) -> socket.socket:
    own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    own.bind((host, 0))
    return own


@contextlib.contextmanager
def udp(host: str, **keywords: object) -> Iterator[tuple[socket.socket, rsecho.UdpServer]]:
    with (
        bound(host, socket.SOCK_DGRAM) as own,
        rsecho.UdpServer(sock=own, **keywords) as server,  # type: ignore[arg-type]
    ):
        yield own, server


@contextlib.contextmanager
def tcp(host: str, **keywords: object) -> Iterator[tuple[socket.socket, rsecho.TcpServer]]:
    with (
        bound(host, socket.SOCK_STREAM) as own,
        rsecho.TcpServer(sock=own, **keywords) as server,  # type: ignore[arg-type]
    ):
        yield own, server


def echoes(server: rsecho.UdpServer | rsecho.TcpServer) -> bool:
    """A fresh client is answered."""
    kind = rsecho.UdpClient if isinstance(server, rsecho.UdpServer) else rsecho.TcpClient
    with kind(*server.address, timeout=PATIENCE) as client:
        return client.request(b"hello") == b"hello"


def stops_at_once(server: rsecho.UdpServer | rsecho.TcpServer) -> bool:
    start = time.monotonic()
    server.stop(1.0)
    return time.monotonic() - start < PATIENCE / 2


def cpu_of(what: Callable[[], object]) -> float:
    """CPU seconds of this process while `what` runs."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    what()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("engine", TCP_ENGINES)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_listener_that_is_made_blocking_serves_on(
    host: str, engine: rsecho.Engine, workers: int, logged: Recorder
) -> None:
    with tcp(host, engine=engine, workers=workers) as (own, server):
        # As setblocking(True), and as it takes both ways to a file that does not block.
        for timeout in (None, 5, 0, None):
            own.settimeout(timeout)
            with rsecho.TcpClient(*server.address, timeout=PATIENCE) as first:
                assert first.request(b"one") == b"one"
                assert echoes(server)
                assert first.request(b"again") == b"again", "the first is not held up"
            asked: list[rsecho.TcpStats] = []
            asks = threading.Thread(target=lambda asked=asked: asked.append(server.stats()))
            asks.start()
            asks.join(PATIENCE)
            assert asked, "the statistics do not wait for a connection"
        assert stops_at_once(server)
        reason = server.wait()
        assert reason.name == "stopped"
    rsecho.flush_logs()
    told = [line for line in logged.lines("rsecho.server") if "made it blocking" in line]
    assert len(told) == 1, "once"


@pytest.mark.parametrize("engine", TCP_ENGINES)
def test_an_owner_that_toggles_and_accepts_hangs_nothing(engine: rsecho.Engine) -> None:
    """Both halves of the race in which accept(2) waits all the same."""
    with tcp("127.0.0.1", engine=engine, workers=2) as (own, server):
        over = threading.Event()
        accepted: list[int] = []
        copy = own.dup()

        def toggle() -> None:
            while not over.is_set():
                own.setblocking(True)
                own.setblocking(False)

        def accept() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    copy.settimeout(0.01)
                    connection, _ = copy.accept()
                    accepted.append(1)
                    connection.close()

        threads = [threading.Thread(target=work) for work in (toggle, accept)]
        for thread in threads:
            thread.start()
        answered = 0
        for _ in range(500):
            with socket.create_connection(server.address, timeout=PATIENCE) as client:
                client.sendall(b"x")
                with contextlib.suppress(ConnectionError):
                    answered += client.recv(1) == b"x"
        start = time.monotonic()
        assert stops_at_once(server)
        assert time.monotonic() - start < PATIENCE / 2
        over.set()
        for thread in threads:
            thread.join()
        copy.close()
        assert server.wait().is_healthy
        stats = server.stats()
        assert answered == stats.sent_bytes
        assert stats.accepted_connections == sum(stats.closed.values())
        assert stats.accepted_connections + len(accepted) <= 500


@pytest.mark.parametrize("engine", TCP_ENGINES)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_a_listener_that_is_shut_down_ends_its_server_which_says_so(
    host: str, engine: rsecho.Engine, how: int, logged: Recorder
) -> None:
    with tcp(host, engine=engine, workers=2) as (own, server):
        assert echoes(server)
        own.shutdown(how)
        reason = server.wait(PATIENCE)
        assert reason is not None and reason.name == "failed"
        assert "the program that passed this listener in has shut it down" in reason.detail
        with pytest.raises(rsecho.ServerError, match="shut it down"):
            server.serve_forever()
    rsecho.flush_logs()
    assert sum("shut it down" in line for line in logged.lines("rsecho.server")) == 1


def test_a_listener_whose_owner_only_closes_or_listens_again_serves_on() -> None:
    with tcp("127.0.0.1") as (own, server):
        own.listen(0)
        assert echoes(server)
        own.shutdown(socket.SHUT_WR)
        assert echoes(server)
        own.close()
        assert echoes(server)


def test_connections_inherit_nothing_that_holds_others_up() -> None:
    with tcp("127.0.0.1") as (own, server):
        # close(2) would wait for a minute where the peer does not take what was sent.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\x3c\0\0\0")
        # A byte would not be told of before 99 more have come.
        own.setsockopt(socket.SOL_SOCKET, SO_RCVLOWAT, 100)
        with socket.create_connection(server.address) as stuck:
            stuck.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stuck.send(bytes(1 << 16))
            assert echoes(server)
            start = time.monotonic()
            server.stop(0)
            assert time.monotonic() - start < PATIENCE


@pytest.mark.parametrize("engine", UDP_ENGINES)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR, socket.SHUT_WR])
def test_a_udp_socket_that_is_shut_down_ends_its_server_which_says_so(
    host: str, engine: rsecho.Engine, wait: rsecho.Wait, how: int, logged: Recorder
) -> None:
    with udp(host, engine=engine, wait=wait) as (own, server):
        assert server.engine == engine
        assert echoes(server)
        with contextlib.suppress(OSError):  # ENOTCONN, which does it all the same
            own.shutdown(how)
        if how == socket.SHUT_WR:
            # Unknown until something is to be sent.
            with rsecho.UdpClient(*server.address) as client:
                client.send(b"x")
                reason = server.wait(PATIENCE)
        else:
            reason = server.wait(PATIENCE)
        assert reason is not None and reason.name == "failed"
        assert "the program that passed this socket in has shut it down" in reason.detail
        stats = server.stats()
        assert stats.received_packets == stats.sent_packets + sum(stats.dropped.values())
    rsecho.flush_logs()
    assert sum("shut it down" in line for line in logged.lines("rsecho.server")) == 1


def test_a_udp_socket_that_is_shut_down_ends_a_server_that_holds_replies_back() -> None:
    with udp("127.0.0.1", impair="delay 60s") as (own, server):
        with rsecho.UdpClient(*server.address) as client:
            client.send(b"x")
            until(lambda: server.stats().pending_packets == 1)
        with contextlib.suppress(OSError):
            own.shutdown(socket.SHUT_RD)
        reason = server.wait(PATIENCE)
        assert reason is not None and "shut it down" in reason.detail


@pytest.mark.parametrize("engine", UDP_ENGINES)
@pytest.mark.parametrize("host", HOSTS)
def test_a_udp_socket_may_be_made_blocking_timed_or_read_by_others(
    host: str, engine: rsecho.Engine
) -> None:
    with udp(host, engine=engine) as (own, server):
        for change in (True, False, True):
            own.setblocking(change)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            assert echoes(server)
        assert stops_at_once(server)


@pytest.mark.parametrize("host", HOSTS)
def test_errors_that_the_owner_has_kept_are_no_reason_to_spin(host: str, logged: Recorder) -> None:
    with udp(host) as (own, server):
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_RECVERR) if ":" in host else (socket.IPPROTO_IP, IP_RECVERR)
        )
        own.setsockopt(level, option, 1)

        def vanishes() -> bool:
            # Where the client is quick, its port answers the reply with an ICMP error.
            with bound(host, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", server.address)
            return own.getsockopt(level, option) == 0

        until(vanishes)
        assert cpu_of(lambda: time.sleep(0.5)) < 0.25
        assert echoes(server)
    rsecho.flush_logs()
    assert sum("IP_RECVERR" in line for line in logged.lines("rsecho.server")) == 1


def test_a_udp_socket_that_is_connected_is_told(logged: Recorder) -> None:
    with udp("127.0.0.1") as (own, server), bound("127.0.0.1", socket.SOCK_DGRAM) as peer:
        own.connect(peer.getsockname())

        def told() -> bool:
            rsecho.flush_logs()
            return any("has connected it to 127.0.0.1" in t for t in logged.lines("rsecho.server"))

        until(told)
        peer.settimeout(PATIENCE)
        peer.sendto(b"only mine", server.address)
        assert peer.recv(100) == b"only mine"


@pytest.mark.parametrize("engine", UDP_ENGINES)
def test_destinations_are_asked_for_again(engine: rsecho.Engine, logged: Recorder) -> None:
    with udp("0.0.0.0", engine=engine) as (own, server):
        own.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.5", server.address[1]))
            client.settimeout(PATIENCE)
            client.send(b"lost")
            until(lambda: server.stats().dropped["destination_unknown"] == 1)
            client.send(b"answered")
            assert client.recv(100) == b"answered"
            assert client.getpeername()[0] == "127.0.0.5"
        stats = server.stats()
        assert stats.received_packets == stats.sent_packets + sum(stats.dropped.values())
    rsecho.flush_logs()
    assert sum("IP_PKTINFO off" in line for line in logged.lines("rsecho.server")) == 1


@pytest.mark.parametrize("engine", UDP_ENGINES)
@pytest.mark.parametrize("host", HOSTS)
def test_trains_that_the_owner_has_merged(host: str, engine: rsecho.Engine) -> None:
    with (
        udp(host, engine=engine) as (own, server),
        bound(host, socket.SOCK_DGRAM) as client,
    ):
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        client.settimeout(PATIENCE)
        for on in (1, 0, 1):
            own.setsockopt(socket.IPPROTO_UDP, UDP_GRO, on)
            client.sendto(bytes(3200), server.address)
            assert [len(client.recv(4000)) for _ in range(4)] == [1000, 1000, 1000, 200]
        assert server.stats().received_packets == 12


@pytest.mark.parametrize("engine", UDP_ENGINES)
def test_a_train_is_no_datagram_that_was_cut(engine: rsecho.Engine) -> None:
    with (
        udp("127.0.0.1", engine=engine, max_datagram_bytes=100) as (own, server),
        bound("127.0.0.1", socket.SOCK_DGRAM) as client,
    ):
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        assert echoes(server), "what it sets itself is set by now"
        own.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        client.sendto(bytes(3200), server.address)
        until(lambda: server.stats().dropped["truncated"] == 1)
        assert server.stats().sent_packets == 1


@pytest.mark.parametrize("host", HOSTS)
def test_f11_trains_that_the_kernel_does_not_send_are_reported(host: str, logged: Recorder) -> None:
    """Without checksums, the kernel refuses to cut trains: net/ipv4/udp.c, `udp_send_skb`."""
    with (
        udp(host) as (own, server),
        bound(host, socket.SOCK_DGRAM) as client,
    ):
        report = server.socket_report["max_segments"]
        assert (report.option, report.effective, report.warning) == ("UDP_SEGMENT", 128, None)
        if ":" in host:
            own.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)
            client.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
        else:
            own.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        client.settimeout(PATIENCE)
        for _ in range(3):
            client.sendto(bytes(3200), server.address)
            assert [len(client.recv(4000)) for _ in range(4)] == [1000, 1000, 1000, 200]
        report = server.socket_report["max_segments"]
        assert (report.requested, report.effective, report.severity) == (128, 1, "warning")
        assert report.warning is not None
        assert report.warning.startswith("UDP_SEGMENT: refused by the kernel or the driver: ")
        assert report.warning.endswith("sent singly")
        assert server.engine == "batch"
    rsecho.flush_logs()
    assert sum("UDP_SEGMENT" in line for line in logged.lines("rsecho.server")) == 1


REFUSE_GRO = """
    import ctypes, json, os, platform, struct, subprocess, sys
    # seccomp(2), as a filter of classic BPF over struct seccomp_data: setsockopt(…, SOL_UDP,
    # UDP_GRO, …) is ENOPROTOOPT, as before Linux 5.0.
    NUMBER = {"x86_64": 54, "aarch64": 208}[platform.machine()]
    LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
    program = [
        (LOAD, 0, 0, 0), (EQUAL, 0, 5, NUMBER),
        (LOAD, 0, 0, 24), (EQUAL, 0, 3, 17),
        (LOAD, 0, 0, 32), (EQUAL, 0, 1, 104),
        (RETURN, 0, 0, 0x00050000 | 92),
        (RETURN, 0, 0, 0x7FFF0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, filter) == 0, ctypes.get_errno()
"""


def test_receive_offload_that_the_kernel_refuses_is_reported() -> None:
    result = run(
        REFUSE_GRO
        + """
    import logging, rsecho
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    with rsecho.UdpServer("127.0.0.1") as server:
        with rsecho.UdpClient(*server.address, timeout=10) as client:
            assert client.request(b"x") == b"x"
        report = server.socket_report
        line = report["receive_offload"]
        print(server.engine, line.requested, line.effective, line.severity)
        print(report["max_segments"].effective)
        rsecho.flush_logs()
    command = [os.environ["COMMAND"], "info", "--json"]
    info = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    options = info["sockets"][0]["options"]
    print(options["receive_offload"]["effective"])
    print(options["receive_offload"]["warning"] == line.warning)
    """,
        COMMAND=RSECHO,
    )
    assert result.stderr == ""
    told, *rest = result.stdout.splitlines()
    assert told.split(": ", 1)[1].startswith(
        "UDP_GRO: refused: protocol not available: trains of datagrams are"
    )
    assert rest == ["batch True False warning", "1", "False", "True"]


def test_what_is_not_asked_for_is_not_reported_as_refused() -> None:
    for keywords in ({"engine": "portable"}, {"max_datagram_bytes": 100}):
        with rsecho.UdpServer("127.0.0.1", **keywords) as server:
            report = server.socket_report
            for name, value in (("receive_offload", False), ("max_segments", 1)):
                line = report[name]
                assert (line.requested, line.effective, line.warning) == (value, value, None)
