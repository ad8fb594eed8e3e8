"""Each flag of `rsecho serve` and `send` that others do not test, by what it brings about."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, Serving, clean_environment, rsecho, serving
from support import until

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def options(*words: str) -> dict[str, Any]:
    """What the sockets of each protocol got: those of `rsecho serve --json` at its end."""
    listeners = ["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [RSECHO, "serve", "--json", *(words if "--udp" in words else (*listeners, *words))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        assert process.stderr is not None
        errors = []
        for line in process.stderr:
            errors.append(line)
            if line == "rsecho ready\n":
                process.send_signal(signal.SIGINT)
                break
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    servers = json.loads(output)["servers"]
    return {server["url"].partition(":")[0]: server["options"] for server in servers}


@needs_linux
def test_flags_reach_the_sockets_of_their_protocol() -> None:
    found = options(
        *("--recv-buffer", "64K", "--send-buffer", "32K", "--reuse-port", "--ttl", "9"),
        *("--dscp", "46", "--timeout", "2s", "--bind-to-device", "lo", "--backlog", "5"),
        *("--delay", "--keep-alive", "30s,5s,3", "--linger", "0", "--congestion", "reno"),
    )
    for protocol in ("udp", "tcp"):
        got = {name: line["effective"] for name, line in found[protocol].items()}
        assert (got["recv_buffer_bytes"], got["send_buffer_bytes"]) == (128 << 10, 64 << 10)
        assert (got["reuse_port"], got["ttl"], got["dscp"]) == (True, 9, 46)
        assert (got["recv_timeout"], got["send_timeout"]) == (2.0, 2.0)
        assert got["bind_to_device"] == "lo"
    assert (got["no_delay"], got["backlog"], got["congestion"]) == (False, 5, "reno")
    assert (got["keep_alive"], got["keep_alive_idle"]) == (True, 30.0)
    assert (got["keep_alive_interval"], got["keep_alive_count"]) == (5.0, 3)
    assert found["tcp"]["linger"]["requested"] == 0.0


def test_flags_that_turn_on_and_off() -> None:
    for words, udp, tcp in (
        ([], False, True),
        (["--reuse-address"], True, True),
        (["--no-reuse-address"], False, False),
    ):
        found = options(*words)
        assert found["udp"]["reuse_address"]["effective"] is udp, words
        assert found["tcp"]["reuse_address"]["effective"] is tcp, words
    for words, wanted in ((["--ipv6-only"], True), (["--dual-stack"], False)):
        assert options("--udp", "[::]:0", *words)["udp"]["ipv6_only"]["effective"] is wanted


@needs_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="passing the ceiling needs CAP_NET_ADMIN")
def test_force_buffers_passes_the_ceiling() -> None:
    limit = package.kernel_limits().udp_recv_buffer_max_bytes
    if limit is None or limit.value > 1 << 28:
        return
    asked = limit.value + 4096
    line = options("--recv-buffer", str(asked), "--force-buffers")["udp"]["recv_buffer_bytes"]
    assert line["effective"] == 2 * asked


def workers(server: Serving) -> dict[str, str]:
    """The CPUs that each worker may use, by the thread's name."""
    found = {}
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        if status["Name"].startswith("rsecho-udp"):
            found[status["Name"]] = status["Cpus_allowed_list"]
    return found


@needs_linux
def test_workers_and_cpus() -> None:
    cpu = str(max(os.sched_getaffinity(0)))
    with serving("--udp", "127.0.0.1:0", "--workers", "2", "--cpus", cpu) as server:
        until(lambda: workers(server) == {"rsecho-udp-0": cpu, "rsecho-udp-1": cpu})


@needs_linux
def test_a_busy_wait_takes_a_core() -> None:
    def cpu_seconds() -> float:
        text = Path(f"/proc/{server.process.pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")

    with serving("--udp", "127.0.0.1:0", "--wait", "busy") as server:
        before = cpu_seconds()
        until(lambda: cpu_seconds() > before + 0.2)


