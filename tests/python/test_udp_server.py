"""`UdpServer`: what it answers, reports, refuses, and how it ends."""

from __future__ import annotations

import asyncio
import copy
import errno
import gc
import os
import pickle
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import PATIENCE, run, spawn, until

if TYPE_CHECKING:
    from conftest import Recorder
    from rsecho.server import Engine, Wait

ENGINES: list[Engine] = ["batch", "portable"]


@pytest.mark.parametrize("engine", ENGINES)
def test_echoes_every_size_and_counts_it(engine: Engine) -> None:
    with rsecho.UdpServer("127.0.0.1", 0, engine=engine) as server:
        assert server.engine == engine
        with rsecho.UdpClient(*server.address, timeout=PATIENCE) as client:
            sizes = (0, 1, 1472, 65_507)
            for size in sizes:
                data = bytes(i * 7 % 256 for i in range(size))
                assert client.request(data) == data
    stats = server.stats()
    assert stats.received_packets == stats.sent_packets == len(sizes)
    assert stats.received_bytes == stats.sent_bytes == sum(sizes)
    assert sum(stats.dropped.values()) == 0
    assert stats.kernel_drops == 0
    assert stats.more == {}


def test_says_where_and_what_it_is() -> None:
    server = rsecho.UdpServer("127.0.0.1")
    host, port = server.address
    assert host == "127.0.0.1"
    assert port > 0
    assert server.url == f"udp://127.0.0.1:{port}"
    assert repr(server) == f"<UdpServer {server.url} not started>"
    with server:
        assert server.is_running
        assert repr(server).endswith("running>")
    assert not server.is_running
    assert repr(server).endswith("stopped>")


def test_ipv6_has_an_address_of_two_items_as_well() -> None:
    with rsecho.UdpServer("::1") as server:
        assert server.address[0] == "::1"
        assert server.url == f"udp://[::1]:{server.address[1]}"
        with rsecho.UdpClient(*server.address) as client:
            assert client.request(b"six") == b"six"


def test_start_never_blocks_and_stop_and_close_work_twice() -> None:
    server = rsecho.UdpServer("127.0.0.1")
    server.start()
    with pytest.raises(rsecho.StateError, match="running"):
        server.start()
    for end in (server.stop, server.close, server.stop, server.close):
        end()
    with pytest.raises(rsecho.StateError, match="ended; make a new one"):
        server.start()


def test_stopping_what_never_started_frees_the_port() -> None:
    server = rsecho.UdpServer("127.0.0.1")
    with pytest.raises(rsecho.StateError, match="not been started"):
        server.wait()
    server.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as same:
        same.bind(server.address)


@pytest.mark.parametrize("engine", ENGINES)
def test_f06_stop_while_blocked_in_receive_takes_a_moment(engine: Engine) -> None:
    with rsecho.UdpServer("127.0.0.1", engine=engine) as server:
        assert server.engine == engine
        with rsecho.UdpClient(*server.address) as client:
            client.request(b"awake")
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 1.0
    assert server.stats().received_packets == 1


def test_wait_tells_why() -> None:
    with rsecho.UdpServer("127.0.0.1") as server:
        assert server.wait(timeout=0.01) is None
        assert server.wait(timeout=0) is None
        threading.Timer(0.05, server.stop).start()
        reason = server.wait()
    assert (reason.name, reason.is_healthy) == ("stopped", True)
    assert server.wait(0) == reason

    with rsecho.UdpServer("127.0.0.1", idle_timeout=0.05) as server:
        assert server.wait().name == "idle"

    with rsecho.UdpServer("127.0.0.1", stop_on_empty=True) as server:
        with rsecho.UdpClient(*server.address) as client:
            assert client.request(b"") == b""
        assert server.wait().name == "empty"


