"""Stops end when they say, whatever a responder does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from command import serving
from support import PATIENCE, run, spawn, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rsecho.server import Server

KINDS = {"udp": rsecho.UdpServer, "tcp": rsecho.TcpServer}

# How long a stop waits for a responder after its drain time.
GRACE = 1.0

# One call of the slow responders here.
CALL = 0.1


class Slow:
    """A callable that takes its time, and knows when it was called."""

    def __init__(self, quick_calls: int = 0) -> None:
        self.begun: list[float] = []
        self._quick_calls = quick_calls

    def __call__(self, data: bytes, _: rsecho.Peer) -> bytes:
        self.begun.append(time.monotonic())
        if len(self.begun) > self._quick_calls:
            time.sleep(CALL)
        return data


def assert_ends_in_time(server: Server, slow: Slow, drain: float) -> None:
    until(lambda: slow.begun)
    start = time.monotonic()
    server.stop(drain)
    took = time.monotonic() - start
    assert took < drain + 10 * CALL
    late = [at for at in slow.begun if at > start + drain]
    assert len(late) <= 1, f"{len(late)} calls were begun after the deadline"
    assert not server.is_running


@pytest.mark.parametrize("engine", ["batch", "portable"])
@pytest.mark.parametrize(
    ("host", "framing", "quick_calls"),
    [("127.0.0.1", "lines", 0), ("::1", "chunks", 0), ("127.0.0.1", "lines", 1000)],
)
def test_f27_a_tcp_stop_ends_by_its_deadline(
    engine: Any, host: str, framing: Any, quick_calls: int
) -> None:
    slow = Slow(quick_calls)
    server = rsecho.TcpServer(host, engine=engine, responder=slow, framing=framing)
    server.start()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(socket.create_connection(server.address))
            client.sendall(b"a\n" * 15)
        until(lambda: len(slow.begun) >= quick_calls)
        assert_ends_in_time(server, slow, 0.5)
    stats = server.stats()
    assert stats.replies == len(slow.begun)
    assert stats.requests == stats.replies + stats.abandoned_requests
    assert (stats.failed_replies, stats.pending_requests, stats.pending_bytes) == (0, 0, 0)
    produced = stats.received_bytes + stats.produced_bytes
    assert produced == stats.consumed_bytes + stats.sent_bytes + stats.discarded_bytes


@pytest.mark.parametrize("engine", ["batch", "portable"])
@pytest.mark.parametrize(("host", "quick_calls"), [("127.0.0.1", 0), ("::1", 0), ("::1", 30)])
def test_f27_a_udp_stop_ends_by_its_deadline(engine: Any, host: str, quick_calls: int) -> None:
    slow = Slow(quick_calls)
    server = rsecho.UdpServer(host, engine=engine, responder=slow)
    server.start()
    with rsecho.UdpClient(*server.address) as client:
        for _ in range(100):
            client.send(b"x")
        until(lambda: len(slow.begun) >= quick_calls)
        assert_ends_in_time(server, slow, 0.5)
    stats = server.stats()
    assert stats.sent_packets == len(slow.begun)
    assert stats.received_packets == stats.sent_packets + stats.dropped["stopped"]


@contextlib.contextmanager
def stuck(kind: str, **options: Any) -> Iterator[tuple[Server, threading.Event]]:
    """A server whose responder does not return until the event is set."""
    begun, release = threading.Event(), threading.Event()

    def answer(data: bytes, _: rsecho.Peer) -> bytes:
        begun.set()
        release.wait()
        return data

    server = KINDS[kind]("127.0.0.1", responder=answer, **options)
    server.start()
    client = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    with client:
        client.connect(server.address)
        client.sendall(b"x\n")
        assert begun.wait(PATIENCE)
        try:
            yield server, release
        finally:
            release.set()


@pytest.mark.parametrize("engine", ["batch", "portable"])
@pytest.mark.parametrize("kind", KINDS)
def test_f42_stop_tells_which_worker_does_not_return(kind: str, engine: Any) -> None:
    with stuck(kind, engine=engine) as (server, release):
        for drain in (0.2, 0.0):
            start = time.monotonic()
            with pytest.raises(rsecho.StopTimeoutError) as raised:
                server.stop(drain)
            assert time.monotonic() - start < 0.2 + 5 * GRACE
            assert server.is_running
        error = raised.value
        assert isinstance(error, rsecho.RsechoError)
        assert isinstance(error, TimeoutError)
        assert f"rsecho-{kind}-0" in str(error)
        assert "wait()" in str(error)
        assert "\n" not in str(error)
        release.set()
        reason = server.wait(PATIENCE)
        assert reason is not None
        assert reason.name == "stopped"
        server.close()
    assert not server.is_running


def test_f42_leaving_a_block_tells_it_too_and_hides_no_error() -> None:
    with stuck("udp") as (server, _):
        with pytest.raises(rsecho.StopTimeoutError):
            server.stop(0)
        # What there was to drain is over: each of these waits for a second.
        with pytest.raises(rsecho.StopTimeoutError), server:
            pass
        with pytest.raises(ValueError, match="the block's own") as raised, server:
            raise ValueError("the block's own")
        assert "rsecho-udp-0" in raised.value.__notes__[0]

        async def main() -> None:
            async with server:
                pass

        with pytest.raises(rsecho.StopTimeoutError):
            asyncio.run(main())


def test_f42_a_stop_can_be_interrupted() -> None:
    with spawn("""
        import threading, time
        import rsecho

        begun = threading.Event()

        def answer(data, peer):
            begun.set()
            threading.Event().wait()

        server = rsecho.UdpServer("127.0.0.1", responder=answer)
        server.start()
        with rsecho.UdpClient(*server.address) as client:
            client.send(b"x")
            assert begun.wait(20)
        print("stopping")
        try:
            server.stop(60)
        except KeyboardInterrupt:
            print(server.is_running)
    """) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "stopping\n"
        time.sleep(0.2)
        start = time.monotonic()
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < 10
        assert (program.returncode, output) == (0, "True\n")
        assert "worker rsecho-udp-0 is still in the responder" in errors
        assert "Traceback" not in errors


def test_f42_collecting_a_server_does_not_wait_for_its_responder() -> None:
    begun, release = threading.Event(), threading.Event()

    def answer(data: bytes, _: rsecho.Peer) -> bytes:
        begun.set()
        release.wait()
        return data

    server = rsecho.UdpServer("127.0.0.1", responder=answer)
    server.start()
    try:
        with rsecho.UdpClient(*server.address) as client:
            client.send(b"x")
        assert begun.wait(PATIENCE)
        start = time.monotonic()
        with pytest.warns(ResourceWarning, match=r"unclosed <UdpServer udp://.* running>"):
            del server
            gc.collect()
        assert time.monotonic() - start < GRACE
    finally:
        release.set()


def test_f42_a_collected_server_whose_responder_does_not_return_is_named_at_exit() -> None:
    result = run("""
        import os, threading, warnings
        import rsecho

        warnings.simplefilter("ignore", ResourceWarning)
        begun = threading.Event()

        def answer(data, peer):
            begun.set()
            threading.Event().wait()

        def main():
            server = rsecho.UdpServer("127.0.0.1", responder=answer)
            server.start()
            with rsecho.UdpClient(*server.address) as client:
                client.send(b"x")
            assert begun.wait(20)

        main()
        # In the child it is another process's.
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
    """)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("worker rsecho-udp-0 is still in the responder") == 1
    assert len(result.stderr.splitlines()) == 1


# What a callable does that does not return. Some come back for the GIL again and again, also
# while the interpreter is torn down.
STUCK = """
    import os, socket, sys, threading, time, types
    import rsecho

    held = threading.Lock()
    held.acquire()
    begun = threading.Semaphore(0)

    def answer(data, peer):
        begun.release()
        while True:
            if {mode!r} == "sleep":
                time.sleep(60)
            elif {mode!r} == "lock":
                held.acquire()
            elif {mode!r} == "nap":
                time.sleep(0.0001)
            elif {mode!r} == "call":
                # At the end this raises SystemExit, at which others return, and their worker ends.
                try:
                    udp.stats()
                except SystemExit:
                    pass

    class Last:
        # Lets others run while the interpreter is torn down, in which no worker may be unwound:
        # that would close its sockets.
        def __del__(self, sleep=time.sleep, listdir=os.listdir, write=sys.__stderr__.write):
            before = len(listdir("/proc/self/fd"))
            sleep(0.2)
            if before != len(listdir("/proc/self/fd")):
                write("a worker was unwound")

    udp = rsecho.UdpServer("127.0.0.1", responder=answer)
    tcp = rsecho.TcpServer("127.0.0.1", responder=answer)
    clients = [socket.socket(type=socket.SOCK_DGRAM), socket.socket()]
    for server, client in zip((udp, tcp), clients):
        server.start()
        client.connect(server.address)
        client.sendall(b"x")
        assert begun.acquire(timeout=20)
    for client in clients:
        client.close()
    sys.modules["last"] = types.ModuleType("last")
    sys.modules["last"].last = Last()
    sys.stdout.write("not flushed")
    {last_line}
