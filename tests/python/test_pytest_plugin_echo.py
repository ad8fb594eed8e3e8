"""The pytest plugin's servers, used as tests use them: by the fixtures themselves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
from rsecho import Peer
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rsecho.pytest_plugin import MakeTcpEcho, MakeUdpEcho, TcpEcho, UdpEcho

# A wait that is to be in vain.
IN_VAIN = 0.05


@contextlib.contextmanager
def asking(echo: UdpEcho) -> Iterator[socket.socket]:
    """A socket that is connected to a server."""
    family = socket.AF_INET6 if ":" in echo.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(echo.address)
        yield client


def ask(echo: UdpEcho, data: bytes) -> bytes:
    """What a server answers."""
    with asking(echo) as client:
        client.send(data)
        return client.recv(65536)


@contextlib.contextmanager
def connected(echo: TcpEcho) -> Iterator[socket.socket]:
    """A connection to a server."""
    with socket.create_connection(echo.address, PATIENCE) as client:
        yield client


def read(client: socket.socket, count: int) -> bytes:
    """So many bytes of a stream."""
    found = b""
    while len(found) < count:
        more = client.recv(count - len(found))
        assert more, "the connection has ended"
        found += more
    return found


# What came.


@pytest.mark.parametrize("number", range(50))
def test_whatever_a_client_got_an_answer_to_is_in_received(number: int, udp_echo: UdpEcho) -> None:
    assert udp_echo.received == []
    assert udp_echo.stats().received_packets == 0
    with asking(udp_echo) as client:
        for i in range(3):
            client.send(f"{number} {i}".encode())
        assert [client.recv(100) for _ in range(3)] == [d for d, _ in udp_echo.received]
        assert {peer for _, peer in udp_echo.received} == {client.getsockname()}
    assert isinstance(udp_echo.received[0].peer, Peer)
    stats = udp_echo.stats()
    assert stats.received_packets == stats.sent_packets == 3


@pytest.mark.parametrize("number", range(50))
def test_what_a_test_leaves_unread_does_not_reach_the_next(number: int, udp_echo: UdpEcho) -> None:
    assert udp_echo.received == []
    udp_echo.impair("delay 10s")
    with asking(udp_echo) as client:
        for _ in range(100):
            client.send(b"nobody waits for that")


def test_the_address_is_that_of_the_server(udp_echo: UdpEcho, tcp_echo: TcpEcho) -> None:
    for echo in (udp_echo, tcp_echo):
        assert echo.address == (echo.host, echo.port) == echo.server.address
        assert echo.host == "127.0.0.1"
        assert echo.server.url in repr(echo)


def test_wait_for_waits_until_it_has_come(udp_echo: UdpEcho) -> None:
    def send() -> None:
        with asking(udp_echo) as client:
            for data in (b"one", b"two", b"one"):
                client.send(data)

    start = time.monotonic()
    later = threading.Timer(0.05, send)
    later.start()
    found = udp_echo.wait_for(b"one", count=2, timeout=PATIENCE)
    assert [data for data, _ in found] == [b"one", b"one"]
    assert len(udp_echo.wait_for(count=3, timeout=PATIENCE)) == 3
    # Not for as long as it might.
    assert time.monotonic() - start < PATIENCE / 2
    assert len(udp_echo.wait_for(re.compile(b"^t"), timeout=PATIENCE)) == 1
    assert len(udp_echo.wait_for(lambda data: b"n" in data, timeout=PATIENCE)) == 2
    later.join()


def test_wait_for_does_not_hold_the_gil(udp_echo: UdpEcho) -> None:
    ticks = 0
    is_over = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not is_over.wait(0.001):
            ticks += 1

    other = threading.Thread(target=tick)
    other.start()
    with pytest.raises(AssertionError):
        udp_echo.wait_for(timeout=0.3)
    is_over.set()
    other.join()
    assert ticks > 10


def test_wait_for_says_what_came_instead(udp_echo: UdpEcho) -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s for 1 datagram, but nothing came"):
        udp_echo.wait_for(timeout=IN_VAIN)
    ask(udp_echo, b"something else")
    with pytest.raises(AssertionError, match="2 datagrams of b'it', but 1 came:\n  b'something e"):
        udp_echo.wait_for(b"it", count=2, timeout=IN_VAIN)


def run_in_asyncio(what: Callable[[], Awaitable[None]]) -> None:
    """As `trio.run` does."""

    async def main() -> None:
        await what()

    asyncio.run(main())


RUNS = [
    pytest.param(run_in_asyncio, id="asyncio"),
    pytest.param(trio.run, id="trio"),
    pytest.param(lambda what: anyio.run(what, backend="asyncio"), id="anyio-asyncio"),
    pytest.param(lambda what: anyio.run(what, backend="trio"), id="anyio-trio"),
]


@pytest.mark.parametrize("run", RUNS)
def test_wait_for_async_leaves_the_loop_to_others(
    run: Callable[[Callable[[], Awaitable[None]]], None], udp_echo: UdpEcho
) -> None:
    order = []

    async def main() -> None:
        async def wait() -> None:
            found = await udp_echo.wait_for_async(b"data", count=2, timeout=PATIENCE)
            order.append(len(found))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.02)
            order.append(0)
            with asking(udp_echo) as client:
                client.send(b"data")
                client.send(b"data")

    run(main)
    assert order == [0, 2]


@pytest.mark.parametrize("run", RUNS)
def test_wait_for_async_may_be_in_vain(
    run: Callable[[Callable[[], Awaitable[None]]], None], udp_echo: UdpEcho, tcp_echo: TcpEcho
) -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="1 datagram, but nothing came"):
            await udp_echo.wait_for_async(timeout=IN_VAIN)
        with pytest.raises(AssertionError, match="3 bytes, but nothing came"):
            await tcp_echo.wait_for_async(byte_count=3, timeout=IN_VAIN)

    run(main)


@pytest.mark.parametrize("run", RUNS)
def test_wait_for_async_can_be_cancelled(
    run: Callable[[Callable[[], Awaitable[None]]], None], udp_echo: UdpEcho
) -> None:
    looks = []
    ask(udp_echo, b"not that")

    async def main() -> None:
        with anyio.move_on_after(IN_VAIN) as scope:
            await udp_echo.wait_for_async(lambda data: looks.append(data), timeout=PATIENCE)
        assert scope.cancelled_caught
        # Its thread is on its way out, and then looks no more.
        await anyio.sleep(0.5)
        looks.clear()
        await anyio.sleep(0.5)

    start = time.monotonic()
    run(main)
    assert looks == []
    assert time.monotonic() - start < PATIENCE / 2


@pytest.mark.asyncio
async def test_wait_for_async_in_a_test_of_pytest_asyncio(udp_echo: UdpEcho) -> None:
    assert ask(udp_echo, b"data") == b"data"
    assert len(await udp_echo.wait_for_async()) == 1


@pytest.mark.anyio
async def test_wait_for_async_in_a_test_of_anyio(udp_echo: UdpEcho) -> None:
    assert ask(udp_echo, b"data") == b"data"
    assert len(await udp_echo.wait_for_async()) == 1


# Scripted answers.


def test_scripted_answers(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"GET 1").reply(b"one").times(2)
    udp_echo.expect(re.compile(rb"^SET \d")).drop()
    udp_echo.expect(lambda data: data.isupper()).reply(b"")
    with asking(udp_echo) as client:
        got = []
        for data in (b"GET 1", b"GET 1", b"SET 5", b"LAST", b"GET 1"):
            client.send(data)
        got = [client.recv(100) for _ in range(4)]
    assert got == [b"one", b"one", b"", b"GET 1"]
    udp_echo.check()


def test_check_says_what_did_not_come(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"a").reply(b"b")
    ask(udp_echo, b"else")
    with pytest.raises(AssertionError) as caught:
        udp_echo.check()
    text = str(caught.value)
    assert text.startswith("udp_echo: expect(b'a').reply(b'b') never came; 1 came:\n  b'else'")
    assert ask(udp_echo, b"a") == b"b"


def test_check_waits_for_what_was_sent(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"last")
    with asking(udp_echo) as client:
        for _ in range(60):
            client.send(b"x" * 1000)
        client.send(b"last")
    udp_echo.check()


def test_a_predicate_may_look_at_what_came(udp_echo: UdpEcho) -> None:
    udp_echo.expect(lambda _: len(udp_echo.received) == 2).reply(b"second")
    assert [ask(udp_echo, b"x"), ask(udp_echo, b"x")] == [b"x", b"second"]


# Impairments.


def lost(echo: UdpEcho, count: int) -> list[int]:
    """Which of so many datagrams are not answered."""
    before = echo.stats().received_packets

    def is_all_said() -> bool:
        stats = echo.stats()
        return stats.received_packets == before + count and not stats.pending_packets

    with asking(echo) as client:
        for number in range(count):
            client.send(str(number).encode())
        until(is_all_said)
        # What was answered is here by now.
        client.setblocking(False)
        got: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                got.add(int(client.recv(100)))
    return sorted(set(range(count)) - got)


def test_a_seed_decides_what_is_lost(udp_echo: UdpEcho) -> None:
    assert udp_echo.impair("loss 50% seed 7").spec == "loss 50% seed 7"
    first = lost(udp_echo, 40)
    assert 0 < len(first) < 40
    udp_echo.impair("loss 50%", seed=7)
    assert lost(udp_echo, 40) == first
    udp_echo.impair("loss 50%", seed=8)
    assert lost(udp_echo, 40) != first


def test_a_tests_own_seed_is_the_same_for_all_its_servers(
    udp_echo: UdpEcho, make_udp_echo: MakeUdpEcho
) -> None:
    spec = udp_echo.impair("loss 50%").spec
    assert re.fullmatch(r"loss 50% seed \d+", spec)
    assert make_udp_echo().impair("loss 50%").spec == spec


def test_an_impairment_ends_with_its_block(udp_echo: UdpEcho) -> None:
    with udp_echo.impair("loss 100%") as outer:
        assert outer.spec.startswith("loss 100% seed ")
        with udp_echo.impair("in duplicate 100%"):
            assert ask(udp_echo, b"one") == b"one"
        assert lost(udp_echo, 5) == [0, 1, 2, 3, 4]
    assert lost(udp_echo, 5) == []


@pytest.mark.impair("loss 100%", seed=1)
class TestMarked:
    """Each of them with the class's marker."""

    def test_a_marker_impairs_all_servers(
        self, udp_echo: UdpEcho, make_udp_echo: MakeUdpEcho
    ) -> None:
        for echo in (udp_echo, make_udp_echo()):
            assert lost(echo, 3) == [0, 1, 2]

    def test_also_one_that_is_asked_for_by_name(self, request: pytest.FixtureRequest) -> None:
        assert lost(request.getfixturevalue("udp_echo"), 3) == [0, 1, 2]

    @pytest.mark.impair("duplicate 100%")
    def test_a_closer_marker_is_meant(self, udp_echo: UdpEcho) -> None:
        with asking(udp_echo) as client:
            client.send(b"twice")
            assert [client.recv(10), client.recv(10)] == [b"twice", b"twice"]

    def test_what_a_server_is_made_with_counts_more(self, make_udp_echo: MakeUdpEcho) -> None:
        with asking(make_udp_echo(impair="duplicate 100%")) as client:
            client.send(b"twice")
            assert [client.recv(10), client.recv(10)] == [b"twice", b"twice"]


