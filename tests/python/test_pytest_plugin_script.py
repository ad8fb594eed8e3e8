"""Scripted answers on real sockets: several, late, made by functions; closed and reset."""

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
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rsecho import Peer
    from rsecho.pytest_plugin import MakeTcpEcho, MakeUdpEcho, TcpEcho, UdpEcho

LATE = 0.2


@contextlib.contextmanager
def asking(echo: UdpEcho) -> Iterator[socket.socket]:
    """A socket that is connected to a server."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(echo.address)
        yield client


def ask(echo: UdpEcho, data: bytes, count: int = 1) -> list[bytes]:
    """So many answers of a server."""
    with asking(echo) as client:
        client.send(data)
        return [client.recv(65536) for _ in range(count)]


def is_balanced(echo: UdpEcho) -> bool:
    """Whether all that came and was produced is sent, dropped or pending."""
    stats = echo.stats()
    taken = stats.received_packets + stats.produced_packets
    return taken == stats.sent_packets + sum(stats.dropped.values()) + stats.pending_packets


@contextlib.contextmanager
def connected(echo: TcpEcho) -> Iterator[socket.socket]:
    """A connection to a server."""
    with socket.create_connection(echo.address, PATIENCE) as client:
        yield client


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the end of the stream."""
    return b"".join(iter(lambda: client.recv(4096), b""))


# UDP.


def test_several_replies_are_several_datagrams(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"a").reply(b"1", b"", b"2").reply(b"3")
    udp_echo.expect(b"b").reply(lambda request: [request, request * 2], b"end")
    assert ask(udp_echo, b"a", 4) == [b"1", b"", b"2", b"3"]
    assert ask(udp_echo, b"b", 3) == [b"b", b"bb", b"end"]
    stats = udp_echo.stats()
    assert (stats.received_packets, stats.produced_packets, stats.sent_packets) == (2, 5, 7)
    assert is_balanced(udp_echo)


def test_a_reply_is_made_of_the_request(udp_echo: UdpEcho) -> None:
    def answer(request: bytes, peer: Peer) -> bytes:
        return request[:2] + f" for {peer.port}".encode()

    expectation = udp_echo.expect(re.compile(rb"^..\?")).reply(answer).times(2)
    with asking(udp_echo) as client:
        for message_id in (b"\x00\x07", b"\xff\xfe"):
            client.send(message_id + b"?")
            assert client.recv(100) == message_id + f" for {client.getsockname()[1]}".encode()
    assert [data for data, _ in expectation.received] == [b"\x00\x07?", b"\xff\xfe?"]


def test_a_delayed_reply_holds_up_nobody_else(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"slow").reply(b"first").delay(LATE).reply(b"second")
    udp_echo.expect(b"late").delay(LATE)
    with asking(udp_echo) as client:
        start = time.monotonic()
        for data in (b"slow", b"late", b"quick"):
            client.send(data)
        # A reply that is not delayed overtakes no other one.
        assert [client.recv(100), client.recv(100)] == [b"first", b"quick"]
        assert udp_echo.stats().pending_packets == 2
        assert {client.recv(100), client.recv(100)} == {b"second", b"late"}
        assert time.monotonic() - start >= LATE
    assert udp_echo.stats().pending_packets == 0
    assert is_balanced(udp_echo)


def test_replies_meet_the_impairments(udp_echo: UdpEcho) -> None:
    udp_echo.impair("duplicate 100%")
    udp_echo.expect(b"a").reply(b"1", b"2")
    assert sorted(ask(udp_echo, b"a", 4)) == [b"1", b"1", b"2", b"2"]


@pytest.mark.parametrize("number", range(3))
def test_a_delayed_reply_ends_with_its_test(number: int, udp_echo: UdpEcho) -> None:
    assert udp_echo.stats().pending_packets == 0
    udp_echo.expect(b"a").delay(100).reply(b"1")
    with asking(udp_echo) as client:
        client.send(b"a")
        udp_echo.wait_for(b"a")
        until(lambda: udp_echo.stats().pending_packets == 1)


