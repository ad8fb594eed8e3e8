"""How a process with servers starts, goes on and ends."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import PATIENCE, native_threads, open_descriptors, resident_bytes, run, spawn, until

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY = """
    import logging, os, sys, threading, time
    import rsecho

    logging.basicConfig(level=logging.DEBUG, stream=open(os.devnull, "w"))

    def ask(client):
        try:
            while True:
                client.request(b"busy")
        except (OSError, rsecho.EndOfStreamError):
            # The server went first.
            pass

    heard = threading.Semaphore(0)
    keywords = {"unpack": "<4s", "on_record": lambda record: heard.release()}
    servers = []
    for engine in ("batch", "portable"):
        for serve, connect in (
            (rsecho.UdpServer, rsecho.UdpClient),
            (rsecho.TcpServer, rsecho.TcpClient),
        ):
            server = serve("127.0.0.1", engine=engine, **keywords)
            server.start()
            servers.append(server)
            asker, listener = (connect(*server.address, timeout=None) for _ in range(2))
            threading.Thread(target=ask, args=(asker,), daemon=True).start()
            threading.Thread(target=listener.receive, daemon=True).start()
            threading.Thread(target=server.wait, daemon=True).start()
    for _ in range(100):
        assert heard.acquire(timeout=10)
"""

ENDS = {
    "normally": ("", 0, ""),
    "by an exception": ("raise ValueError('on purpose')", 1, "ValueError: on purpose"),
    "by sys.exit": ("sys.exit(7)", 7, ""),
    "by sys.exit on purpose": ("sys.exit('told')", 1, "told"),
}


@pytest.mark.parametrize("how", ENDS)
def test_f42_the_interpreter_ends_as_the_program_meant(how: str) -> None:
    last_line, status, last_words = ENDS[how]
    with ThreadPoolExecutor(2) as executor:
        results = list(executor.map(lambda _: run(BUSY + f"    {last_line}\n"), range(10)))
    for result in results:
        assert result.returncode == status, result.stderr
        assert (result.stderr.splitlines() or [""])[-1] == last_words
        # Nothing of ours, nor of the interpreter's, beside what the program said.
        assert ("Traceback" in result.stderr) == ("exception" in how)


def test_f42_a_filter_that_hangs_does_not_keep_the_process() -> None:
    start = time.monotonic()
    result = run("""
        import logging, threading
        import rsecho

        # Not a handler's emit: that holds a lock which logging itself waits for at exit.
        logger = logging.getLogger("rsecho.server")
        logger.setLevel(logging.INFO)
        logger.addFilter(lambda record: threading.Event().wait())
        server = rsecho.UdpServer("127.0.0.1")
        server.start()
    """)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < 10


def test_the_last_lines_are_written_before_logging_closes() -> None:
    result = run("""
        import rsecho
        import logging
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        server = rsecho.UdpServer("127.0.0.1")
        server.start()
    """)
    assert result.returncode == 0
    assert "stopped udp://127.0.0.1" in result.stderr.splitlines()[-1]


def test_atexit_functions_of_the_program_may_still_use_clients() -> None:
    result = run("""
        import atexit, socket
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))

        def farewell():
            with rsecho.UdpClient(*peer.getsockname()) as client:
                peer.sendto(b"bye", client.address)
                print(client.receive())
            peer.close()

        atexit.register(farewell)
        import rsecho
        server = rsecho.UdpServer("127.0.0.1")
        server.start()
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "b'bye'\n", "")


