"""The clients, against peers made of Python's own sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import pickle
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import NO_NAMESPACE, PATIENCE, run_in_namespace, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def udp_peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(PATIENCE)
        yield peer


@contextlib.contextmanager
def tcp_peer(serve: Callable[[socket.socket], object]) -> Iterator[tuple[str, int]]:
    """The address of a listener that serves one connection on a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def run() -> None:
            with listener.accept()[0] as connection:
                connection.settimeout(PATIENCE)
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            thread.join(PATIENCE)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def closed_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_udp_takes_any_bytes_and_gives_bytes(udp_peer: socket.socket) -> None:
    with rsecho.UdpClient(*udp_peer.getsockname()) as client:
        assert client.peer == udp_peer.getsockname()
        assert client.url == f"udp://127.0.0.1:{client.peer[1]}"
        for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), b""):
            client.send(data)
            assert udp_peer.recvfrom(100) == (bytes(data), client.address)
        with pytest.raises(TypeError):
            client.send("text")  # type: ignore[arg-type]


def test_udp_drops_late_replies_and_strangers(udp_peer: socket.socket) -> None:
    with (
        rsecho.UdpClient(*udp_peer.getsockname(), timeout=PATIENCE) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        for _ in range(5):
            udp_peer.sendto(b"late", client.address)
        stranger.sendto(b"forged", client.address)

        def answer() -> None:
            data, peer = udp_peer.recvfrom(100)
            udp_peer.sendto(data, peer)

        thread = threading.Thread(target=answer)
        thread.start()
        reply = client.exchange(b"fresh")
        thread.join()
    assert (reply.data, reply.is_equal) == (b"fresh", True)
    assert 0 < reply.rtt_ns < PATIENCE * 1e9


def test_udp_silence_is_a_timeout_that_says_how_long(udp_peer: socket.socket) -> None:
    with rsecho.UdpClient(*udp_peer.getsockname(), timeout=0.15) as client:
        for wait in (client.receive, lambda: client.request(b"x")):
            start = time.monotonic()
            with pytest.raises(TimeoutError, match="nothing came back within 150ms") as raised:
                wait()
            assert time.monotonic() - start >= 0.15
            assert raised.value.errno == errno.ETIMEDOUT


def test_udp_refusals_are_themselves() -> None:
    with rsecho.UdpClient("127.0.0.1", closed_port(socket.SOCK_DGRAM)) as client:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError, match="nothing listens there") as raised:
                client.request(b"x")
            assert raised.value.errno == errno.ECONNREFUSED


@pytest.mark.skipif(bool(NO_NAMESPACE), reason=NO_NAMESPACE)
def test_unreachable_is_told_with_its_number_and_the_way_out() -> None:
    result = run_in_namespace("""
        import errno, rsecho
        for ask in (
            lambda: rsecho.UdpClient("127.0.0.1", 9).request(b"x"),
            lambda: rsecho.TcpClient("127.0.0.1", 9),
        ):
            try:
                ask()
            except OSError as error:
                print(errno.errorcode[error.errno], "ip route get" in str(error))
    """)
    assert (result.stdout, result.stderr) == ("ENETUNREACH True\nENETUNREACH True\n", "")


def test_too_large_a_datagram_says_what_fits(udp_peer: socket.socket) -> None:
    with rsecho.UdpClient(*udp_peer.getsockname()) as client:
        with pytest.raises(OSError, match="at most 65507 bytes") as raised:
            client.send(bytes(65_508))
        assert raised.value.errno == errno.EMSGSIZE


def test_tcp_round_trip_and_finish() -> None:
    with (
        tcp_peer(echo) as address,
        rsecho.TcpClient(*address, timeout=PATIENCE) as client,
    ):
        assert client.peer == address
        assert client.request(b"data") == b"data"
        assert client.request(b"") == b""
        reply = client.exchange(bytearray(b"more"))
        assert (reply.data, reply.is_equal) == (b"more", True)
        client.send_all(b"12345")
        assert client.receive_exactly(5) == b"12345"
        client.send_all(b"rest")
        client.finish()
        assert client.receive_exactly(4) == b"rest"
        assert client.receive() == b""