def test_max_datagram_and_log_payload() -> None:
    words = "--udp", "127.0.0.1:0", "--max-datagram", "4", "--log-payload", "2"
    with (
        serving(*words, "--log-level", "debug") as server,
        package.UdpClient(*server.address("udp"), timeout=PATIENCE) as client,
    ):
        assert client.request(b"12345678") == b"1234"
    assert '"12" (2 of 4 bytes)' in server.errors


def test_max_connections() -> None:
    with serving("--tcp", "127.0.0.1:0", "--max-connections", "1") as server:
        address = server.address("tcp")
        with package.TcpClient(*address, timeout=PATIENCE) as first:
            first.request(b"served")
            with package.TcpClient(*address, timeout=0.2) as second, pytest.raises(TimeoutError):
                second.request(b"waits")
            first.finish()
            assert first.receive() == b""
        with package.TcpClient(*address, timeout=PATIENCE) as third:
            assert third.request(b"served") == b"served"


@pytest.mark.parametrize(
    ("words", "environment", "reason"),
    [
        (("--max-connection-time", "300ms"), {}, "expired"),
        (("--min-rate", "1K", "--min-rate-window", "300ms"), {}, "slow"),
        ((), {"RSECHO_MAX_CONNECTION_TIME": "300ms"}, "expired"),
        ((), {"RSECHO_MIN_RATE": "1K", "RSECHO_MIN_RATE_WINDOW": "300ms"}, "slow"),
        (("--max-connection-time", "0", "--min-rate", "0"), {}, None),
    ],
)
def test_f31_whoever_drips_leaves_its_place(
    words: tuple[str, ...], environment: dict[str, str], reason: str | None
) -> None:
    limits = "--max-connections", "1", *words
    with (
        serving("--tcp", "127.0.0.1:0", *limits, env=environment) as server,
        socket.create_connection(server.address("tcp")) as slow,
    ):
        slow.settimeout(PATIENCE)
        start, is_over = time.monotonic(), False
        while not is_over and time.monotonic() - start < (PATIENCE if reason else 1):
            try:
                slow.send(b"s")
                is_over = slow.recv(10) == b""
            except ConnectionError:
                is_over = True
            time.sleep(0.02)
        assert is_over == (reason is not None)
        if reason:
            with package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as fresh:
                assert fresh.request(b"served") == b"served"
    if reason:
        assert any(f" closed.{reason}=" in line for line in server.output)


def test_a_family_by_itself() -> None:
    for flag, host in (("-4", "127.0.0.1"), ("--ipv6", "[::1]")):
        with serving("--udp", "localhost:0", flag) as server:
            assert [url.rpartition(":")[0] for url in server.urls] == [f"udp://{host}"]


def test_send_shows_so_much_and_waits_in_between() -> None:
    with package.UdpServer("127.0.0.1") as server:
        host, port = server.address
        start = time.monotonic()
        words = "--count", "3", "--interval", "100ms", "--show", "2"
        done = rsecho("send", f"{host}:{port}", "12345678", *words)
        assert time.monotonic() - start >= 0.2
    assert done.stdout.count(b'equal: "12" (2 of 8 bytes)') == 3


def test_descriptors_for_another_process_are_left_alone() -> None:
    # sd_listen_fds(3): LISTEN_PID says whose they are. Ours has no descriptor 3 to serve on.
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    with serving("--udp", "127.0.0.1:0", env=environment) as server:
        assert len(server.urls) == 1


def dropped(server: Serving) -> dict[str, int]:
    """What a UDP server that has ended did not answer, by reason."""
    server.end()
    found: dict[str, int] = server.totals[0]["stats"]["dropped"]
    return {reason: count for reason, count in found.items() if count}


