"""`TcpServer`: what it answers, reports, refuses, and how it ends."""

from __future__ import annotations

import asyncio
import copy
import errno
import gc
import pickle
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import PATIENCE, spawn, until

if TYPE_CHECKING:
    from conftest import Recorder
    from rsecho.server import Engine

ENGINES: list[tuple[Engine, str]] = [("batch", "epoll"), ("portable", "portable")]


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_echoes_and_counts(engine: Engine, name: str) -> None:
    data = bytes(range(256)) * 4096
    with rsecho.TcpServer("127.0.0.1", 0, engine=engine) as server:
        assert server.engine == name
        with rsecho.TcpClient(*server.address, timeout=PATIENCE) as client:
            assert client.request(b"x") == b"x"
            assert client.request(data) == data
            until(lambda: server.stats().active_connections == 1)
            client.finish()
            assert client.receive() == b""
        until(lambda: server.stats().active_connections == 0)
    stats = server.stats()
    assert stats.accepted_connections == sum(stats.closed.values()) == 1
    assert stats.received_bytes == stats.sent_bytes == len(data) + 1
    assert stats.kernel_drops == 0


def test_says_where_and_what_it_is() -> None:
    server = rsecho.TcpServer("127.0.0.1")
    assert server.url == f"tcp://127.0.0.1:{server.address[1]}"
    assert repr(server) == f"<TcpServer {server.url} not started>"
    with server:
        assert server.is_running
    assert repr(server).endswith("stopped>")
    with rsecho.TcpServer("::1") as server, rsecho.TcpClient(*server.address) as client:
        assert server.address[0] == "::1"
        assert client.request(b"six") == b"six"


def test_connections_wait_from_the_moment_it_is_made() -> None:
    server = rsecho.TcpServer("127.0.0.1")
    with rsecho.TcpClient(*server.address, timeout=PATIENCE) as client:
        client.send_all(b"early")
        with server:
            assert client.receive_exactly(5) == b"early"


def test_stop_and_close_work_twice() -> None:
    server = rsecho.TcpServer("127.0.0.1", 0, backlog=128)
    server.start()
    with pytest.raises(rsecho.StateError, match="running"):
        server.start()
    for end in (server.stop, server.close, server.stop, server.close):
        end()
    assert server.wait().name == "stopped"
    with pytest.raises(ConnectionRefusedError):
        rsecho.TcpClient(*server.address)


def test_stopping_what_never_started_frees_the_port() -> None:
    server = rsecho.TcpServer("127.0.0.1")
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        rsecho.TcpClient(*server.address)


def test_f27_stop_answers_what_has_come() -> None:
    with (
        rsecho.TcpServer("127.0.0.1") as server,
        rsecho.TcpClient(*server.address, timeout=PATIENCE) as client,
    ):
        client.request(b"connected")
        client.send_all(b"a" * 1000)
        server.stop()
        assert client.receive_exactly(1000) == b"a" * 1000
        assert client.receive() == b""


def test_stop_with_silent_connections_ends_within_its_deadline() -> None:
    with rsecho.TcpServer("127.0.0.1") as server, rsecho.TcpClient(*server.address) as client:
        client.request(b"x")
        start = time.monotonic()
        server.stop(drain_timeout=0.2)
        assert time.monotonic() - start < 5


def test_idle_connections_are_closed() -> None:
    with rsecho.TcpServer("127.0.0.1", idle_timeout=0.1) as server:
        with rsecho.TcpClient(*server.address, timeout=PATIENCE) as client:
            client.request(b"x")
            assert client.receive() == b""
        until(lambda: server.stats().closed["idle"] == 1)
        assert server.is_running


def test_max_connections_makes_others_wait() -> None:
    with (
        rsecho.TcpServer("127.0.0.1", max_connections=1) as server,
        rsecho.TcpClient(*server.address, timeout=PATIENCE) as first,
    ):
        first.request(b"x")
        with rsecho.TcpClient(*server.address, timeout=0.1) as second:
            with pytest.raises(TimeoutError):
                second.request(b"y")
            first.close()
        with rsecho.TcpClient(*server.address, timeout=PATIENCE) as third:
            assert third.request(b"z") == b"z"


