"""What `rsecho serve` prints for people and for programs, while it runs and at its end."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, Serving, clean_environment, serving
from rsecho.cli.interval import between
from rsecho.stats import TcpStats, UdpStats

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
    assert one("received", udp)["length"] == 4
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
        assert all("received 0 packets/s" in line or "accepted 0" in line for line in found)
    assert server.status == 0


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