def test_no_impairment_is_left_of_those(udp_echo: UdpEcho) -> None:
    assert lost(udp_echo, 3) == []


def test_a_bad_impairment_is_refused_and_changes_nothing(udp_echo: UdpEcho) -> None:
    udp_echo.impair("loss 100%")
    with pytest.raises(ValueError, match=r'"lozz": there is no such option'):
        udp_echo.impair("lozz 5%")
    assert lost(udp_echo, 3) == [0, 1, 2]


# Servers that are made.


def test_made_servers_take_every_argument(make_udp_echo: MakeUdpEcho) -> None:
    plain = make_udp_echo()
    six = make_udp_echo("::1", max_datagram_bytes=4)
    assert ask(six, b"longer") == b"long"
    assert six.host == "::1"
    assert [data for data, _ in six.received] == [b"long"]
    assert plain.received == []

    def shout(data: bytes, peer: Peer) -> bytes | None:
        return data.upper() + b" " + peer.host.encode()

    loud = make_udp_echo(responder=shout)
    loud.expect(b"secret").reply(b"no")
    assert [ask(loud, b"secret"), ask(loud, b"word")] == [b"no", b"WORD 127.0.0.1"]
    assert [data for data, _ in loud.received] == [b"secret", b"word"]


def test_made_servers_serve_on_a_socket_or_a_port(make_udp_echo: MakeUdpEcho) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as mine:
        mine.bind(("127.0.0.1", 0))
        assert make_udp_echo(sock=mine).port == mine.getsockname()[1]
        port = mine.getsockname()[1]
        with pytest.raises(ValueError, match="leave host and port out"):
            make_udp_echo("127.0.0.1", sock=mine)
        with pytest.raises(OSError, match="in use"):
            make_udp_echo("127.0.0.1", port)