def test_max_datagram_bytes_shortens_the_reply() -> None:
    with (
        rsecho.UdpServer("127.0.0.1", max_datagram_bytes=4) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        reply = client.exchange(b"123456")
    assert (reply.data, reply.is_equal) == (b"1234", False)
    assert server.stats().truncated_packets == 1


def test_several_workers_share_the_port() -> None:
    with rsecho.UdpServer("127.0.0.1", workers=3) as server:
        for _ in range(20):
            with rsecho.UdpClient(*server.address) as client:
                assert client.request(b"x") == b"x"
    assert server.stats().received_packets == 20


@pytest.mark.parametrize("wait", ["balanced", "latency", "busy"])
def test_each_way_to_wait_answers_and_stops(wait: Wait) -> None:
    with (
        rsecho.UdpServer("127.0.0.1", wait=wait) as server,
        rsecho.UdpClient(*server.address, timeout=PATIENCE) as client,
    ):
        for _ in range(100):
            assert client.request(b"x") == b"x"


def test_workers_keep_to_their_cpus() -> None:
    cpu = max(os.sched_getaffinity(0))
    before = set(Path("/proc/self/task").iterdir())
    with (
        rsecho.UdpServer("127.0.0.1", cpus=[cpu]) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        # Once it answers it has found its place.
        client.request(b"x")
        workers = [
            int(task.name)
            for task in set(Path("/proc/self/task").iterdir()) - before
            if (task / "comm").read_text().startswith("rsecho-udp")
        ]
        assert [os.sched_getaffinity(worker) for worker in workers] == [{cpu}]


def test_serve_forever_returns_why() -> None:
    assert rsecho.UdpServer("127.0.0.1", idle_timeout=0.05).serve_forever().name == "idle"


def test_serve_forever_stops_at_ctrl_c() -> None:
    with spawn("""
        import rsecho
        server = rsecho.UdpServer("127.0.0.1")
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
            print(server.wait(0).name, server.stats().sent_packets)
    """) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        with rsecho.UdpClient("127.0.0.1", port, timeout=PATIENCE) as client:
            client.request(b"x")
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=PATIENCE)
        assert (program.returncode, output, errors) == (0, "stopped 1\n", "")


def test_async_with_and_wait_async() -> None:
    async def main() -> None:
        async with rsecho.UdpServer("127.0.0.1", idle_timeout=0.3) as server:
            assert await server.wait_async(timeout=0.01) is None
            async with rsecho.UdpClient(*server.address) as client:
                assert await client.request_async(b"x") == b"x"
            assert (await server.wait_async()).name == "idle"

    asyncio.run(main())


def test_more_waits_than_the_executor_has_threads_can_be_cancelled() -> None:
    async def main() -> None:
        async with rsecho.UdpServer("127.0.0.1") as server:
            waits = [asyncio.create_task(server.wait_async()) for _ in range(50)]
            await asyncio.sleep(0)
            waits.pop().cancel()
            # Runs in the executor, where the waits must not stand in its way.
            await asyncio.to_thread(server.stop)
            reasons = await asyncio.gather(*waits)
            assert {reason.name for reason in reasons} == {"stopped"}

    asyncio.run(main())


def test_a_server_collected_while_running_warns_and_stops() -> None:
    server = rsecho.UdpServer("127.0.0.1")
    server.start()
    address = server.address
    text = "unclosed <UdpServer udp://127.0.0.1"
    with pytest.warns(ResourceWarning, match=text) as caught:
        del server
        gc.collect()
        # The thread that logs may have been looking at it just then.
        until(lambda: caught.list)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as same:
        same.bind(address)


def test_cannot_be_pickled_or_copied() -> None:
    with rsecho.UdpServer("127.0.0.1") as server:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="pass its address instead"):
                attempt(server)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"port": 65536}, ValueError, "a port is a number from 0 to 65535"),
        ({"port": -1}, ValueError, "a port is a number from 0 to 65535"),
        ({"port": 10**30}, ValueError, "cannot set port=1000"),
        ({"port": "7"}, TypeError, "a whole number"),
        ({"host": "a" * 64}, socket.gaierror, "64 characters"),
        ({"host": "no such name"}, socket.gaierror, "cannot resolve"),
        ({"host": "::1", "family": 4}, socket.gaierror, "no IPv4"),
        ({"family": 5}, ValueError, "0, 4 or 6"),
        ({"workers": 0}, ValueError, "workers"),
        ({"workers": -1}, ValueError, "workers"),
        ({"engine": "turbo"}, ValueError, "'auto', 'batch' or 'portable'"),
        ({"wait": "never"}, ValueError, "'balanced', 'latency' or 'busy'"),
        ({"cpus": [-1]}, ValueError, "cpus=-1"),
        ({"cpus": [10**6]}, ValueError, "cpus=1000000: this process may not use that CPU"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout"),
        ({"idle_timeout": 0}, ValueError, "more than 0 seconds"),
        ({"idle_timeout": float("nan")}, ValueError, "idle_timeout"),
        ({"idle_timeout": "1"}, TypeError, "a number of seconds"),
        ({"max_datagram_bytes": 0}, ValueError, "max_datagram_bytes"),
        ({"ttl": 0}, ValueError, "ttl=0"),
        ({"ttl": 256}, ValueError, "ttl=256"),
        ({"dscp": 64}, ValueError, "dscp=64"),
        ({"recv_buffer_bytes": -1}, ValueError, "recv_buffer_bytes=-1"),
        ({"bind_to_device": "x" * 16}, ValueError, "bind_to_device"),
        ({"no_delay": True}, TypeError, "unexpected keyword argument 'no_delay'"),
        ({"unpack": "?!"}, rsecho.FormatError, "format"),
        ({"on_record": print}, ValueError, "unpack="),
        ({"log_payload_bytes": -1}, ValueError, "0 to 65535"),
    ],
)
def test_refuses_what_cannot_work(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        rsecho.UdpServer(**{"host": "127.0.0.1", **arguments})
    assert "\n" not in str(raised.value)


def test_a_port_in_use_says_so_and_the_way_out() -> None:
    with rsecho.UdpServer("127.0.0.1") as server:
        with pytest.raises(OSError, match="shows which socket has it") as raised:
            rsecho.UdpServer(*server.address)
        assert raised.value.errno == errno.EADDRINUSE


def test_f22_a_udp_port_is_not_shared_unless_asked() -> None:
    with rsecho.UdpServer("127.0.0.1") as server:
        assert server.socket_report["reuse_address"].effective is False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind(server.address)
    with rsecho.UdpServer("127.0.0.1", reuse_address=True) as server:
        assert server.socket_report["reuse_address"].effective is True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(server.address)


def test_records_are_decoded_logged_and_handed_over(logged: Recorder) -> None:
    seen: list[rsecho.Record] = []
    layout = rsecho.RecordLayout("! H 2s", names="number tag")
    with (
        rsecho.UdpServer("127.0.0.1", unpack=layout, on_record=seen.append) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        client.request(layout.pack(7, b"ok"))
        client.request(b"longer than four")
        client.request(b"")
        peer = client.address
        until(lambda: seen and "unfit" in logged.events(server.url))
    (record,) = seen
    assert record.values == (7, b"ok")
    assert record.fields == {"number": 7, "tag": b"ok"}
    assert (record.server, record.peer, record.data) == (server.url, peer, b"\x00\x07ok")
    fit, *unfit = logged.of("rsecho.records")
    assert fit.levelname == "INFO"
    assert fit.getMessage().endswith("number=7 tag=b'ok'")
    assert fit.__dict__["fields"] == {"number": 7, "tag": b"ok"}
    assert unfit[0].levelname == "WARNING"
    assert 'expected 4 bytes, received 16: "longer' in unfit[0].getMessage()
    stats = server.stats()
    assert (stats.records, stats.unfit_records) == (1, 2)


def test_unfit_data_makes_one_line_a_second(logged: Recorder) -> None:
    with (
        rsecho.UdpServer("127.0.0.1", unpack="!I") as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        for _ in range(200):
            client.request(b"x")
        until(lambda: any("more like it" in line for line in logged.lines("rsecho.records")))
    # Far fewer than 200, however slowly they were sent.
    assert len(logged.of("rsecho.records")) <= 5


def test_f43_a_callback_that_raises_harms_nobody(logged: Recorder) -> None:
    raised: list[BaseException] = []

    def on_record(record: rsecho.Record) -> None:
        kind = (ValueError, SystemExit, KeyboardInterrupt)[int(record.values[0]) % 3]
        error = kind("on purpose")
        raised.append(error)
        raise error

    with (
        rsecho.UdpServer("127.0.0.1", unpack="!B", on_record=on_record) as server,
        rsecho.UdpClient(*server.address) as client,
    ):
        for number in range(9):
            assert client.request(bytes([number])) == bytes([number])
        until(lambda: len(raised) == 9)
        assert server.is_running
    until(lambda: "on_record" in logged.events(server.url))
    first = next(r for r in logged.of("rsecho.server") if r.__dict__["event"] == "on_record")
    assert first.levelname == "ERROR"
    assert first.exc_info is not None
    assert isinstance(first.exc_info[1], ValueError)
    lines = [line for line in logged.lines("rsecho.server") if "on_record raised" in line]
    assert len(lines) <= 3


def test_a_server_that_was_never_made_leaves_no_trace() -> None:
    result = run("""
        import rsecho
        try:
            rsecho.UdpServer("127.0.0.1", port=70000)
        except ValueError:
            print("refused")
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "refused\n", "")