def test_the_backlog_is_reported() -> None:
    server = rsecho.TcpServer("127.0.0.1", backlog=7)
    report = server.socket_report["backlog"]
    assert (report.option, report.requested, report.effective) == ("listen(2)", 7, 7)
    limit = rsecho.kernel_limits().accept_queue_max
    assert limit is not None
    report = rsecho.TcpServer("127.0.0.1", backlog=limit.value + 1).socket_report["backlog"]
    assert report.effective == report.ceiling == limit.value
    assert report.severity == "warning"
    assert "net.core.somaxconn" in (report.warning or "")


@pytest.mark.parametrize(
    ("keywords", "level", "option", "wanted"),
    [
        ({"keep_alive": True}, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ({"keep_alive": (11, None, None)}, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 11),
        ({"keep_alive": (None, 12, None)}, socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 12),
        ({"keep_alive": (None, None, 3)}, socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ({"keep_alive": False}, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
        ({"no_delay": False}, socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
        ({}, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ({"ttl": 9}, socket.IPPROTO_IP, socket.IP_TTL, 9),
    ],
)
def test_options_reach_the_socket(
    keywords: dict[str, Any], level: int, option: int, wanted: int
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with rsecho.TcpServer(sock=sock, **keywords) as server:
            assert sock.getsockopt(level, option) == wanted
            with rsecho.TcpClient(*server.address) as client:
                assert client.request(b"x") == b"x"


def test_names_of_options_are_the_kernels() -> None:
    server = rsecho.TcpServer("127.0.0.1", congestion="reno")
    assert server.socket_report["congestion"].effective == "reno"
    with pytest.raises(OSError, match=r"no such algorithm; it has .*reno"):
        rsecho.TcpServer("127.0.0.1", congestion="nonesuch")


@pytest.mark.parametrize("is_listening", [False, True])
def test_a_socket_that_is_passed_in_stays_the_callers(is_listening: bool) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if is_listening:
            sock.listen()
        with rsecho.TcpServer(sock=sock) as server:
            assert server.address == sock.getsockname()
            with rsecho.TcpClient(*server.address) as client:
                assert client.request(b"x") == b"x"
        # Closed there, not here: it still accepts.
        with rsecho.TcpClient(*server.address) as client:
            sock.settimeout(PATIENCE)
            with sock.accept()[0] as connection:
                assert connection.getpeername() == client.address


def test_refuses_sockets_that_cannot_serve() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        with pytest.raises(ValueError, match="it is a UDP socket"):
            rsecho.TcpServer(sock=datagrams)
    with (
        rsecho.TcpServer("127.0.0.1") as server,
        socket.create_connection(server.address) as connection,
        pytest.raises(ValueError, match="not a listener"),
    ):
        rsecho.TcpServer(sock=connection)


def test_records_are_cut_from_the_stream(logged: Recorder) -> None:
    seen: list[rsecho.Record] = []
    with (
        rsecho.TcpServer("127.0.0.1", unpack="!H2s", on_record=seen.append) as server,
        rsecho.TcpClient(*server.address, timeout=PATIENCE) as client,
    ):
        client.request(b"\x00\x07ok\x00")
        client.request(b"\x08no")
        client.request(b"rest!")
        client.finish()
        until(lambda: "unfit" in logged.events(server.url))
    assert [record.values for record in seen] == [(7, b"ok"), (8, b"no"), (0x7265, b"st")]
    (unfit,) = (r for r in logged.of("rsecho.records") if r.levelname == "WARNING")
    assert 'expected 4 bytes, received 1: "!"' in unfit.getMessage()
    stats = server.stats()
    assert (stats.records, stats.unfit_records) == (3, 1)


def test_connections_are_logged(logged: Recorder) -> None:
    with rsecho.TcpServer("127.0.0.1") as server:
        with rsecho.TcpClient(*server.address) as client:
            peer = f"127.0.0.1:{client.address[1]}"
            client.request(b"hello")
            client.finish()
            assert client.receive() == b""
        until(lambda: "closed" in logged.events(server.url))
    lines = logged.lines("rsecho.access")
    assert lines[0] == f"{server.url} opened by {peer}"
    assert lines[-1] == f"{server.url} closed with {peer}: peer, received 5, sent 5"


def test_serve_forever_stops_at_ctrl_c() -> None:
    with spawn("""
        import rsecho
        server = rsecho.TcpServer("127.0.0.1")
        server.start()
        wait = server.wait

        def tell_and_wait():
            # Within serve_forever now, where Ctrl-C is awaited.
            print(server.address[1])
            return wait()

        server.wait = tell_and_wait
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            server.wait = wait
            print(server.wait(0).name, server.stats().sent_bytes)
    """) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        with rsecho.TcpClient("127.0.0.1", port, timeout=PATIENCE) as client:
            client.request(b"x")
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=PATIENCE)
        assert (program.returncode, output, errors) == (0, "stopped 1\n", "")


def test_async_with() -> None:
    async def main() -> None:
        async with (
            rsecho.TcpServer("127.0.0.1") as server,
            rsecho.TcpClient(*server.address) as client,
        ):
            assert await client.request_async(b"x") == b"x"
            await client.send_all_async(b"yz")
            assert await client.receive_exactly_async(2) == b"yz"
            client.finish()
            assert await client.receive_async() == b""
            assert await server.wait_async(timeout=0.01) is None

    asyncio.run(main())


def test_a_server_collected_while_running_warns_and_stops() -> None:
    server = rsecho.TcpServer("127.0.0.1")
    server.start()
    address = server.address
    text = "unclosed <TcpServer tcp://127.0.0.1"
    with pytest.warns(ResourceWarning, match=text) as caught:
        del server
        gc.collect()
        # The thread that logs may have been looking at it just then.
        until(lambda: caught.list)
    with pytest.raises(ConnectionRefusedError):
        rsecho.TcpClient(*address)


def test_cannot_be_pickled_or_copied() -> None:
    server = rsecho.TcpServer("127.0.0.1")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pass its address instead"):
            attempt(server)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"port": 65536}, ValueError, "a port is a number from 0 to 65535"),
        ({"backlog": -1}, ValueError, "backlog"),
        ({"max_connections": -1}, ValueError, "max_connections"),
        ({"max_connections": 0}, ValueError, "max_connections"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout"),
        ({"linger": -1}, ValueError, "linger"),
        ({"linger": 2}, ValueError, "hold up every other connection"),
        ({"keep_alive": (0, None, None)}, ValueError, "keep_alive idle"),
        ({"keep_alive": (1, 2)}, TypeError, "a tuple"),
        ({"broadcast": True}, TypeError, "unexpected keyword argument 'broadcast'"),
        ({"stop_on_empty": True}, TypeError, "stop_on_empty"),
    ],
)
def test_refuses_what_cannot_work(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        rsecho.TcpServer(**{"host": "127.0.0.1", **arguments})


def test_a_port_in_use_says_so_and_the_way_out() -> None:
    with rsecho.TcpServer("127.0.0.1") as server:
        with pytest.raises(OSError, match="shows which socket has it") as raised:
            rsecho.TcpServer(*server.address)
        assert raised.value.errno == errno.EADDRINUSE


def test_f32_restarts_at_once_with_connections_in_time_wait() -> None:
    with rsecho.TcpServer("127.0.0.1") as server:
        address = server.address
        with rsecho.TcpClient(*address, timeout=PATIENCE) as client:
            client.request(b"x")
            # The server closes first, so the port is in TIME_WAIT on its side.
            server.stop()
            assert client.receive() == b""
    with rsecho.TcpServer(*address) as server, rsecho.TcpClient(*address) as client:
        assert client.request(b"again") == b"again"