def test_a_responder_may_take_fields(make_udp_echo: MakeUdpEcho) -> None:
    echo = make_udp_echo(
        responder=lambda fields, _: str(fields["field_0"]).encode(),
        unpack="!H",
        responder_takes="fields",
    )
    assert ask(echo, b"\x01\x00") == b"256"
    assert echo.received[0].data == b"\x01\x00"


def test_a_built_in_responder_answers_and_tells_nothing(make_udp_echo: MakeUdpEcho) -> None:
    echo = make_udp_echo(responder="upper")
    assert ask(echo, b"word") == b"WORD"
    assert echo.stats().received_packets == 1
    for use in (lambda: echo.received, echo.wait_for, lambda: echo.expect(b"")):
        with pytest.raises(RuntimeError, match="its built-in responder 'upper' runs w"):
            use()
    echo.check()


@pytest.mark.asyncio
async def test_a_coroutine_function_answers_what_is_not_scripted(
    make_udp_echo: MakeUdpEcho,
) -> None:
    async def later(data: bytes, _: Peer) -> bytes:
        await asyncio.sleep(0)
        return data.upper()

    echo = make_udp_echo(responder=later)
    echo.expect(b"secret").drop()
    with asking(echo) as client:
        client.send(b"secret")
        client.send(b"word")
        assert await asyncio.to_thread(client.recv, 100) == b"WORD"
    assert [data for data, _ in echo.received] == [b"secret", b"word"]


