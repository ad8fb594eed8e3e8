"""What `rsecho serve` prints for people and for programs, while it runs and at its end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, Serving, clean_environment, serving
from rsecho import transfer
from rsecho.cli.interval import between
from rsecho.stats import TcpStats, UdpStats

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = ("--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0")


def exchange(server: Serving) -> None:
    with package.UdpClient(*server.address("udp"), timeout=PATIENCE) as client:
        client.request(b"data")
    with package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as stream:
        stream.request(b"stream")


def lines_until(server: Serving, *wanted: str) -> list[str]:
    """Lines of standard output until each of these has been the beginning of one."""
    assert server.process.stdout is not None
    found: list[str] = []
    missing = set(wanted)
    while missing:
        found.append(server.process.stdout.readline())
        assert found[-1], f"it has ended without {missing}"
        missing -= {each for each in missing if found[-1].startswith(each)}
    return found


def test_on_a_terminal_plain_serve_is_ready_within_eight_lines() -> None:
    own, other = pty.openpty()
    with subprocess.Popen(
        [RSECHO, "serve", "--udp", "0", "--tcp", "0"],
        stdin=other,
        stdout=other,
        stderr=other,
        env=clean_environment(None),
    ) as process:
        os.close(other)
        shown = b""
        deadline = time.monotonic() + PATIENCE
        while b"rsecho ready" not in shown:
            assert select.select([own], [], [], deadline - time.monotonic())[0]
            shown += os.read(own, 4096)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        # Log lines come a moment later than what is printed.
        while select.select([own], [], [], 0.1)[0]:
            try:
                shown += os.read(own, 4096)
            except OSError:
                break
    os.close(own)
    before, _, after = shown.decode().partition("rsecho ready")
    assert len(before.splitlines()) <= 7
    assert before.count("rsecho listening ") == 4
    # Each total once, and nothing else.
    totals = after.strip().splitlines()
    assert [line.split()[:2] for line in totals] == [["rsecho", "totals"]] * 4
    # Nothing came: it fits a line each.
    assert max(map(len, totals)) <= 80
    assert "SO_RCVBUF" not in shown.decode()


def test_buffers_are_told_at_debug_with_the_name_of_their_listener() -> None:
    with serving("--udp", "127.0.0.1:0", "--log-level", "debug") as server:
        pass
    url = re.escape(server.urls[0])
    assert re.search(rf"DEBUG .*{url} SO_RCVBUF is \d+ bytes", server.errors)


def test_a_buffer_that_was_cut_is_a_warning_with_the_name_of_its_listener() -> None:
    with serving("--udp", "127.0.0.1:0", "--recv-buffer", "1G") as server:
        pass
    url = re.escape(server.urls[0])
    assert re.search(rf"WARNING .*{url}: SO_RCVBUF: .*1073741824", server.errors)


def test_json_log_lines_carry_their_numbers_as_fields() -> None:
    with serving(*LOOPBACK, "--log-format", "json", "--log-level", "debug") as server:
        exchange(server)
    lines = [json.loads(line) for line in server.errors.splitlines()]
    udp, tcp = server.urls

    def one(event: str, url: str) -> dict[str, object]:
        found = [line for line in lines if line["event"] == event and line["server"] == url]
        assert found, event
        return dict(found[0])

    assert one("listening", udp)["engine"] in ("batch", "portable")
    assert isinstance(one("buffer", udp)["effective_bytes"], int)
    assert one("received", udp)["length_bytes"] == 4
    stopped = one("stopped", udp)
    assert (stopped["reason"], stopped["received_packets"], stopped["sent_bytes"]) == (
        "stopped",
        1,
        4,
    )
    assert stopped["dropped"] == {}
    stopped = one("stopped", tcp)
    assert (stopped["accepted_connections"], stopped["received_bytes"]) == (1, 6)
    assert stopped["closed"] == {"peer": 1}
    closed = one("closed", tcp)
    assert (closed["reason"], closed["received_bytes"], closed["sent_bytes"]) == ("peer", 6, 6)


def test_json_log_lines_about_guards_and_impairments_carry_theirs() -> None:
    limits = ("--rate-limit", "50", "--connection-rate-limit", "0.01:1", "--deny", "127.0.0.2")
    more = ("--impair-udp", "delay 1ms seed 7", "--log-format", "json")
    with serving("--udp", "0.0.0.0:0", "--tcp", "0.0.0.0:0", *limits, *more) as server:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.2", 0))
            client.sendto(b"denied", ("127.0.0.1", server.address("udp", "0.0.0.0")[1]))
            denied = client.getsockname()[1]
        for number in range(3):
            with socket.create_connection(
                ("127.0.0.1", server.address("tcp", "0.0.0.0")[1]), PATIENCE
            ) as client:
                client.sendall(b"hello")
                if number:
                    with contextlib.suppress(ConnectionResetError):
                        assert client.recv(5) == b""
                else:
                    assert client.recv(5) == b"hello"
    found: dict[tuple[str, str], list[dict[str, object]]] = {}
    for line in map(json.loads, server.errors.splitlines()):
        found.setdefault((line["event"], line["server"][:3]), []).append(line)

    def has(event: str, protocol: str, **parts: object) -> bool:
        return any(parts.items() <= line.items() for line in found[event, protocol])

    assert has("guards", "udp", rate_per_source=50.0, loop_guard=True, answer_service_ports=False)
    assert "rate_total" not in found["guards", "udp"][0]
    assert has("guards", "tcp", connection_rate_per_source=0.01, connections_per_source=4096)
    assert has("guards", "tcp", idle_timeout_ns=3_600_000_000_000)
    assert has("impaired", "udp", impair="delay 1ms seed 7")
    assert found["dropped", "udp"][0]["dropped"] == {"denied": 1}
    assert has("dropped", "udp", packets=1, peer=f"127.0.0.2:{denied}")
    refused = found["refused", "tcp"]
    assert sum(int(str(line["connections"])) for line in refused) == 2
    assert sum(int(str(line["refused_by_rate"])) for line in refused) == 2
    assert all(line["refused_by_source"] == line["denied_connections"] == 0 for line in refused)
    assert all(str(line["peer"]).startswith("127.0.0.1:") for line in refused)


def test_json_log_lines_about_files_carry_their_numbers(tmp_path: Path) -> None:
    store, file = tmp_path / "store", tmp_path / "a file"
    store.mkdir()
    file.write_bytes(b"x" * 5000)
    arguments = ("--udp", "127.0.0.1:0", "--transfer", str(store), "--log-format", "json")
    with serving(*arguments) as server, transfer.Client(*server.address("udp")) as client:
        client.send(file)
        file.write_bytes(b"y")
        with pytest.raises(package.TransferError):
            client.send(file)
    lines = [json.loads(line) for line in server.errors.splitlines()]
    received, refused = (line for line in lines if line["event"] == "transfer")
    assert (received["file_name"], received["length_bytes"]) == ("a file", 5000)
    assert received["duration_ns"] > 0 and "reason" not in received
    assert refused["file_name"] == "a file" and refused["reason"] == "exists"
    assert refused["peer"] == received["peer"]


def test_why_a_listener_ended_is_logged_without_its_counters() -> None:
    with serving("--udp", "127.0.0.1:0", "--idle-timeout", "100ms") as server:
        server.process.wait(PATIENCE)
    (line,) = server.errors.splitlines()
    assert line.endswith(f"stopped {server.urls[0]}: idle timeout: nothing was received")
    assert server.output[-1].split()[-2:] == ["ended=idle", "received_packets=0"]


def test_memory_for_messages_does_not_limit_files(tmp_path: Path) -> None:
    with serving("--udp", "127.0.0.1:0", "--transfer", str(tmp_path), "--max-total", "5M"):
        pass


def test_statistics_come_at_their_interval() -> None:
    with serving(*LOOPBACK, "--stats", "200ms", "--jsonl") as server:
        assert server.process.stdout is not None
        exchange(server)
        received = {"udp": 0, "tcp": 0}
        times: list[int] = []
        while received != {"udp": 4, "tcp": 6} or len(times) < 6:
            document = json.loads(server.process.stdout.readline())
            assert (document["event"], document["schema"]) == ("stats", "rsecho.serve.event/1")
            received[document["url"][:3]] += document["received_bytes"]
            times.append(document["interval_ns"])
    assert min(times) > 150_000_000 and max(times) < 2_000_000_000


def test_sigusr1_prints_statistics_once_for_each_listener() -> None:
    with serving(*LOOPBACK, "--deny", "127.0.0.2") as server:
        exchange(server)
        server.process.send_signal(signal.SIGUSR1)
        found = lines_until(server, *(f"rsecho stats {url} in " for url in server.urls))
        assert len(found) == 2
        server.process.send_signal(signal.SIGUSR1)
        found = lines_until(server, *(f"rsecho stats {url} in " for url in server.urls))
        # What was told is not told again.
        assert all(line.endswith(" s: nothing happened\n") for line in found)
    assert server.status == 0


def test_statistics_tell_of_connections_that_were_closed_at_once() -> None:
    with serving("--tcp", "127.0.0.1:0", "--deny", "127.0.0.2") as server:
        with socket.create_connection(server.address("tcp"), PATIENCE, ("127.0.0.2", 0)) as client:
            assert client.recv(1) == b""
        server.process.send_signal(signal.SIGUSR1)
        (line,) = lines_until(server, f"rsecho stats {server.urls[0]} in ")
    assert line.endswith(", closed at once 1 (denied_connections 1)\n")


def test_with_one_document_statistics_are_on_standard_error() -> None:
    with subprocess.Popen(
        [RSECHO, "serve", "--udp", "127.0.0.1:0", "--json", "--stats", "100ms"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(None),
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("rsecho stats udp://127.0.0.1:"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert json.loads(output)["schema"] == "rsecho.serve/1"


def test_a_hang_up_of_the_terminal_drains() -> None:
    with serving(*LOOPBACK) as server:
        exchange(server)
        server.end(signal.SIGHUP)
    assert server.status == 0
    assert "received_packets=1" in server.output[0]


def test_nohup_keeps_it_running() -> None:
    with serving(*LOOPBACK, prefix=("nohup",)) as server:
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        exchange(server)
    assert server.status == 0


def test_an_interval_is_the_difference_of_two_moments() -> None:
    before = UdpStats(received_packets=5, received_bytes=50, dropped={"denied": 3}, kernel_drops=1)
    after = UdpStats(
        received_packets=25,
        received_bytes=2098,
        sent_packets=1,
        pending_packets=2,
        dropped={"denied": 3, "rate_limited": 7},
        kernel_drops=2,
    )
    interval = between(before, after, 2_000_000_000)
    assert str(interval) == (
        "in 2.0 s: received 10 packets/s, 1 KiB/s in, sent 0.5 packets/s, 0 B/s out, 2 held back, "
        "1 dropped by the kernel, dropped 7 (rate_limited 7)"
    )
    document = interval.document()
    assert (document["received_packets"], document["pending_packets"]) == (20, 2)
    assert document["dropped"] == {"rate_limited": 7}


@pytest.mark.parametrize(("closed", "told"), [({}, ""), ({"idle": 2}, ", closed 2 (idle 2)")])
def test_an_interval_of_a_tcp_server(closed: dict[str, int], told: str) -> None:
    after = TcpStats(accepted_connections=300, active_connections=4, closed=closed)
    text = str(between(TcpStats(), after, 1_000_000_000))
    assert text == f"in 1.0 s: accepted 300 connections/s, 0 B/s in, 0 B/s out, 4 open{told}"
