"""What servers impair on purpose, seen from outside. What each word of the grammar means exactly
is tested where it is decided, in `src/impair`."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import rsecho
from support import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Recorder

ENGINES = ["batch", "portable"]


@contextlib.contextmanager
def impaired(spec: str, **options: Any) -> Iterator[tuple[rsecho.UdpServer, socket.socket]]:
    """A server and a client of it with room for much."""
    options.setdefault("recv_buffer_bytes", 4 << 20)
    with (
        rsecho.UdpServer("127.0.0.1", impair=spec, **options) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        client.settimeout(PATIENCE)
        client.connect(server.address)
        yield server, client
        stats = server.stats()
        assert stats.received_packets + stats.duplicated_packets == (
            stats.sent_packets + sum(stats.dropped.values()) + stats.pending_packets
        )


def replies(server: rsecho.UdpServer, client: socket.socket, requests: list[bytes]) -> list[bytes]:
    """Sends all, a few at a time, and takes everything that comes back."""
    before = server.stats()
    got: list[bytes] = []
    for first in range(0, len(requests), 32):
        part = requests[first : first + 32]
        for data in part:
            client.send(data)
        everything_went(server, before.received_packets + first + len(part))
        sent = server.stats().sent_packets - before.sent_packets
        got += [client.recv(65536) for _ in range(sent - len(got))]
    return got


def everything_went(server: rsecho.UdpServer, came: int) -> None:
    """Waits until so many have come, ever, and none is held back."""
    until(lambda: server.stats().received_packets == came)
    until(lambda: server.stats().pending_packets == 0)


def numbered(count: int) -> list[bytes]:
    """Requests that can be told apart."""
    return [b"%06d" % number for number in range(count)]


@pytest.mark.parametrize("engine", ENGINES)
def test_loss_takes_its_share_both_ways(engine: Any) -> None:
    count = 4000
    with impaired("in loss 10%; out loss 20%", engine=engine) as (server, client):
        assert server.engine == engine
        got = replies(server, client, numbered(count))
        wanted = 0.9 * 0.8
        error = math.sqrt(count * wanted * (1 - wanted))
        assert abs(len(got) - count * wanted) < 4 * error
        assert server.stats().dropped["impair_lost"] == count - len(got)
        assert got == sorted(got), "what is not lost keeps its order"


@pytest.mark.parametrize("engine", ENGINES)
def test_duplicates_corruption_and_truncation(engine: Any) -> None:
    requests = numbered(1000)
    with impaired("duplicate 25%", engine=engine) as (server, client):
        got = Counter(replies(server, client, requests))
        assert set(got) == set(requests) and set(got.values()) == {1, 2}
        assert abs(got.total() - 1250) < 4 * math.sqrt(1000 * 0.25 * 0.75)
        assert server.stats().duplicated_packets == got.total() - 1000

        server.impair("corrupt 100%")
        for sent, came in zip(requests, replies(server, client, requests), strict=True):
            bits = int.from_bytes(sent) ^ int.from_bytes(came)
            assert bits.bit_count() == 1

        server.impair("truncate 100% 3")
        assert replies(server, client, requests) == [data[:3] for data in requests]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_delay_holds_each_reply_and_jitter_reorders(engine: Any) -> None:
    with impaired("delay 30ms", engine=engine) as (server, client):
        start = time.monotonic()
        client.send(b"x")
        assert client.recv(10) == b"x"
        assert 0.030 <= time.monotonic() - start < 3
        assert server.stats().delayed_packets == 1

        server.impair("delay 20ms 15ms seed 1")
        requests = numbered(200)
        for data in requests:
            client.send(data)
        got = [client.recv(10) for _ in requests]
        assert sorted(got) == requests and got != requests


def test_what_is_held_goes_on_its_way_when_the_impairment_ends() -> None:
    with impaired("delay 1h") as (server, client):
        client.send(b"held")
        until(lambda: server.stats().pending_packets == 1)
        assert server.impair() == ""
        assert client.recv(10) == b"held"
        client.send(b"free")
        assert client.recv(10) == b"free"


def test_what_is_held_for_longer_than_a_stop_may_take_does_not_hold_it_up() -> None:
    with impaired("delay 1h") as (server, client):
        client.send(b"held")
        until(lambda: server.stats().pending_packets == 1)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 3
        assert server.stats().dropped["stopped"] == 1


def test_what_is_due_in_time_is_sent_before_the_end() -> None:
    with impaired("delay 1500ms") as (server, client):
        client.send(b"soon")
        until(lambda: server.stats().pending_packets == 1)
        server.stop()
        assert client.recv(10) == b"soon"


def test_a_rate_spaces_replies() -> None:
    # 100 bytes at 80 kbit/s take 10 ms.
    with impaired("rate 80kbit") as (_, client):
        start = time.monotonic()
        for _ in range(10):
            client.send(bytes(100))
        for _ in range(10):
            client.recv(200)
        assert 0.095 <= time.monotonic() - start < 5


def test_a_rate_and_a_limit_are_those_of_all_workers_together() -> None:
    server = rsecho.UdpServer(
        "127.0.0.1", workers=4, impair="rate 8mbit limit 50", recv_buffer_bytes=4 << 20
    )
    with server, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(16):
            client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            client.connect(server.address)
            clients.append(client)
        # 1000 bytes at 8 Mbit/s take 1 ms: all are there long before many have gone.
        for _ in range(20):
            for client in clients:
                client.send(bytes(1000))
        everything_went(server, 320)
        start = time.monotonic()
        stats = server.stats()
        assert stats.sent_packets + stats.dropped["impair_overflow"] == 320
        assert stats.sent_packets < 50 + 200, "four queues of 50 would have taken most of them"
        for client in clients[:8]:
            client.send(bytes(5000))
        everything_went(server, 328)
        assert time.monotonic() - start >= 0.040, "8 times 5 ms, one after the other"


def trace(seed: int, workers: int, count: int = 60, flows: int = 8) -> str:
    """What became of the datagrams of clients that come one after the other."""
    spec = f"in loss 10% 25%; out delay 1ms 1ms loss gemodel 5% 30% duplicate 10% seed {seed}"
    server = rsecho.UdpServer("127.0.0.1", workers=workers, recv_buffer_bytes=4 << 20)
    with server, contextlib.ExitStack() as stack:
        server.impair(f"{spec}", record=100_000)
        clients = []
        for _ in range(flows):
            client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            client.connect(server.address)
            clients.append(client)
            client.send(b"first")
            # Flows are numbered as they first appear.
            everything_went(server, len(clients))
        for _ in range(count):
            for client in clients:
                client.send(b"more")
        everything_went(server, flows * (count + 1))
        return server.impairment_trace()


def test_the_same_seed_gives_the_same_trace_with_any_number_of_workers() -> None:
    one = trace(7, 1)
    assert one.count("\n") > 900
    assert trace(7, 2) == one
    assert trace(7, 4) == one
    assert trace(8, 1) != one


def test_a_trace_can_be_read_and_replayed() -> None:
    requests = numbered(300)
    with impaired("") as (server, client):
        server.impair("loss 20% duplicate 20% corrupt 20% truncate 20%", record=10_000)
        first = replies(server, client, requests)
        text = server.impairment_trace()
        schema, *decisions = map(json.loads, text.splitlines())
        assert schema == {"schema": "rsecho.impair.trace/1"}
        # Of a duplicate that is lost nobody is told but the trace.
        lost = sum(d["lost"] for d in decisions if d["copy"] == 0)
        assert lost == server.stats().dropped["impair_lost"]
        server.impair("", replay=text)
        assert replies(server, client, requests) == first
        with pytest.raises(ValueError, match="line 2"):
            server.impair("", replay='{"schema":"rsecho.impair.trace/1"}\nnonsense\n')
        with pytest.raises(ValueError, match="1048576"):
            server.impair("loss 1%", record=2**20 + 1)
        server.impair("loss 1%", record=10)
        replies(server, client, numbered(20))
        with pytest.warns(RuntimeWarning, match="10 decisions .* had no room"):
            server.impairment_trace()


@pytest.mark.parametrize(
    "spec", ["loss 0%", "duplicate 0%", "corrupt 0%", "delay 0ms", "reorder 0% delay 0ms", ""]
)
def test_zero_percent_changes_nothing(spec: str) -> None:
    requests = numbered(500)
    with impaired(spec) as (server, client):
        assert replies(server, client, requests) == requests
        stats = server.stats()
        assert stats.sent_packets == 500 and not any(stats.dropped.values())
        assert stats.delayed_packets == stats.duplicated_packets == stats.corrupted_packets == 0


def test_a_whole_tc_line_pastes_in_and_the_seed_is_told(logged: Recorder) -> None:
    with impaired("tc qdisc add dev eth0 root netem delay 10ms loss 1%") as (server, _):
        again = server.impair("loss 1%")
        assert again.startswith("loss 1% seed ")
        assert server.impair(again) == again
    rsecho.flush_logs()
    assert logged.events(server.url).count("impaired") == 3


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("loss 120%", "from 0% to 100%"),
        ("loss", "loss"),
        ("dely 10ms", "dely"),
        ("reorder 10%", "delay"),
        ("slicer 100", "slicer"),
    ],
)
def test_a_spec_that_is_none_is_refused_in_one_line(spec: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        rsecho.UdpServer("127.0.0.1", impair=spec)
    assert "\n" not in str(caught.value)
    with rsecho.UdpServer("127.0.0.1", impair="loss 100%") as server:
        with pytest.raises(ValueError, match=why):
            server.impair(spec)
        with rsecho.UdpClient(*server.address, timeout=0.05) as client, pytest.raises(TimeoutError):
            client.request(b"the old one still holds")


def test_responders_are_impaired_as_well() -> None:
    with impaired("out duplicate 100%", responder=lambda data, _: data.upper()) as (_, client):
        client.send(b"twice")
        assert [client.recv(10), client.recv(10)] == [b"TWICE", b"TWICE"]


@pytest.mark.skipif(shutil.which("nping") is None, reason="needs nping (Nmap)")
def test_nping_sees_a_loss_of_10_percent() -> None:
    count = 1000
    with impaired("loss 10% seed 1") as (server, _):
        host, port = server.address
        words = f"--udp --unprivileged -c {count} --delay 1ms --data-length 32 -p {port} {host}"
        done = subprocess.run(
            ["nping", *words.split()],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        stats = server.stats()
    # "UDP packets sent: 1000 | Rcvd: 899 | Lost: 101 (10.10%)"
    line = next(line for line in done.stdout.splitlines() if "Rcvd:" in line)
    received = int(line.split("Rcvd:")[1].split("|")[0])
    # It does not wait for the replies to its last few.
    assert stats.received_packets == count and 0 <= stats.sent_packets - received < 50
    assert abs(count - received - 100) < 4 * math.sqrt(count * 0.1 * 0.9)


@contextlib.contextmanager
def toxic(spec: str, **options: Any) -> Iterator[tuple[rsecho.TcpServer, socket.socket]]:
    """A TCP server and a connection to it."""
    with (
        rsecho.TcpServer("127.0.0.1", impair=spec, **options) as server,
        socket.create_connection(server.address, PATIENCE) as stream,
    ):
        yield server, stream


def rest(stream: socket.socket) -> bytes:
    """All that still comes."""
    return b"".join(iter(lambda: stream.recv(65536), b""))


@pytest.mark.parametrize("engine", ENGINES)
def test_toxics_on_a_stream(engine: Any) -> None:
    with toxic("latency 30", engine=engine) as (server, stream):
        assert server.engine == {"batch": "epoll"}.get(engine, engine)
        start = time.monotonic()
        stream.sendall(b"x")
        assert stream.recv(10) == b"x"
        assert 0.030 <= time.monotonic() - start < 3
        # Changed while the connection is open, and the other way.
        server.impair("in limit_data 5")
        stream.sendall(b"0123456789")
        assert rest(stream) == b"01234"
    with toxic("bandwidth 100", engine=engine) as (_, stream):
        start = time.monotonic()
        stream.sendall(bytes(10_000))
        stream.shutdown(socket.SHUT_WR)
        assert len(rest(stream)) == 10_000
        assert 0.08 <= time.monotonic() - start < 5, "100 KB a second"
    with toxic("reset_peer 10", engine=engine) as (_, stream), pytest.raises(ConnectionResetError):
        stream.sendall(b"x")
        while stream.recv(10):
            pass
    with toxic("", engine=engine) as (server, stream):
        # Accepted by now: what still waits for that is refused as well.
        stream.sendall(b"in")
        assert stream.recv(10) == b"in"
        server.impair("refuse")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address, PATIENCE)
        stream.sendall(b"who is in stays in")
        assert stream.recv(100) == b"who is in stays in"
        assert server.impair() == ""
        with socket.create_connection(server.address, PATIENCE) as again:
            again.sendall(b"open")
            assert again.recv(10) == b"open"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("loss 10%", "the stream would only be late"),
        ("duplicate 10%", "nobody would see it"),
        ("delay 1ms reorder 10%", "the stream would only be late"),
        ("latency fast", "latency must follow"),
    ],
)
def test_what_makes_no_sense_on_a_stream_is_refused_with_the_reason(spec: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        rsecho.TcpServer("127.0.0.1", impair=spec)
    assert "\n" not in str(caught.value)
    with rsecho.TcpServer("127.0.0.1") as server, pytest.raises(ValueError, match=why):
        server.impair(spec)
    with rsecho.TcpServer("127.0.0.1") as server, pytest.raises(ValueError, match="datagram"):
        server.impair("latency 1", record=10)