# TCP.


def test_streams_are_what_connections_sent(tcp_echo: TcpEcho) -> None:
    assert tcp_echo.received == []
    with connected(tcp_echo) as first, connected(tcp_echo) as second:
        first.sendall(b"one ")
        assert read(first, 4) == b"one "
        second.sendall(b"other")
        assert read(second, 5) == b"other"
        first.sendall(b"two")
        assert read(first, 3) == b"two"
        assert tcp_echo.streams == {
            first.getsockname(): b"one two",
            second.getsockname(): b"other",
        }
    assert b"".join(data for data, _ in tcp_echo.received) == b"one othertwo"


@pytest.mark.parametrize("number", range(20))
def test_connections_are_counted_for_each_test(number: int, tcp_echo: TcpEcho) -> None:
    assert tcp_echo.stats().accepted_connections == 0
    assert sum(tcp_echo.stats().closed.values()) == 0
    for count in range(number % 3):
        with connected(tcp_echo) as client:
            client.sendall(b"data")
            assert read(client, 4) == b"data"
        assert tcp_echo.stats().accepted_connections == count + 1
    assert tcp_echo.stats().received_bytes == 4 * (number % 3)


@pytest.mark.parametrize("number", range(20))
def test_what_a_test_streamed_and_left_unread_does_not_reach_the_next(
    number: int, tcp_echo: TcpEcho
) -> None:
    assert tcp_echo.streams == {}
    with connected(tcp_echo) as client:
        client.sendall(b"first")
        assert read(client, 5) == b"first"
        assert list(tcp_echo.streams.values()) == [b"first"]
    for _ in range(10):
        with connected(tcp_echo) as client:
            client.sendall(b"nobody waits for that")


def test_a_stream_is_waited_for_however_it_is_cut(tcp_echo: TcpEcho) -> None:
    with connected(tcp_echo) as client:
        for piece in (b"he", b"llo", b" hel"):
            client.sendall(piece)
            assert read(client, len(piece)) == piece
        tcp_echo.wait_for(b"hello", timeout=PATIENCE)
        with pytest.raises(AssertionError, match="2 occurrences of b'hello', but 3 came"):
            tcp_echo.wait_for(b"hello", count=2, timeout=IN_VAIN)
        client.sendall(b"lo")
        tcp_echo.wait_for(b"hello", count=2, timeout=PATIENCE)
        tcp_echo.wait_for(re.compile(b"l{2}"), count=2, timeout=PATIENCE)
        tcp_echo.wait_for(lambda stream: stream.endswith(b" hello"), timeout=PATIENCE)
        tcp_echo.wait_for(byte_count=11, timeout=PATIENCE)
        with pytest.raises(ValueError, match="give one of them"):
            tcp_echo.wait_for(b"hello", byte_count=5)


def test_a_stream_is_scripted_however_it_is_cut(tcp_echo: TcpEcho) -> None:
    tcp_echo.expect(b"HELLO\r\n").reply(b"250 hello\r\n")
    tcp_echo.expect(re.compile(rb"MAIL .*\r\n")).reply(b"250 ok\r\n")
    tcp_echo.expect(b"QUIT\r\n").drop()
    with connected(tcp_echo) as client:
        client.sendall(b"HEL")
        tcp_echo.wait_for(byte_count=3)
        client.sendall(b"LO\r\nMAIL me\r\nQUIT\r\nrest")
        assert read(client, 23) == b"250 hello\r\n250 ok\r\nrest"
    tcp_echo.check()