@pytest.mark.parametrize("number", range(20))
def test_what_is_cleared_while_it_is_answered_is_given_up(number: int, udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"a").delay(100).reply(b"1")
    with asking(udp_echo) as client:
        client.send(b"a")
        # Counted before it is asked for, so the answer may be beginning now.
        until(lambda: udp_echo.stats().received_packets == 1)
        udp_echo.clear()
        until(lambda: udp_echo.stats().pending_packets == 0)


def test_clear_forgets_and_gives_up(udp_echo: UdpEcho) -> None:
    udp_echo.expect(b"never")
    udp_echo.expect(b"a").delay(100).reply(b"1")
    udp_echo.strict(in_order=False)
    with asking(udp_echo) as client:
        client.send(b"a")
        until(lambda: udp_echo.stats().pending_packets == 1)
        udp_echo.clear()
        until(lambda: udp_echo.stats().pending_packets == 0)
        assert udp_echo.received == []
        client.send(b"a")
        assert client.recv(10) == b"a"
    udp_echo.check()


def test_strict_fails_at_the_check_and_names_both(make_udp_echo: MakeUdpEcho) -> None:
    echo = make_udp_echo()
    echo.strict(in_order=True)
    echo.expect(b"first").reply(b"1")
    echo.expect(b"second").reply(b"2")
    with asking(echo) as client:
        client.send(b"second")
        client.send(b"first")
        assert client.recv(10) == b"1"
    with pytest.raises(AssertionError) as caught:
        echo.check()
    text = str(caught.value)
    assert "unexpected b'second' from 127.0.0.1:" in text
    assert "(expected: expect(b'first').reply(b'1'))" in text
    # So that this test passes.
    echo._inbox.clear(is_over=True)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda request: request[5], "IndexError"),
        (lambda request: "text", "not str: encode it"),
        (lambda request: [request, 5], "not list"),
        (lambda request: asyncio.sleep(0), "not coroutine: make the function an `async def`"),
    ],
)
def test_what_a_reply_function_does_wrong_fails_the_test(
    made: Callable[[bytes], bytes], told: str, make_udp_echo: MakeUdpEcho
) -> None:
    echo = make_udp_echo()
    echo.expect(b"a").reply(made)
    with asking(echo) as client:
        client.send(b"a")
        until(lambda: sum(echo.stats().dropped.values()) == 1)
    with pytest.raises(AssertionError) as caught:
        echo.check()
    first = str(caught.value).partition(";")[0]
    assert re.match(r"make_udp_echo\[0\]: lambda request: .* \(test_.*py:\d+\) raised ", first)
    assert told in first
    assert echo.stats().dropped["responder_failed"] == 1
    echo._inbox.clear(is_over=True)


def test_a_reply_function_may_wait_for_the_test(udp_echo: UdpEcho) -> None:
    is_let_go = threading.Event()

    def answer(request: bytes) -> bytes:
        assert is_let_go.wait(PATIENCE)
        return b"done"

    udp_echo.expect(b"a").reply(answer)
    with asking(udp_echo) as client:
        client.send(b"a")
        # The test can look while the function runs.
        udp_echo.wait_for(b"a")
        assert len(udp_echo.received) == 1
        is_let_go.set()
        assert client.recv(10) == b"done"


# Async functions.


def run_in_asyncio(what: Callable[[], Awaitable[None]]) -> None:
    """As `trio.run` does."""

    async def main() -> None:
        await what()

    asyncio.run(main())


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run_in_asyncio, id="asyncio"),
        pytest.param(trio.run, id="trio"),
        pytest.param(lambda what: anyio.run(what, backend="trio"), id="anyio-trio"),
    ],
)
def test_an_async_reply_runs_on_the_loop_of_its_test(
    run: Callable[[Callable[[], Awaitable[None]]], None], udp_echo: UdpEcho
) -> None:
    async def main() -> None:
        is_let_go = anyio.Event()
        thread = threading.get_ident()

        async def answer(request: bytes) -> bytes:
            assert threading.get_ident() == thread
            await is_let_go.wait()
            return request.upper()

        udp_echo.expect(b"a").reply(b"first", answer, b"last")
        with asking(udp_echo) as client:
            client.send(b"a")
            await udp_echo.wait_for_async(b"a")
            is_let_go.set()
            got = [await anyio.to_thread.run_sync(client.recv, 10) for _ in range(3)]
        assert got == [b"first", b"A", b"last"]

    run(main)


def test_an_async_reply_needs_no_loop_of_the_test(udp_echo: UdpEcho) -> None:
    async def answer(request: bytes, peer: Peer) -> bytes:
        await asyncio.sleep(0.01)
        return request.upper()

    udp_echo.expect(b"a").reply(answer).times(2)
    assert [ask(udp_echo, b"a"), ask(udp_echo, b"a")] == [[b"A"], [b"A"]]


@pytest.mark.asyncio
async def test_an_async_responder_answers_behind_a_script(make_tcp_echo: MakeTcpEcho) -> None:
    async def later(data: bytes, _: Peer) -> bytes:
        await asyncio.sleep(0)
        return data.upper()

    echo = make_tcp_echo(responder=later, framing="chunks")
    echo.expect(b"PING\n").reply(b"pong\n").delay(0.01).reply(b"late\n")
    reader, writer = await asyncio.open_connection(*echo.address)
    writer.write(b"PING\nrest")
    assert await asyncio.wait_for(reader.readexactly(14), PATIENCE) == b"pong\nlate\nREST"
    writer.close()


# TCP.


def test_a_scripted_close_comes_behind_its_reply(tcp_echo: TcpEcho) -> None:
    tcp_echo.expect(b"bye").reply(b"so ", b"long").close()
    tcp_echo.expect(b"mute").close()
    with connected(tcp_echo) as client:
        client.sendall(b"bye")
        assert rest_of(client) == b"so long"
    with connected(tcp_echo) as client:
        client.sendall(b"mute")
        assert rest_of(client) == b""
    # Others go on.
    with connected(tcp_echo) as client:
        client.sendall(b"data")
        assert client.recv(10) == b"data"
    until(lambda: tcp_echo.stats().closed["finished"] == 2)


def test_a_scripted_reset_is_one(tcp_echo: TcpEcho) -> None:
    tcp_echo.expect(b"now").reset()
    tcp_echo.expect(b"half").reply(b"ha").delay(LATE).reset()
    with connected(tcp_echo) as client:
        client.sendall(b"now")
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    with connected(tcp_echo) as client:
        client.sendall(b"half")
        assert client.recv(10) == b"ha"
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    until(lambda: tcp_echo.stats().closed["finished"] == 2)


def test_what_follows_a_close_is_not_answered(make_tcp_echo: MakeTcpEcho) -> None:
    echo = make_tcp_echo(framing="lines")
    echo.expect(b"bye").delay(LATE).reply(b"1", b"2").close()
    with connected(echo) as client:
        client.sendall(b"one\nbye\nmore\nand more\n")
        # Each reply with its line end.
        assert rest_of(client) == b"one\n1\n2\n"
    until(lambda: echo.stats().active_connections == 0)
    stats = echo.stats()
    assert stats.requests == stats.replies + stats.silent_requests + stats.abandoned_requests


def test_a_delay_holds_up_its_own_connection_only(tcp_echo: TcpEcho) -> None:
    tcp_echo.expect(b"slow;").delay(LATE).reply(b"late;")
    with connected(tcp_echo) as one, connected(tcp_echo) as other:
        start = time.monotonic()
        one.sendall(b"slow;")
        tcp_echo.wait_for(b"slow;")
        one.sendall(b"next;")
        other.sendall(b"quick;")
        assert other.recv(10) == b"quick;"
        one.shutdown(socket.SHUT_WR)
        assert rest_of(one) == b"late;next;"
        assert time.monotonic() - start >= LATE


