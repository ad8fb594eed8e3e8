"""What servers answer, where that is not what came."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import PATIENCE, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Recorder

ENGINES = ["batch", "portable"]


@contextlib.contextmanager
def serving(
    responder: Any, engine: Any = "auto", **options: Any
) -> Iterator[tuple[rsecho.UdpServer, rsecho.UdpClient]]:
    """A server and a client of it."""
    with (
        rsecho.UdpServer("127.0.0.1", responder=responder, engine=engine, **options) as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert engine in ("auto", server.engine)
        yield server, client


def answered(server: rsecho.UdpServer) -> bool:
    """Everything that came was answered or dropped by now."""
    stats = server.stats()
    assert stats.received_packets == (
        stats.sent_packets + sum(stats.dropped.values()) + stats.pending_packets
    )
    return stats.pending_packets == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_callable_answers_each_datagram_in_order(engine: str) -> None:
    seen: list[tuple[bytes, rsecho.Peer]] = []

    def upper(data: bytes, peer: rsecho.Peer) -> bytes:
        seen.append((data, peer))
        return data.upper()

    with serving(upper, engine) as (server, _), socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(("127.0.0.1", 0))
        sent = [f"number {i}".encode() for i in range(200)]
        for data in sent:
            client.sendto(data, server.address)
        got = [client.recv(100) for _ in sent]
        assert got == [data.upper() for data in sent]
        assert seen == [(data, client.getsockname()) for data in sent]
        assert isinstance(seen[0][1], rsecho.Peer)
        assert seen[0][1].port == client.getsockname()[1]
        assert answered(server)


def test_a_train_is_answered_datagram_by_datagram() -> None:
    lengths = []

    def first(data: bytes, _: rsecho.Peer) -> bytes:
        lengths.append(len(data))
        return data[:1]

    with serving(first) as (server, _), socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(server.address)
        udp_segment = 103
        client.setsockopt(socket.SOL_UDP, udp_segment, 1000)
        client.send(b"a" * 1000 + b"b" * 1000 + b"c" * 200)
        client.setsockopt(socket.SOL_UDP, udp_segment, 0)
        assert [client.recv(10) for _ in range(3)] == [b"a", b"b", b"c"]
        assert lengths == [1000, 1000, 200]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_f43_a_callable_that_raises_costs_one_request(
    engine: str, kind: type[BaseException], logged: Recorder
) -> None:
    def moody(data: bytes, _: rsecho.Peer) -> bytes:
        if data == b"raise":
            raise kind("as asked")
        return data

    with serving(moody, engine) as (server, client):
        client.send(b"raise")
        client.send(b"raise")
        assert client.exchange(b"after").is_equal
        assert server.stats().dropped["responder_failed"] == 2
        assert answered(server) and server.is_running
    assert rsecho.flush_logs()
    # The first at once, the last when the server ended.
    records = logged.of("rsecho.responder")
    assert len(records) == 2
    for record in records:
        assert "as asked" in record.getMessage() and server.url in record.getMessage()
        assert record.exc_info and record.exc_info[0] is kind, "with its traceback"
        assert record.levelname == "ERROR"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_is_answered_with_the_error_reply_but_not_an_error(engine: str) -> None:
    def fails(data: bytes, _: rsecho.Peer) -> bytes:
        raise RuntimeError(data)

    reply = b"Error processing request"
    with serving(fails, engine, error_reply=reply) as (server, client):
        assert client.exchange(b"please").data == reply
        client.send(reply)
        until(lambda: server.stats().dropped["responder_failed"] == 1)
        assert server.stats().error_replies == 1


def test_none_is_no_reply_and_nothing_to_warn_of(logged: Recorder) -> None:
    with serving(lambda data, _: data if data == b"loud" else None) as (server, client):
        client.send(b"quiet")
        assert client.exchange(b"loud").is_equal
        assert server.stats().dropped["no_reply"] == 1
    rsecho.flush_logs()
    assert "dropped" not in logged.events(server.url)


@pytest.mark.parametrize("answer", [bytearray(b"abc"), memoryview(b"abc"), b"abc"])
def test_any_buffer_is_a_reply(answer: bytes) -> None:
    with serving(lambda *_: answer) as (_, client):
        assert client.exchange(b"x").data == b"abc"


@pytest.mark.parametrize("answer", ["text", 5, [1, 2], object()])
def test_anything_else_is_a_failure_that_says_so(answer: object, logged: Recorder) -> None:
    with serving(lambda *_: answer, error_reply=b"sorry") as (_, client):
        assert client.exchange(b"x").data == b"sorry"
    [line] = logged.lines("rsecho.responder")
    assert f"not {type(answer).__name__}" in line
    assert ("encode it" in line) == isinstance(answer, str)


def test_a_responder_may_ask_for_statistics_but_not_wait_for_itself() -> None:
    found: list[object] = []

    def curious(data: bytes, _: rsecho.Peer) -> bytes:
        found.append(server.stats().received_packets)
        with pytest.raises(rsecho.StateError, match="its own responder"):
            server.wait()
        return data

    with serving(curious) as (server, client):
        assert client.exchange(b"x").is_equal
        assert found == [1]


def test_threads_locals_live_as_long_as_the_server_and_recursion_has_room() -> None:
    local = threading.local()
    depth = min(900, sys.getrecursionlimit() - 100)

    def count(data: bytes, _: rsecho.Peer) -> bytes:
        def down(left: int) -> int:
            return 0 if left == 0 else 1 + down(left - 1)

        assert down(depth) == depth
        local.calls = getattr(local, "calls", 0) + 1
        return str(local.calls).encode()

    with serving(count) as (_, client):
        assert [client.exchange(b"x").data for _ in range(3)] == [b"1", b"2", b"3"]


def test_a_slow_responder_does_not_hold_up_the_end() -> None:
    begun = threading.Event()

    def slow(data: bytes, _: rsecho.Peer) -> bytes:
        begun.set()
        time.sleep(0.05)
        return data

    with serving(slow) as (server, client):
        for _ in range(200):
            client.send(b"x")
        assert begun.wait(PATIENCE)
        start = time.monotonic()
        server.stop(0)
        assert time.monotonic() - start < 3, "it takes ten seconds to answer them all"
        stats = server.stats()
        assert stats.received_packets == stats.sent_packets + sum(stats.dropped.values())


def test_a_slow_answer_does_not_hold_up_those_before_it() -> None:
    release = threading.Event()

    def answer(data: bytes, _: rsecho.Peer) -> bytes:
        if data == b"slow":
            assert release.wait(PATIENCE)
        else:
            time.sleep(0.002)
        return data

    with serving(answer) as (_, client):
        # The first batches teach it that this responder is slow.
        for _ in range(20):
            client.send(b"quick")
        for _ in range(20):
            assert client.receive() == b"quick"
        for data in (b"1", b"2", b"slow", b"3"):
            client.send(data)
        assert (client.receive(), client.receive()) == (b"1", b"2")
        release.set()
        assert (client.receive(), client.receive()) == (b"slow", b"3")


def test_a_responder_may_stop_its_server() -> None:
    def answer(data: bytes, _: rsecho.Peer) -> bytes:
        if data == b"stop":
            server.stop()
        return data

    with serving(answer) as (server, client):
        assert client.exchange(b"stop").is_equal
        reason = server.wait(PATIENCE)
        assert reason is not None and reason.name == "stopped"


def test_coroutine_functions_run_side_by_side_on_the_callers_loop() -> None:
    async def main() -> None:
        loop, seen = asyncio.get_running_loop(), set()
        gathered = asyncio.Event()

        async def answer(data: bytes, peer: rsecho.Peer) -> bytes:
            assert asyncio.get_running_loop() is loop and peer.host == "127.0.0.1"
            seen.add(data)
            if len(seen) == 10:
                gathered.set()
            # None ends before all have begun.
            await gathered.wait()
            if data == b"3":
                raise LookupError("three")
            return data * 2 if data != b"4" else None  # type: ignore[return-value]

        async with rsecho.UdpServer("127.0.0.1", responder=answer, error_reply=b"sorry") as server:
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(server.address)
                for number in range(10):
                    await loop.sock_sendall(client, str(number).encode())
                got = {await loop.sock_recv(client, 10) for _ in range(9)}
            wanted = {str(n).encode() * 2 for n in range(10) if n not in (3, 4)} | {b"sorry"}
            assert got == wanted
            stats = server.stats()
            assert stats.dropped["no_reply"] == 1 and stats.error_replies == 1
            assert stats.pending_packets == 0

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_what_a_coroutine_waited_for_was_cancelled() -> None:
    async def main() -> None:
        async def answer(data: bytes, _: rsecho.Peer) -> bytes:
            waited_for = asyncio.create_task(asyncio.sleep(PATIENCE))
            waited_for.cancel()
            await waited_for
            return data

        async with rsecho.UdpServer("127.0.0.1", responder=answer, error_reply=b"sorry") as server:
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(server.address)
                client.send(b"x")
                assert await asyncio.get_running_loop().sock_recv(client, 10) == b"sorry"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_late_answers_are_waited_for_at_the_end_as_long_as_allowed() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def answer(data: bytes, _: rsecho.Peer) -> bytes:
            await release.wait()
            return data

        server = rsecho.UdpServer("127.0.0.1", responder=answer)
        server.start()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(server.address)
            client.send(b"late")
            while server.stats().pending_packets == 0:
                await asyncio.sleep(0.001)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop, PATIENCE))
            await asyncio.sleep(0.05)
            assert not stopping.done()
            release.set()
            await stopping
            assert client.recv(10) == b"late"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wait", ["balanced", "latency", "busy"])
def test_late_answers_are_sent_when_they_come_however_the_worker_waits(
    engine: Any, wait: Any
) -> None:
    async def main() -> None:
        async def answer(data: bytes, _: rsecho.Peer) -> bytes:
            await asyncio.sleep(0.01)
            return data

        async with rsecho.UdpServer(
            "127.0.0.1", responder=answer, wait=wait, engine=engine
        ) as server:
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(server.address)
                client.send(b"one")
                assert await asyncio.get_running_loop().sock_recv(client, 10) == b"one"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_busy_loop_is_not_given_more_than_it_can_remember() -> None:
    most, sent = 10_000, 12_000

    async def main() -> None:
        async def answer(data: bytes, _: rsecho.Peer) -> None:
            return None

        server = rsecho.UdpServer("127.0.0.1", responder=answer, recv_buffer_bytes=8 << 20)
        server.start()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect(server.address)
            # No await: the loop that is to answer does nothing but this.
            for number in range(sent):
                client.send(b"x")
                until(lambda: server.stats().received_packets == number + 1)  # noqa: B023
            stats = server.stats()
            assert stats.pending_packets == most
            assert stats.dropped["responder_failed"] == sent - most
        while server.stats().pending_packets:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)

    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))


def test_stopping_on_the_loops_own_thread_does_not_wait_for_it() -> None:
    async def main() -> None:
        async def answer(data: bytes, _: rsecho.Peer) -> bytes:
            await asyncio.sleep(PATIENCE)
            return data

        server = rsecho.UdpServer("127.0.0.1", responder=answer)
        server.start()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect(server.address)
            client.send(b"x")
            while not server._setup.loop or not server._setup.loop._tasks:
                await asyncio.sleep(0.001)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 3
        assert server.stats().dropped["stopped"] == 1

    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))


def test_a_reply_that_no_datagram_carries_is_dropped_at_once() -> None:
    with serving(lambda data, _: bytes(65_528) if data == b"big" else data) as (server, client):
        client.send(b"big")
        assert client.exchange(b"small").is_equal
        assert server.stats().dropped["send_too_large"] == 1


def test_what_the_guard_drops_is_told_where_somebody_answers(logged: Recorder) -> None:
    guard = rsecho.Guard(deny=["127.0.0.9"])
    with serving("upper", guard=guard, recv_buffer_bytes=4 << 20) as (server, client):
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.9", 0))
            for _ in range(500):
                client.send(b"a")
                other.sendto(b"b", server.address)
        until(lambda: answered(server) and server.stats().dropped["denied"] == 500)
    rsecho.flush_logs()
    told = re.findall(r"denied=(\d+)", "\n".join(logged.lines("rsecho.server")))
    # Also in the totals, which come last.
    assert sum(map(int, told[:-1])) == 500 and told[-1] == "500"


def test_a_closed_server_whose_responder_knows_it_can_be_collected() -> None:
    class Program:
        def __init__(self) -> None:
            self.server = rsecho.UdpServer("127.0.0.1", responder=self.answer)

        def answer(self, data: bytes, _: rsecho.Peer) -> bytes:
            return data

    program = Program()
    with program.server:
        pass
    gone = weakref.ref(program)
    del program
    until(lambda: gc.collect() is None or gone() is None)


def test_a_coroutine_function_needs_a_loop() -> None:
    async def answer(data: bytes, _: rsecho.Peer) -> bytes:
        return data

    with (
        contextlib.closing(rsecho.UdpServer("127.0.0.1", responder=answer)) as server,
        pytest.raises(rsecho.StateError, match="no event loop"),
    ):
        server.start()


def test_f42_the_interpreter_ends_while_responders_are_busy() -> None:
    code = """
        import socket, threading, time, rsecho

        def work(data, peer):
            sum(range(200))
            return data.upper()

        servers = [rsecho.UdpServer("127.0.0.1", responder=work, engine=e, workers=w)
                   for e, w in (("batch", 1), ("portable", 1), ("batch", 2))]
        for server in servers:
            server.start()

        def flood(address):
            client = socket.socket(type=socket.SOCK_DGRAM)
            client.connect(address)
            while True:
                try:
                    client.send(b"x" * 100)
                except OSError:
                    pass

        for server in servers:
            threading.Thread(target=flood, args=(server.address,), daemon=True).start()
        while min(server.stats().sent_packets for server in servers) < 500:
            time.sleep(0.001)
        {end}
    """
    ends = {"pass": 0, "raise SystemExit(3)": 3, "raise ValueError('x')": 1}
    for end, status in list(ends.items()) * 3:
        done = run(code.format(end=end))
        assert done.returncode == status, done.stderr
        assert "Fatal" not in done.stderr


def test_fields_instead_of_bytes(logged: Recorder) -> None:
    def add(fields: dict[str, int], _: rsecho.Peer) -> bytes:
        return str(fields["a"] + fields["b"]).encode()

    layout = rsecho.RecordLayout("!HH", names="a b")
    options = {"unpack": layout, "responder_takes": "fields", "error_reply": b"no record"}
    with serving(add, **options) as (_, client):
        assert client.exchange(layout.pack(40, 2)).data == b"42"
        assert client.exchange(b"odd").data == b"no record"
    # Anybody can send one: it is told in a line, not with a traceback.
    rsecho.flush_logs()
    assert not logged.of("rsecho.responder") and logged.of("rsecho.records")


def test_a_callable_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answers_for_test.py").write_text(
        "class Greeter:\n"
        "    @staticmethod\n"
        "    def greet(data, peer):\n"
        "        return b'hi ' + data\n"
        "number = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bad_syntax_for_test.py").write_text("def f(:\n")
    (tmp_path / "exits_for_test.py").write_text("import sys\nsys.exit('bye')\n")
    with serving("python=answers_for_test:Greeter.greet") as (_, client):
        assert client.exchange(b"you").data == b"hi you"
    for name, why in [
        ("answers_for_test:missing", "has no missing"),
        ("answers_for_test:number", "cannot be called"),
        ("no_such_module_here:f", "PYTHONPATH"),
        ("bad_syntax_for_test:f", "SyntaxError"),
        ("exits_for_test:f", "SystemExit: bye"),
        ("answers_for_test", "write python=module:function"),
    ]:
        with pytest.raises(ValueError, match=why):
            rsecho.UdpServer("127.0.0.1", responder=f"python={name}")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"responder": "loud"}, "it is one of echo, upper"),
        ({"responder": "discard", "upper": True}, "can be raised"),
        ({"responder": len, "upper": True}, "cannot set upper"),
        ({"error_reply": b"x"}, "only a callable"),
        ({"responder": len, "responder_takes": "fields"}, "none is set; give it as unpack="),
        ({"responder": "upper", "responder_takes": "fields"}, "give a callable"),
        ({"responder_takes": "all"}, "it takes 'bytes' or 'fields'"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rsecho.UdpServer("127.0.0.1", **arguments)
    with pytest.raises(TypeError, match="it takes a str or a callable or None, not an int"):
        rsecho.UdpServer("127.0.0.1", responder=5)  # type: ignore[arg-type]


def conversation(server: rsecho.TcpServer, *pieces: bytes) -> bytes:
    """What a TCP server answers to these pieces and the end of the stream."""
    with socket.create_connection(server.address, PATIENCE) as stream:
        for piece in pieces:
            stream.sendall(piece)
        stream.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: stream.recv(65536), b""))


@pytest.mark.parametrize("engine", ["batch", "portable"])
def test_tcp_lines_records_and_what_was_read(engine: Any) -> None:
    seen: list[bytes] = []

    def keep(data: bytes, peer: rsecho.Peer) -> bytes:
        assert peer.host == "127.0.0.1"
        seen.append(data)
        return data[::-1]

    with rsecho.TcpServer("127.0.0.1", responder=keep, framing="lines", engine=engine) as server:
        assert server.engine == {"batch": "epoll"}.get(engine, engine)
        assert conversation(server, b"ab\r\ncd", b"e\nlast") == b"ba\r\nedc\ntsal"
        assert seen == [b"ab", b"cde", b"last"]
    seen.clear()
    with rsecho.TcpServer("127.0.0.1", responder=keep, unpack="!HH", engine=engine) as server:
        assert conversation(server, b"12", b"345678", b"90") == b"43218765"
        assert seen == [b"1234", b"5678"], "what is left is no record"
    seen.clear()
    with rsecho.TcpServer("127.0.0.1", responder=keep, engine=engine) as server:
        assert conversation(server, b"as it was read") == b"as it was read"[::-1]
        assert b"".join(seen) == b"as it was read"


def test_f43_a_callable_that_raises_costs_one_line(logged: Recorder) -> None:
    def moody(data: bytes, _: rsecho.Peer) -> bytes | None:
        if data == b"exit":
            raise SystemExit(data)
        return data if data != b"quiet" else None

    with rsecho.TcpServer(
        "127.0.0.1", responder=moody, framing="lines", error_reply=b"sorry"
    ) as server:
        assert conversation(server, b"a\nexit\nquiet\nb\nexit\n") == b"a\nsorry\nb\nsorry\n"
        stats = server.stats()
        assert (stats.requests, stats.replies, stats.error_replies) == (5, 2, 2)
        assert stats.silent_requests == 1 and stats.pending_requests == 0
    assert rsecho.flush_logs()
    records = logged.of("rsecho.responder")
    assert len(records) == 2
    assert all("SystemExit" in record.getMessage() for record in records)


def test_late_replies_on_a_connection_keep_the_order_of_their_requests() -> None:
    async def main() -> None:
        async def answer(data: bytes, _: rsecho.Peer) -> bytes:
            # The first comes last.
            await asyncio.sleep(0.02 * (5 - int(data)))
            return data

        async with rsecho.TcpServer("127.0.0.1", responder=answer, framing="lines") as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"1\n2\n3\n4\n5\n")
            writer.write_eof()
            assert await reader.read() == b"1\n2\n3\n4\n5\n"
            writer.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_slow_answer_does_not_hold_up_other_connections() -> None:
    events = {b"hold": threading.Event(), b"slow": threading.Event()}
    begun = threading.Event()

    def answer(data: bytes, _: rsecho.Peer) -> bytes:
        if data in events:
            begun.set()
            assert events[data].wait(PATIENCE)
        else:
            time.sleep(0.002)
        return data

    with (
        rsecho.TcpServer("127.0.0.1", responder=answer, framing="lines") as server,
        contextlib.ExitStack() as stack,
    ):
        streams = [
            stack.enter_context(socket.create_connection(server.address, PATIENCE))
            for _ in range(20)
        ]
        # The first turns teach it that this responder is slow.
        for _ in range(2):
            for stream in streams:
                stream.sendall(b"quick\n")
            for stream in streams:
                assert stream.recv(10) == b"quick\n"
        # All of these are there when the worker looks again.
        streams[0].sendall(b"hold\n")
        assert begun.wait(PATIENCE)
        for stream in streams[1:-1]:
            stream.sendall(b"quick\n")
        streams[-1].sendall(b"slow\n")
        events[b"hold"].set()
        answered = 0
        for stream in streams[1:-1]:
            stream.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                answered += stream.recv(10) == b"quick\n"
        assert answered > 0, "all would have waited for the slow one"
        events[b"slow"].set()
        assert streams[-1].recv(10) == b"slow\n"


def test_a_slow_responder_does_not_hold_up_the_end_of_a_tcp_server() -> None:
    begun = threading.Event()

    def slow(data: bytes, _: rsecho.Peer) -> bytes:
        begun.set()
        time.sleep(0.05)
        return data

    with (
        rsecho.TcpServer("127.0.0.1", responder=slow, framing="lines") as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(100):
            stream = stack.enter_context(socket.create_connection(server.address, PATIENCE))
            stream.sendall(b"line\n" * 10)
        assert begun.wait(PATIENCE)
        start = time.monotonic()
        server.stop(0)
        assert time.monotonic() - start < 3, "it takes fifty seconds to answer them all"
        stats = server.stats()
        assert stats.requests == stats.replies + stats.failed_replies + stats.abandoned_requests