def test_tcp_takes_as_much_as_what_is_expected_has() -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.recv(100) == b"a"
        connection.sendall(b"A and more")
        assert connection.recv(100) == b"b"
        connection.sendall(b"B")
        # Closing with something unread would be a reset.
        assert connection.recv(100) == b"c"

    with (
        tcp_peer(serve) as address,
        rsecho.TcpClient(*address, timeout=PATIENCE) as client,
    ):
        reply = client.exchange(b"a", expected=bytearray(b"A and"))
        assert (reply.data, reply.is_equal) == (b"A and", True)
        assert client.receive() == b" more"
        reply = client.exchange(b"b", takes_any=True)
        assert (reply.data, reply.is_equal) == (b"B", True)
        with pytest.raises(rsecho.EndOfStreamError, match="0 of 1 bytes"):
            client.exchange(b"c", expected=b"C")


def test_tcp_lines_of_any_length_come_whole_and_leave_what_follows() -> None:
    line = bytes(range(11, 256)) * (4 << 10)

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            assert lines.readline() == line + b"\n"
            connection.sendall(line + b"\nnext")
            assert lines.readline() == b"\n"
            connection.sendall(b" one\nno end")
            # Closing with something unread would be a reset.
            assert lines.readline() == b"\n"

    with (
        tcp_peer(serve) as address,
        rsecho.TcpClient(*address, timeout=PATIENCE) as client,
    ):
        reply = client.exchange_line(line)
        assert reply.data == line and reply.is_equal
        assert 0 < reply.rtt_ns < PATIENCE * 1e9
        reply = client.exchange_line(b"", expected=b"next one")
        assert (reply.data, reply.is_equal) == (b"next one", True)
        with pytest.raises(rsecho.EndOfStreamError, match="after 6 of a line's bytes"):
            client.exchange_line(b"")