def test_a_close_comes_through_an_impairment(tcp_echo: TcpEcho) -> None:
    tcp_echo.impair("out latency 50")
    tcp_echo.expect(b"bye").reply(b"long").close()
    with connected(tcp_echo) as client:
        client.sendall(b"bye")
        assert rest_of(client) == b"long"


def test_strict_closes_the_connection_of_what_is_unexpected(make_tcp_echo: MakeTcpEcho) -> None:
    echo = make_tcp_echo()
    echo.strict()
    echo.expect(b"HELO\n").reply(b"250\n")
    with connected(echo) as client:
        client.sendall(b"HELO\n")
        assert client.recv(10) == b"250\n"
        client.sendall(b"QUIT\n")
        assert rest_of(client) == b""
    with pytest.raises(AssertionError, match=r"unexpected b'QUIT\\n' .*nothing more was expected"):
        echo.check()
    echo._inbox.clear(is_over=True)


# What is asked for in vain.


@pytest.mark.parametrize(
    ("wait", "kind", "text"),
    [
        ({"count": 0}, ValueError, "count=0: give 1 or more"),
        ({"count": -1}, ValueError, "count=-1"),
        ({"count": True}, TypeError, "count=True: give a whole number"),
        ({"count": "3"}, TypeError, "count='3'"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan: give seconds, 0 or more"),
        ({"timeout": -1}, ValueError, "timeout=-1"),
        ({"timeout": "5"}, TypeError, "timeout='5': give seconds"),
        ({"byte_count": 0}, ValueError, "byte_count=0"),
        ({"byte_count": 3, "count": 2}, ValueError, "give one of them"),
        ({"what": b""}, ValueError, "cannot expect b'' of a stream"),
    ],
)
def test_a_wait_that_would_be_over_at_once_or_never_is_refused(
    wait: dict[str, object], kind: type[Exception], text: str, tcp_echo: TcpEcho
) -> None:
    with pytest.raises(kind, match=text):
        tcp_echo.wait_for(**wait)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("loss 1% seed 3", 4), ValueError, "seed=4 would change nothing, as 'loss 1% seed 3'"),
        (("", 4), ValueError, "seed=4 would change nothing, as nothing is impaired"),
        (("loss 1%", -1), ValueError, "seed=-1: give a whole number"),
        (("loss 1%", "x"), TypeError, "seed='x': give a whole number"),
        ((5, None), TypeError, "cannot impair by 5: give a text"),
    ],
)
def test_a_seed_without_effect_is_refused(
    arguments: tuple[str, int | None], kind: type[Exception], text: str, udp_echo: UdpEcho
) -> None:
    with pytest.raises(kind, match=text):
        udp_echo.impair(arguments[0], seed=arguments[1])


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"upper": True, "responder": lambda data, peer: data},
            ValueError,
            "cannot set upper=True: .* callable",
        ),
        ({"error_reply": b"x"}, ValueError, "only a callable responder raises"),
        ({"responder_takes": "words"}, ValueError, "responder_takes='words'"),
        ({"responder_takes": "fields"}, ValueError, "give a callable"),
        ({"impair": 5}, TypeError, r"cannot impair make_udp_echo\[0\] by 5"),
        ({"no_such": 5}, TypeError, "no_such"),
    ],
)
def test_what_a_server_refuses_is_refused_of_a_fixture_as_well(
    options: dict[str, object], kind: type[Exception], text: str, make_udp_echo: MakeUdpEcho
) -> None:
    with pytest.raises(kind, match=text):
        make_udp_echo(**options)  # type: ignore[arg-type]
