"""`rsecho serve` as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, Serving, clean_environment, rsecho, serving


def ask_udp(address: tuple[str, int], data: bytes) -> bytes:
    with package.UdpClient(*address, timeout=PATIENCE) as client:
        return client.request(data)


def ask_tcp(address: tuple[str, int], data: bytes) -> bytes:
    with package.TcpClient(*address, timeout=PATIENCE) as client:
        return client.request(data)


def test_serves_udp_and_tcp_on_both_families_of_localhost() -> None:
    with serving("--udp", "0", "--tcp", "0") as server:
        assert len(server.urls) == 4
        for host in ("127.0.0.1", "::1"):
            assert ask_udp(server.address("udp", host), b"data") == b"data"
            assert ask_tcp(server.address("tcp", host), b"data") == b"data"
        # One port a protocol, for both families.
        assert server.address("udp")[1] == server.address("udp", "::1")[1]
    assert server.status == 0
    totals = [line for line in server.output if line.startswith("rsecho totals udp://127.0.0.1:")]
    assert "received_packets=1 received_bytes=4 sent_packets=1 sent_bytes=4" in totals[0]


def test_the_default_is_port_9999_with_udp_and_tcp() -> None:
    text = rsecho("serve", "--help").stdout.decode()
    assert "localhost:9999" in text
    with contextlib.ExitStack() as stack:
        # Another test run, or a user's own server, may have it: then it says so.
        try:
            server = stack.enter_context(serving())
        except AssertionError as error:
            assert "address already in use" in str(error)
        else:
            wanted = [f"{p}://{h}:9999" for p in ("udp", "tcp") for h in ("127.0.0.1", "[::1]")]
            assert server.urls == wanted


def test_every_listener_is_one_flushed_line_and_then_ready() -> None:
    with subprocess.Popen(
        [RSECHO, "serve", "--udp", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    head, _, port = first.rstrip().rpartition(":")
    assert head == "rsecho listening udp://127.0.0.1"
    assert int(port) > 0
    assert second == "rsecho ready\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f46_a_signal_under_load_drains_and_ends_with_status_0(number: signal.Signals) -> None:
    with serving("--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--jsonl") as server:
        stop = threading.Event()
        served = threading.Barrier(3)
        threads = [
            threading.Thread(target=load, args=(ask, server.address(protocol), stop, served))
            for protocol, ask in (("udp", udp_load), ("tcp", tcp_load))
        ]
        for thread in threads:
            thread.start()
        served.wait(PATIENCE)
        start = time.monotonic()
        server.end(number)
        assert time.monotonic() - start < 5
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert server.status == 0
    assert len(server.totals) == 2
    assert all(totals["ended"] == "stopped" for totals in server.totals)
    udp = server.totals[0]["stats"]
    assert udp["received_packets"] == udp["sent_packets"] + sum(udp["dropped"].values())


def load(
    ask: object, address: tuple[str, int], stop: threading.Event, served: threading.Barrier
) -> None:
    assert callable(ask)
    with contextlib.suppress(OSError, EOFError):
        ask(address, stop, served)


def udp_load(address: tuple[str, int], stop: threading.Event, served: threading.Barrier) -> None:
    with package.UdpClient(*address, timeout=1) as client:
        client.request(b"first")
        served.wait(PATIENCE)
        while not stop.is_set():
            client.send(b"x" * 500)


def tcp_load(address: tuple[str, int], stop: threading.Event, served: threading.Barrier) -> None:
    with package.TcpClient(*address, timeout=1) as client:
        client.request(b"first")
        served.wait(PATIENCE)
        while not stop.is_set():
            client.request(b"x" * 50_000)


def test_f46_a_second_signal_ends_it_now() -> None:
    with (
        serving("--tcp", "127.0.0.1:0", "--drain-timeout", "1h") as server,
        socket.create_connection(server.address("tcp"), PATIENCE) as peer,
    ):
        # A peer that sends and never reads: draining it takes for ever, once every buffer on
        # the way is full and not just its own.
        peer.setblocking(False)
        while select.select([], [peer], [], 0.5)[1]:
            peer.send(b"x" * 65536)
        server.process.send_signal(signal.SIGINT)
        # Until it listens no more it may take both signals for one.
        deadline = time.monotonic() + PATIENCE
        while accepts(server.address("tcp")):
            assert time.monotonic() < deadline
        assert server.process.poll() is None
        start = time.monotonic()
        server.end(signal.SIGINT)
        assert time.monotonic() - start < 5
    assert server.status == 128 + signal.SIGINT


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, PATIENCE).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["serve", "--udp", "65536"], "0 to 65535"),
        (["serve", "--tcp", "127.0.0.1:99999"], "0 to 65535"),
        (["serve", "--udp", "a" * 64 + ".example:7"], "63"),
        (["serve", "--udp", "no-such-host.invalid:7"], "no-such-host.invalid"),
        (["serve", "-4", "--udp", "[::1]:0"], "no IPv4 address"),
        (["send", "[::1]:7", "-4"], "no IPv4 address"),
        (["send", "no-such-host.invalid:7"], "no-such-host.invalid"),
        (["send", "localhost:65536"], "0 to 65535"),
        (["send", "a" * 64 + ":7"], "63"),
        (["serve", "-4", "-6"], "exclude"),
        (["serve", "--recv-buffer", "many"], "many"),
        (["serve", "--dscp", "64"], "64"),
        (["serve", "--udp", "[fe80::1]:0"], "fe80::1%"),
        (["serve", "--unpack", "I"], "native"),
        (["nonesuch"], "nonesuch"),
    ],
)
def test_f47_what_cannot_be_used_is_one_line_and_status_2(words: list[str], cause: str) -> None:
    done = rsecho(*words)
    text = done.stderr.decode()
    assert done.returncode == 2, text
    assert text.count("\n") == 1, text
    assert cause in text
    assert "Traceback" not in text
    assert done.stdout == b""


def test_f48_a_port_in_use_says_so_and_gives_the_way_out() -> None:
    for protocol, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if protocol == "tcp":
                taken.listen()
            port = taken.getsockname()[1]
            done = rsecho("serve", f"--{protocol}", f"127.0.0.1:{port}", "--log-level", "error")
        text = done.stderr.decode()
        assert done.returncode == 3, text
        assert text.count("\n") == 1
        assert f"{protocol}://127.0.0.1:{port}" in text
        assert "already in use" in text
        assert "another port" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the right up")
def test_f48_a_port_below_1024_without_the_right_says_so_and_gives_the_way_out() -> None:
    # Where a sysctl has opened all ports there is no such right to lack.
    limit = package.kernel_limits().unprivileged_port_start
    if limit is None or limit.value <= 1:
        return
    # Out of the bounding set, exec gives it to nobody: prctl(2), capabilities(7).
    script = (
        "import ctypes, os, sys; PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10;"
        "assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0) == 0;"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    words = [RSECHO, "serve", "--udp", "127.0.0.1:1", "--log-level", "error"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "permission denied" in done.stderr
    assert "CAP_NET_BIND_SERVICE" in done.stderr


def test_options_come_from_the_line_the_environment_the_file_and_the_default_in_this_order(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text('[serve]\nudp = "127.0.0.1:0"\nrecv-buffer = "64K"\ndscp = 8\nttl = 8\n')

    def effective(*options: str, env: dict[str, str]) -> list[object]:
        script = "--log-level", "error", "--json"
        with subprocess.Popen(
            [RSECHO, "--config", str(file), "serve", *script, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(env),
            text=True,
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line == "rsecho ready\n":
                    break
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
        found = json.loads(output)
        assert found["schema"] == "rsecho.serve/1"
        options_found = found["servers"][0]["options"]
        return [options_found[name]["requested"] for name in ("recv_buffer_bytes", "dscp", "ttl")]

    env = {"RSECHO_DSCP": "16", "RSECHO_TTL": "16"}
    assert effective("--ttl", "24", env=env) == [65536, 16, 24]
    assert effective(env={}) == [65536, 8, 8]


def test_a_configuration_with_an_unknown_option_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text("[serve]\nrecieve-buffer = 1\n")
    done = rsecho("--config", str(file), "serve")
    assert done.returncode == 2
    assert b"recieve-buffer" in done.stderr


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('cpus = ["a"]', "is not a list of CPUs"),
        ("drain_timeout = -1", "is not a duration"),
        ("drain_timeout = nan", "is not a duration"),
        ("idle_timeout = inf", "is not a duration"),
        ("idle_timeout = true", "idle_timeout is true; write seconds"),
        ("recv_buffer = -5", "is not a size"),
    ],
)
def test_a_configuration_with_a_value_that_cannot_be_is_one_line(
    tmp_path: Path, line: str, rule: str
) -> None:
    file = tmp_path / "rsecho.toml"
    file.write_text(f"[serve]\n{line}\n")
    # It would end at once, were the value taken.
    done = rsecho("--config", str(file), "serve", "--udp", "127.0.0.1:0", "--tcp", "192.0.2.1:0")
    assert done.returncode == 2
    assert rule.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_configuration_may_list_cpus(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    file = tmp_path / "rsecho.toml"
    file.write_text(f'[serve]\nudp = "127.0.0.1:0"\ncpus = [{cpu}]\nidle-timeout = 0.05\n')
    assert rsecho("--config", str(file), "serve").returncode == 0


def test_all_records_are_printed_before_the_totals() -> None:
    options = "--udp", "127.0.0.1:0", "--unpack", "!I", "--jsonl", "--log-level", "error"
    with serving(*options) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(server.address("udp"))
            peer.settimeout(PATIENCE)
            for number in range(0, 3000, 100):
                # In groups that the peer's own receive buffer holds.
                for each in range(number, number + 100):
                    peer.send(struct.pack("!I", each))
                for _ in range(100):
                    peer.recv(4)
        server.end()
    events = [json.loads(line)["event"] for line in server.output]
    assert events == ["record"] * 3000 + ["totals"]


def test_debug_shows_each_datagram_received_from_whom_what_and_sent() -> None:
    with serving("--udp", "127.0.0.1:0", "--log-level", "debug") as server:
        ask_udp(server.address("udp"), b"hello\x1b[31m\r\n\xff")
    lines = [line for line in server.errors.splitlines() if "rsecho.access" in line]
    assert len(lines) == 2
    assert "received 13 bytes from 127.0.0.1:" in lines[0]
    assert r'"hello\x1b[31m\r\n\xff"' in lines[0]
    assert "sent 13 bytes to 127.0.0.1:" in lines[1]


def test_json_logs_are_one_object_a_line() -> None:
    options = "--log-level", "debug", "--log-format", "json"
    with serving("--udp", "127.0.0.1:0", *options) as server:
        ask_udp(server.address("udp"), b"data")
    documents = [json.loads(line) for line in server.errors.splitlines()]
    received = next(line for line in documents if line.get("event") == "received")
    assert received["length_bytes"] == 4
    assert isinstance(received["time_ns"], int)


@pytest.mark.parametrize("kind", ["toml", "json", "ini"])
def test_logging_may_be_configured_by_a_file(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out.log"
    table = {
        "formatters": {"plain": {"format": "%(name)s|%(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": str(target), "formatter": "plain"}
        },
        "loggers": {"rsecho.access": {"level": "DEBUG", "handlers": ["file"]}},
    }
    file = tmp_path / f"logging.{kind}"
    if kind == "json":
        file.write_text(json.dumps(table))
    elif kind == "toml":
        file.write_text(
            f'[formatters.plain]\nformat = "%(name)s|%(message)s"\n'
            f'[handlers.file]\nclass = "logging.FileHandler"\nfilename = "{target}"\n'
            'formatter = "plain"\n'
            '[loggers."rsecho.access"]\nlevel = "DEBUG"\nhandlers = ["file"]\n'
        )
    else:
        file.write_text(
            "[loggers]\nkeys=root,access\n[handlers]\nkeys=file\n[formatters]\nkeys=plain\n"
            "[formatter_plain]\nformat=%(name)s|%(message)s\n"
            f"[handler_file]\nclass=FileHandler\nargs=({str(target)!r},)\nformatter=plain\n"
            "[logger_root]\nlevel=WARNING\nhandlers=\n"
            "[logger_access]\nlevel=DEBUG\nhandlers=file\nqualname=rsecho.access\n"
        )
    with serving("--udp", "127.0.0.1:0", "--log-config", str(file)) as server:
        ask_udp(server.address("udp"), b"data")
    assert "rsecho.access|udp://127.0.0.1" in target.read_text()


def test_a_logging_configuration_that_does_not_parse_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "logging.toml"
    file.write_text("handlers = 1\n")
    done = rsecho("serve", "--udp", "127.0.0.1:0", "--log-config", str(file))
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_records_are_decoded_printed_and_echoed_and_misfits_counted() -> None:
    record = struct.pack("! I 2s Q 2h f", 7, b"ab", 1 << 40, -1, 2, 0.5)
    options = "--unpack", "! I 2s Q 2h f", "--names", "id tag stamp a b ratio", "--jsonl"
    with serving("--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", *options) as server:
        assert ask_udp(server.address("udp"), record) == record
        assert ask_udp(server.address("udp"), b"short") == b"short"
        assert ask_tcp(server.address("tcp"), record * 2 + b"rest") == record * 2 + b"rest"
    fields = {"id": 7, "tag": "6162", "stamp": 1 << 40, "a": -1, "b": 2, "ratio": 0.5}
    assert server.records == [fields] * 3
    udp, tcp = (totals["stats"] for totals in server.totals)
    assert (udp["records"], udp["unfit_records"]) == (1, 1)
    assert (tcp["records"], tcp["unfit_records"]) == (2, 1)
    assert "expected 22 bytes, received 5" in server.errors


def test_an_idle_server_ends_by_itself() -> None:
    with serving("--udp", "127.0.0.1:0", "--idle-timeout", "200ms", "--jsonl") as server:
        server.wait()
    assert server.status == 0
    assert server.totals[0]["ended"] == "idle"


def test_an_empty_datagram_ends_it_where_that_was_asked_for() -> None:
    with serving("--udp", "127.0.0.1:0", "--stop-on-empty", "--jsonl") as server:
        assert ask_udp(server.address("udp"), b"") == b""
        server.wait()
    assert server.totals[0]["ended"] == "empty"


def test_a_buffer_above_the_ceiling_is_warned_about() -> None:
    limit = package.kernel_limits().udp_recv_buffer_max_bytes
    if limit is None or limit.value >= 2**31 - 1:
        return
    with serving("--udp", "127.0.0.1:0", "--recv-buffer", str(limit.value + 1)) as server:
        pass
    warnings = [line for line in server.errors.splitlines() if " WARNING " in line]
    assert len(warnings) == 1
    assert "net.core.rmem_max" in warnings[0]


def test_sockets_that_systemd_passes_are_served() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.create_server(("127.0.0.1", 0))
    udp.bind(("127.0.0.1", 0))
    # As systemd does: descriptors from 3 on, and the process's own id in LISTEN_PID.
    script = (
        "import os, sys; [os.dup2(int(n), 3 + i) for i, n in enumerate(sys.argv[1:3])];"
        "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.argv[3], sys.argv[3:])"
    )
    prefix = sys.executable, "-c", script, str(udp.fileno()), str(tcp.fileno())
    with udp, tcp, serving(prefix=prefix, pass_fds=(udp.fileno(), tcp.fileno())) as server:
        assert ask_udp(udp.getsockname(), b"udp") == b"udp"
        assert ask_tcp(tcp.getsockname(), b"tcp") == b"tcp"
        assert sorted(url.partition(":")[0] for url in server.urls) == ["tcp", "udp"]
        # As sd_listen_fds(3) promises: no child of ours has them.
        for descriptor in (3, 4):
            flags = Path(f"/proc/{server.process.pid}/fdinfo/{descriptor}").read_text().split()[3]
            assert int(flags, 8) & os.O_CLOEXEC


def test_f29_out_of_descriptors_costs_little_and_passes() -> None:
    script = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    prefix = sys.executable, "-c", script
    with serving("--tcp", "127.0.0.1:0", prefix=prefix) as server, contextlib.ExitStack() as stack:
        address = server.address("tcp")
        peers = [stack.enter_context(socket.create_connection(address)) for _ in range(100)]
        before = cpu_seconds(server)
        time.sleep(1)
        assert cpu_seconds(server) - before < 0.1
        for peer in peers:
            peer.close()
        start = time.monotonic()
        while True:
            with contextlib.suppress(OSError, EOFError):
                assert ask_tcp(address, b"again") == b"again"
                break
            assert time.monotonic() - start < 1
    assert server.status == 0


def cpu_seconds(server: Serving) -> float:
    words = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