def test_udp_judges_a_reply_by_what_is_expected(udp_peer: socket.socket) -> None:
    def serve() -> None:
        for _ in range(3):
            data, peer = udp_peer.recvfrom(100)
            udp_peer.sendto(data.upper(), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    with rsecho.UdpClient(*udp_peer.getsockname(), timeout=PATIENCE) as client:
        assert client.exchange(b"a", expected=memoryview(b"A")).is_equal
        assert not client.exchange(b"a").is_equal
        assert client.exchange(b"a", takes_any=True).is_equal
        with pytest.raises(ValueError, match="expected says already"):
            client.exchange(b"a", expected=b"A", takes_any=True)
    thread.join(PATIENCE)


def test_a_thread_sends_while_another_one_waits(udp_peer: socket.socket) -> None:
    with rsecho.UdpClient(*udp_peer.getsockname(), timeout=PATIENCE) as client:
        received: list[bytes] = []
        thread = threading.Thread(target=lambda: received.append(client.receive()))
        thread.start()
        time.sleep(0.05)
        client.send(b"meanwhile")
        assert udp_peer.recv(100) == b"meanwhile"
        assert not received
        udp_peer.sendto(b"at last", client.address)
        thread.join(PATIENCE)
        assert received == [b"at last"]


def test_tcp_requests_larger_than_all_buffers_do_not_deadlock() -> None:
    data = bytes(range(256)) * (64 << 12)
    assert len(data) == 64 << 20
    with (
        tcp_peer(echo) as address,
        rsecho.TcpClient(*address, timeout=PATIENCE) as client,
    ):
        assert client.request(data) == data


def test_tcp_refused_reset_and_ended_early() -> None:
    with pytest.raises(ConnectionRefusedError, match="nothing listens there"):
        rsecho.TcpClient("127.0.0.1", closed_port(socket.SOCK_STREAM))

    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with (
        tcp_peer(reset) as address,
        rsecho.TcpClient(*address, timeout=PATIENCE) as client,
        pytest.raises(ConnectionResetError),
    ):
        client.request(b"xy")

    def half(connection: socket.socket) -> None:
        connection.sendall(connection.recv(4)[:2])

    with tcp_peer(half) as address, rsecho.TcpClient(*address, timeout=PATIENCE) as client:
        with pytest.raises(rsecho.EndOfStreamError, match="after 2 of 4 bytes") as raised:
            client.request(b"data")
        assert isinstance(raised.value, (rsecho.RsechoError, EOFError))


def test_tcp_timeouts_say_what_was_missing() -> None:
    # A full backlog answers no further connection.
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with pytest.raises(TimeoutError, match="no answer within"):
            for _ in range(10):
                stack.enter_context(rsecho.TcpClient(*full.getsockname(), timeout=0.2))
    done = threading.Event()
    with tcp_peer(lambda _: done.wait(PATIENCE)) as address:
        with rsecho.TcpClient(*address, timeout=0.1) as client:
            with pytest.raises(TimeoutError, match="nothing came within 100ms"):
                client.receive()
            with pytest.raises(TimeoutError, match="nothing moved within 100ms"):
                client.request(bytes(64 << 20))
        done.set()


def test_tcp_tries_each_address_of_a_name() -> None:
    found = {info[0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    if socket.AF_INET6 not in found:
        pytest.skip("localhost has one address here")
    for host in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            port = listener.getsockname()[1]
            with rsecho.TcpClient("localhost", port) as client:
                assert client.peer == (host, port)


@pytest.mark.parametrize("kind", [rsecho.UdpClient, rsecho.TcpClient])
def test_arguments_are_checked(kind: Any) -> None:
    for arguments, error in (
        ({"port": 65536}, ValueError),
        ({"port": 1, "timeout": -1}, ValueError),
        ({"port": 1, "ttl": 0}, ValueError),
        ({"port": 1, "recv_timeout": 1}, TypeError),
        ({"port": 1, "host": "a" * 64}, socket.gaierror),
    ):
        with pytest.raises(error):
            client = kind(**{"host": "127.0.0.1", **arguments})
            client.receive()


def test_a_closed_client_says_so(udp_peer: socket.socket) -> None:
    client = rsecho.UdpClient(*udp_peer.getsockname())
    client.close()
    client.close()
    for use in (client.receive, lambda: client.request(b""), lambda: client.address):
        with pytest.raises(rsecho.StateError, match="this client is closed"):
            use()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(client)


def test_close_ends_a_wait_in_another_thread(udp_peer: socket.socket) -> None:
    client = rsecho.UdpClient(*udp_peer.getsockname(), timeout=None)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            client.receive()
        except rsecho.StateError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    client.send(b"waiting")
    udp_peer.recv(100)
    client.close()
    thread.join(PATIENCE)
    assert "this client is closed" in str(ended[0])


def test_requests_of_several_threads_do_not_mix() -> None:
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):

        def ask(name: bytes) -> None:
            for number in range(100):
                data = b"%s %d" % (name, number)
                assert client.request(data) == data

        async def main() -> None:
            await asyncio.gather(*(asyncio.to_thread(ask, b"%d" % i) for i in range(4)))
            replies = await asyncio.gather(*(client.exchange_async(b"%d" % i) for i in range(20)))
            assert all(reply.is_equal for reply in replies)

        asyncio.run(main())


def test_other_threads_run_during_a_wait(udp_peer: socket.socket) -> None:
    with rsecho.UdpClient(*udp_peer.getsockname(), timeout=PATIENCE) as client:

        def answer() -> None:
            # Would never get here if the wait kept the GIL.
            udp_peer.sendto(b"at last", client.address)

        threading.Timer(0.05, answer).start()
        assert client.receive() == b"at last"


WAITS = ["udp.receive()", "udp.request(b'x')", "tcp.receive()", "tcp.exchange_line(b'x')"]


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_every_wait(wait: str) -> None:
    with spawn(f"""
        import socket
        import rsecho
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        listener = socket.create_server(("127.0.0.1", 0))
        udp = rsecho.UdpClient(*peer.getsockname(), timeout=None)
        tcp = rsecho.TcpClient(*listener.getsockname(), timeout=None)
        try:
            print("waiting")
            {wait}
        except KeyboardInterrupt:
            print("interrupted")
        listener.close()
        peer.close()
    """) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        # Time to enter the wait; the test holds whether or not it has.
        time.sleep(0.1)
        start = time.monotonic()
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < 5
        assert (program.returncode, output, errors) == (0, "interrupted\n", "")