def test_check_waits_for_what_was_streamed(make_tcp_echo: MakeTcpEcho) -> None:
    def slow(data: bytes, _: Peer) -> bytes:
        # So that the server is surely behind.
        time.sleep(0.2)
        return data

    echo = make_tcp_echo(responder=slow)
    with connected(echo) as first, connected(echo) as second:
        first.sendall(b"first")
        echo.wait_for(b"first")
        echo.expect(b"last")
        second.sendall(b"last")
        echo.check()


def test_lines_are_requests(make_tcp_echo: MakeTcpEcho) -> None:
    echo = make_tcp_echo(framing="lines")
    echo.expect(b"PING").reply(b"PONG")
    with connected(echo) as client:
        client.sendall(b"one\nPING\r\ntwo\n")
        assert read(client, 14) == b"one\nPONG\r\ntwo\n"
    assert [data for data, _ in echo.received] == [b"one", b"PING", b"two"]


def test_tcp_over_ipv6_with_a_responder(make_tcp_echo: MakeTcpEcho) -> None:
    echo = make_tcp_echo("::1", responder=lambda data, _: data.upper())
    with connected(echo) as client:
        client.sendall(b"word")
        assert read(client, 4) == b"WORD"
    assert echo.host == "::1"


def test_streams_are_impaired_with_the_tests_seed(tcp_echo: TcpEcho) -> None:
    with connected(tcp_echo) as client, tcp_echo.impair("latency 300") as impairment:
        assert re.fullmatch(r"latency latency=300, seed \d+", impairment.spec)
        start = time.monotonic()
        client.sendall(b"late")
        assert read(client, 4) == b"late"
        assert time.monotonic() - start >= 0.3
    with pytest.raises(ValueError, match="TCP sends again what is lost"):
        tcp_echo.impair("loss 5%")


@pytest.mark.impair("limit_data 3", seed=1)
@pytest.mark.parametrize("number", range(3))
def test_a_marker_impairs_streams(number: int, tcp_echo: TcpEcho) -> None:
    with connected(tcp_echo) as client:
        client.sendall(b"data")
        assert read(client, 3) == b"dat"
        assert client.recv(1) == b""


@pytest.mark.parametrize("spec", ["accept_hang", "timeout 0", "latency 60000", "refuse"])
def test_whatever_a_stream_met_is_over_with_its_test(spec: str, tcp_echo: TcpEcho) -> None:
    assert tcp_echo.received == []
    assert tcp_echo.stats().accepted_connections == 0
    with connected(tcp_echo) as client:
        client.sendall(b"before")
        assert read(client, 6) == b"before"
    tcp_echo.impair(spec)
    with contextlib.suppress(OSError), connected(tcp_echo) as client:
        client.sendall(b"nobody answers that")
        # What is impaired ends while the connection is there.
        tcp_echo.impair()


def test_what_a_test_forgot_to_close_keeps_nobody_waiting(make_tcp_echo: MakeTcpEcho) -> None:
    echo = make_tcp_echo(impair="latency 60000")
    with connected(echo) as client:
        client.sendall(b"data")
        echo.wait_for(byte_count=4)
        start = time.monotonic()
        echo._close()
        # Not for as long as a server drains that serves somebody.
        assert time.monotonic() - start < 2.0


# Ports.


def test_a_refused_tcp_port_refuses(refused_tcp_port: int) -> None:
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", refused_tcp_port), PATIENCE)


def test_a_refused_udp_port_refuses(refused_udp_port: int) -> None:
    for _ in range(3):
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", refused_udp_port))
            client.send(b"data")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)


def test_a_silent_udp_port_is_silent(silent_udp_port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(IN_VAIN)
        client.connect(("127.0.0.1", silent_udp_port))
        for _ in range(1000):
            client.send(b"x" * 1000)
        with pytest.raises(TimeoutError):
            client.recv(100)


@pytest.mark.parametrize(
    "data",
    [
        "straße, ελλάς, ﬁ, ŉ, ǰ, ΐ, i̇".encode(),
        b"abc\xff\xe9z\x00",
        "é".encode()[:1] + b"a",
        b"",
        bytes(range(256)),
    ],
)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_upper_is_what_the_server_makes_of_it(
    data: bytes, protocol: str, make_udp_echo: MakeUdpEcho, make_tcp_echo: MakeTcpEcho
) -> None:
    replies = []
    for options in ({"responder": "upper"}, {"upper": True}):
        if protocol == "udp":
            replies.append(ask(make_udp_echo(**options), data))
            continue
        echo = make_tcp_echo(framing="chunks", **options)
        with socket.create_connection(echo.address, PATIENCE) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            replies.append(b"".join(iter(lambda: client.recv(4096), b"")))
    assert replies[0] == replies[1]