def test_f42_a_daemon_thread_in_a_wait_can_be_joined_at_exit() -> None:
    result = run("""
        import atexit, socket, threading
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        ended = []

        def listen():
            try:
                client.receive()
            finally:
                ended.append(True)

        @atexit.register
        def join():
            # Runs after the package's own, which was registered later.
            thread.join()
            print(ended)
            peer.close()

        import rsecho
        client = rsecho.UdpClient(*peer.getsockname(), timeout=None)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        client.send(b"x")
        peer.recv(1)
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[True]\n", "")


def test_f42_threads_that_wait_in_asyncio_do_not_stand_in_the_way() -> None:
    result = run("""
        import asyncio, threading
        import rsecho
        server = rsecho.UdpServer("127.0.0.1")
        server.start()
        entered = threading.Event()

        async def main():
            wait = asyncio.create_task(server.wait_async())
            await asyncio.sleep(0)
            entered.set()
            await wait

        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        entered.wait()
    """)
    assert result.returncode == 0, result.stderr
    assert "Fatal" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f46_a_signal_under_load_ends_it_drained(number: signal.Signals) -> None:
    with spawn("""
        import signal, sys
        import rsecho

        def end(number, frame):
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, end)
        server = rsecho.UdpServer("127.0.0.1")
        server.start()
        try:
            print(server.address[1])
            server.serve_forever()
        except KeyboardInterrupt:
            server.stop()
            stats = server.stats()
            print(stats.received_packets == stats.sent_packets + sum(stats.dropped.values()))
    """) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        with rsecho.UdpClient("127.0.0.1", port, timeout=PATIENCE) as client:
            client.request(b"awake")
            for _ in range(1000):
                client.send(b"load")
        start = time.monotonic()
        program.send_signal(number)
        output, errors = program.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < 5
        assert (program.returncode, output, errors) == (0, "True\n", "")


def test_a_server_that_could_not_start_says_why_to_whoever_waits() -> None:
    result = run("""
        import re, resource
        from pathlib import Path
        import rsecho

        # Starts the thread that logs, which is not the one to fail.
        rsecho.UdpServer("127.0.0.1", stop_on_empty=True).start()
        server = rsecho.UdpServer("127.0.0.1", workers=2)
        # Room for the interpreter, none for the stack of a thread.
        status = Path("/proc/self/status").read_text()
        used = int(re.search(r"VmSize:\\s+(\\d+)", status)[1]) << 10
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 10), limits[1]))
        try:
            server.start()
        except OSError as error:
            caught = error
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert "cannot start a thread" in str(caught), caught
        reason = server.wait(10)
        assert reason is not None and reason.name == "failed", reason
        assert "cannot start a thread" in reason.detail
    """)
    assert result.returncode == 0, result.stderr


def udp_turn() -> None:
    with (
        rsecho.UdpServer("127.0.0.1") as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert client.request(b"x") == b"x"


def tcp_turn() -> None:
    with (
        rsecho.TcpServer("127.0.0.1") as server,
        rsecho.TcpClient(*server.address, timeout=PATIENCE) as client,
    ):
        assert client.request(b"x") == b"x"
        client.finish()


@pytest.mark.parametrize("turn", [udp_turn, tcp_turn])
def test_f46_a_thousand_starts_and_stops_leave_nothing(turn: Callable[[], None]) -> None:
    # The pump's thread, the allocator's pools, and whatever else is made once.
    for _ in range(100):
        turn()
    gc.collect()
    threads, descriptors, memory = native_threads(), open_descriptors(), resident_bytes()
    for _ in range(1000):
        turn()
    gc.collect()
    until(lambda: native_threads() == threads)
    assert open_descriptors().keys() == descriptors.keys()
    # A leak of one 64 KiB buffer a turn would be 64 MiB.
    assert resident_bytes() - memory < 8 << 20


def extra_start_time(code: str) -> float:
    """How much longer a process takes that runs `code`: the least of each, in turn, since
    whatever else the machine does only ever adds."""
    least = {"pass": PATIENCE, code: PATIENCE}
    for program in 15 * tuple(least):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        least[program] = min(least[program], time.perf_counter() - start)
    return least[code] - least["pass"]


def test_importing_takes_under_30_ms_and_little_else() -> None:
    result = run("""
        import sys
        import rsecho
        print({"asyncio", "click", "logging", "socket", "json", "dataclasses"} & sys.modules.keys())
    """)
    assert result.stdout == "set()\n"
    assert extra_start_time("import rsecho") < 0.030


def test_all_names_are_there_and_documented() -> None:
    for name in rsecho.__all__:
        found: Any = getattr(rsecho, name)
        # The version and the aliases of types have nowhere to keep a docstring.
        if callable(found) and name not in ("Engine", "Wait"):
            assert found.__doc__, name
    assert sorted(rsecho.__all__) == list(rsecho.__all__)