"""

ENDS = [
    ("", 0, ""),
    ("raise ValueError('on purpose')", 1, "ValueError: on purpose"),
    ("sys.exit(5)", 5, ""),
    ("raise SystemExit('told')", 1, "told"),
]


@pytest.mark.parametrize("mode", ["sleep", "spin", "lock", "nap", "call"])
def test_f42_the_interpreter_ends_without_a_responder_that_does_not_return(mode: str) -> None:
    programs = [STUCK.format(mode=mode, last_line=last_line) for last_line, _, _ in ENDS] * 2
    start = time.monotonic()
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda code: run(code, timeout=60), programs))
    assert time.monotonic() - start < 60
    for result, (_, status, words) in zip(results, ENDS * 2, strict=True):
        assert result.returncode == status, result.stderr
        assert result.stdout == "not flushed"
        lines = result.stderr.splitlines()
        named = [line for line in lines if line.startswith("rsecho: ")]
        assert sorted(re.findall(r"worker (rsecho-\w+-0) is", "\n".join(named))) == [
            "rsecho-tcp-0",
            "rsecho-udp-0",
        ]
        assert words in [*lines, ""]
        assert ("Traceback" in result.stderr) == ("ValueError" in words)
        assert "unwound" not in result.stderr
        assert "Fatal" not in result.stderr


# The command.

STUCK_MODULE = """
import threading, time

lock = threading.Lock()
lock.acquire()

def sleep(data, peer):
    time.sleep(60)

def spin(data, peer):
    while True:
        pass

def wait(data, peer):
    lock.acquire()

def hold(data, peer):
    # Not one bytecode in which another thread could have the GIL.
    sum(range(10**12))

def slow(data, peer):
    time.sleep(0.1)
    return data
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(STUCK_MODULE)
    return tmp_path


BOTH = ("--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0")


def occupy(addresses: list[tuple[str, int]]) -> None:
    """Has both listeners ask their responder something."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", addresses[0])
    client = socket.create_connection(addresses[1])
    client.sendall(b"x\n")
    # Long enough for two threads that do nothing else.
    time.sleep(0.3)
    client.close()


@pytest.mark.parametrize("name", ["sleep", "spin", "wait"])
def test_f42_one_signal_ends_a_command_whose_responder_does_not_return(
    name: str, module: Path
) -> None:
    options = ("--responder", f"python=mine:{name}", "--drain-timeout", "200ms")
    with serving(*BOTH, *options, cwd=module) as server:
        occupy([server.address("udp"), server.address("tcp")])
        start = time.monotonic()
        server.end(signal.SIGTERM)
        assert time.monotonic() - start < 0.2 + 10 * GRACE
    assert server.status == 0
    assert [line.split()[1] for line in server.output] == ["totals", "totals"]
    for kind in KINDS:
        assert f"worker rsecho-{kind}-0 is still in the responder" in server.errors
    assert "Traceback" not in server.errors


@pytest.mark.parametrize("name", ["sleep", "spin", "wait"])
@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_f42_a_second_signal_ends_the_command_at_once(
    name: str, signals: tuple[signal.Signals, signal.Signals], module: Path
) -> None:
    options = ("--responder", f"python=mine:{name}", "--drain-timeout", "60s")
    with serving(*BOTH, *options, "--log-format", "json", cwd=module) as server:
        occupy([server.address("udp"), server.address("tcp")])
        server.process.send_signal(signals[0])
        time.sleep(0.3)
        assert server.process.poll() is None
        start = time.monotonic()
        server.end(signals[1])
        assert time.monotonic() - start < 5
    assert server.status == 128 + signals[1]
    # All that was there to say has been said.
    assert [line.split()[1] for line in server.output] == ["totals", "totals"]
    assert "listening on udp" in server.errors  # the log is flushed


def test_f42_a_second_signal_ends_a_command_whose_responder_holds_the_gil(module: Path) -> None:
    options = ("--responder", "python=mine:hold", "--drain-timeout", "60s")
    with serving("--udp", "127.0.0.1:0", *options, cwd=module) as server:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"x", server.address("udp"))
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.process.poll() is None
        start = time.monotonic()
        server.end(signal.SIGINT)
        assert time.monotonic() - start < 10
    assert server.status == 128 + signal.SIGINT


def test_f42_a_second_signal_does_not_wait_for_who_reads_the_output() -> None:
    with serving("--udp", "127.0.0.1:0", "--unpack", "!B", "--jsonl") as server:
        # Records are printed, and nobody reads them: the pipe is full.
        with rsecho.UdpClient(*server.address("udp"), timeout=PATIENCE) as client:
            for _ in range(2000):
                client.request(b"x")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.status = server.process.wait(PATIENCE)
        assert time.monotonic() - start < 5
    assert server.status == 128 + signal.SIGTERM


def test_f27_the_command_ends_by_its_drain_timeout(module: Path) -> None:
    options = ("--responder", "python=mine:slow", "--drain-timeout", "500ms")
    with (
        serving("--tcp", "127.0.0.1:0", *options, cwd=module) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(200):
            address = server.address("tcp")
            client = stack.enter_context(socket.create_connection(address))
            client.sendall(b"a\n" * 5)
        time.sleep(0.3)
        start = time.monotonic()
        server.end(signal.SIGTERM)
        assert time.monotonic() - start < 5, "it takes twenty seconds to answer them all once"
    assert server.status == 0