def ask(server: Serving, times: int, source: str = "127.0.0.1") -> None:
    """Asks and waits for no answer, but for the one that says that all have come."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        for number in range(times):
            client.sendto(b"hello %d" % number, server.address("udp"))


def test_allow_and_deny_from_the_command_line_and_the_environment() -> None:
    words = "--udp", "127.0.0.1:0", "--jsonl"
    flags = "--allow", "127.0.0.0/29", "--allow", "127.1.0.0/16", "--deny", "127.0.0.2"
    environment = {"RSECHO_ALLOW": "127.0.0.0/29 127.1.0.0/16", "RSECHO_DENY": "127.0.0.2"}
    for more, env in ((flags, {}), ((), environment)):
        with serving(*words, *more, env=env) as server:
            for source in ("127.0.0.2", "127.0.0.8", "127.0.0.1", "127.1.2.3"):
                ask(server, 1, source)
            assert dropped(server) == {"denied": 2}


def test_rate_limits() -> None:
    words = "--udp", "127.0.0.1:0", "--jsonl"
    for more, env, wanted in (
        (("--rate-limit", "0.01:4"), {}, {"rate_limited": 6}),
        (("--rate-limit-total", "0.01:4"), {}, {"rate_limited_total": 6}),
        ((), {"RSECHO_RATE_LIMIT": "0.01"}, {"rate_limited": 5}),
        ((), {"RSECHO_RATE_LIMIT_TOTAL": "0.01"}, {"rate_limited_total": 5}),
    ):
        with serving(*words, *more, env=env) as server:
            ask(server, 10)
            assert dropped(server) == wanted
    done = rsecho("serve", *words, "--rate-limit", "1e3")
    assert (done.returncode, b"is not a rate" in done.stderr) == (2, True)


def test_connections_per_source() -> None:
    words = "--tcp", "127.0.0.1:0", "--max-connections-per-source", "1", "--jsonl"
    with serving(*words) as server:
        with package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as first:
            first.request(b"served")
            with (
                package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as second,
                pytest.raises((package.EndOfStreamError, ConnectionError)),
            ):
                second.request(b"refused")
        server.end()
        assert server.totals[0]["stats"]["refused_by_source"] == 1


def test_connections_per_second() -> None:
    words = "--tcp", "127.0.0.1:0", "--connection-rate-limit", "0.01:2", "--jsonl"
    with serving(*words) as server:
        with (
            package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as first,
            package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as second,
        ):
            assert (first.request(b"one"), second.request(b"two")) == (b"one", b"two")
        with (
            package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as third,
            pytest.raises((package.EndOfStreamError, ConnectionError)),
        ):
            third.request(b"refused")
        server.end()
        assert server.totals[0]["stats"]["refused_by_rate"] == 1


def test_one_rate_for_each_protocol() -> None:
    words = "--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--jsonl"
    limits = "--rate-limit", "0.01:4", "--connection-rate-limit", "0.01:1"
    with serving(*words, *limits) as server:
        with package.TcpClient(*server.address("tcp"), timeout=PATIENCE) as client:
            assert client.request(b"served") == b"served"
        ask(server, 10)
        assert dropped(server) == {"rate_limited": 6}


def test_guards_that_are_told_at_the_start() -> None:
    words = "--udp", "0.0.0.0:0", "--tcp", "0.0.0.0:0"
    off = "--answer-service-ports", "--no-loop-guard", "--idle-timeout", "0", "--timeout", "0"
    for more, env, told in (
        (
            (),
            {},
            ("answers no service ports, ends echo loops", "after 3600 s, stalled ones after 60 s"),
        ),
        (off, {}, ("answers service ports, does not end echo loops", "never, stalled ones never")),
        ((), {"RSECHO_LOOP_GUARD": "0"}, ("does not end echo loops", "at most 4096 connections")),
        (("--max-connections-per-source", "0"), {}, ("any number of connections",)),
    ):
        with serving(*words, *more, env=env) as server:
            pass
        assert all(words in server.errors for words in told), server.errors


def test_guards_that_can_never_work() -> None:
    for words in (
        ("--allow", "10.0.0.0/40"),
        ("--deny", "somewhere"),
        ("--max-amplification", "0.5"),
        ("--rate-limit", "0"),
        ("--rate-limit", "5:0"),
        ("--max-connections-per-source", "-1"),
    ):
        done = rsecho("serve", "--udp", "127.0.0.1:0", *words)
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr
