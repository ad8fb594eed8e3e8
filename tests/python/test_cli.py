"""`rsecho send`, `info`, `unpack`, `completion`, and the command as such."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, clean_environment, rsecho

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["udp", "tcp"])
def target(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The words that point `send` to a running server."""
    make = package.UdpServer if request.param == "udp" else package.TcpServer
    with make("127.0.0.1") as server:
        host, port = server.address
        yield [f"{host}:{port}", *(["--tcp"] if request.param == "tcp" else [])]


def test_send_shows_the_reply_its_time_and_that_it_is_equal(target: list[str]) -> None:
    done = rsecho("send", *target, "data")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert text.startswith("4 bytes from ")
    assert ' ms, equal: "data"' in text


def test_send_takes_text_hex_a_file_or_standard_input(target: list[str], tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"\x00\x01")
    for words, data, wanted in [
        (["text"], None, b"text"),
        (["--hex", "00 ff"], None, b"\x00\xff"),
        (["--file", str(file)], None, b"\x00\x01"),
        (["--stdin"], b"piped", b"piped"),
        ([], None, b"hello"),
    ]:
        done = rsecho("send", *target, *words, "--json", data=data)
        found = json.loads(done.stdout)
        assert found["schema"] == "rsecho.send/1"
        assert found["replies"][0]["data_hex"] == wanted.hex()
        assert found["replies"][0]["is_equal"] is True
        assert isinstance(found["replies"][0]["rtt_ns"], int)


def test_send_counts(target: list[str]) -> None:
    done = rsecho("send", *target, "--count", "3", "--jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    *replies, summary = lines
    assert [line["sequence"] for line in replies] == [1, 2, 3]
    assert summary["schema"] == "rsecho.send.summary/1"
    assert (summary["sent"], summary["received"], summary["loss_percent"]) == (3, 3, 0)
    times = [line["rtt_ns"] for line in replies]
    assert (summary["rtt_min_ns"], summary["rtt_max_ns"]) == (min(times), max(times))


def test_send_large_over_tcp(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(8 << 20))
    with package.TcpServer("127.0.0.1") as server:
        host, port = server.address
        done = rsecho("send", "--tcp", f"{host}:{port}", "--file", str(file), "--timeout", "10s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("8388608 bytes from ")


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_refusal_has_its_own_message(kind: socket.SocketKind) -> None:
    tcp = ["--tcp"] if kind == socket.SOCK_STREAM else []
    done = rsecho("send", f"127.0.0.1:{free_port(kind)}", *tcp)
    assert done.returncode == 1
    assert b"connection refused" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_silence_has_its_own_message() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        start = time.monotonic()
        done = rsecho("send", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "200ms")
        assert time.monotonic() - start >= 0.2
    assert done.returncode == 1
    assert b"200ms" in done.stderr
    assert b"refused" not in done.stderr


def test_an_unreachable_peer_has_its_own_message() -> None:
    # An address that is nobody's (RFC 5737), asked from a namespace without routes.
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("a namespace without routes needs root on Linux")
    done = subprocess.run(
        ["unshare", "-n", RSECHO, "send", "192.0.2.1:7"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "unreachable" in done.stderr
    assert "no route" in done.stderr


def test_a_reply_that_differs_is_status_1() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind(("127.0.0.1", 0))
        liar.settimeout(PATIENCE)

        def answer() -> None:
            _, peer = liar.recvfrom(100)
            liar.sendto(b"something else", peer)

        thread = threading.Thread(target=answer)
        thread.start()
        done = rsecho("send", f"127.0.0.1:{liar.getsockname()[1]}", "data")
        thread.join()
    assert done.returncode == 1
    assert b'DIFFERS: "something else"' in done.stdout


def test_unpack_decodes_hex_and_standard_input() -> None:
    record = struct.pack("! I 2s Q 2h f", 1, b"ab", 2, 3, 4, 5.0)
    text = "field_0=1 field_1=b'ab' field_2=2 field_3=3 field_4=4 field_5=5.0\n"
    assert rsecho("unpack", "! I 2s Q 2h f", record.hex(":")).stdout.decode() == text
    assert rsecho("unpack", "! I 2s Q 2h f", "-", data=record * 2).stdout.decode() == text * 2
    done = rsecho("unpack", "!Hf", "--names", "port,load", "--jsonl", "-", data=b"\0\7\x7f\x80\0\0")
    assert json.loads(done.stdout)["fields"] == {"port": 7, "load": "inf"}


def test_unpack_says_what_does_not_fit() -> None:
    for words, status in [
        (["!I", "0102"], 1),
        (["!I", ""], 1),
        (["I", "01020304"], 2),
        (["!I", "0g"], 2),
    ]:
        done = rsecho("unpack", *words)
        assert done.returncode == status, words
        assert done.stderr.count(b"\n") == 1


def test_info_shows_each_ceiling_with_its_sysctl() -> None:
    found = json.loads(rsecho("info", "--json").stdout)
    assert found["schema"] == "rsecho.info/1"
    limits = {limit["name"]: limit for limit in found["limits"]}
    for name, limit in limits.items():
        if limit["values"]:
            file = Path("/proc/sys") / limit["sysctl"].replace(".", "/")
            assert [int(word) for word in file.read_text().split()] == limit["values"], name
    assert set(limits) >= {
        "udp_recv_buffer_max_bytes",
        "udp_send_buffer_max_bytes",
        "tcp_recv_buffer_bytes",
        "tcp_send_buffer_bytes",
        "accept_queue_max",
        "syn_queue_max",
    }
    for protocol, sock in zip(("udp", "tcp"), found["sockets"], strict=True):
        line = sock["options"]["recv_buffer_bytes"]
        assert line["sysctl"] == "net.core.rmem_max"
        is_tuned = line.get("autotuning_sysctl") == "net.ipv4.tcp_rmem"
        assert is_tuned is (protocol == "tcp")
        if is_tuned:
            assert line["autotuning_ceiling"] == limits["tcp_recv_buffer_bytes"]["values"][-1]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_info_fits_80_columns_and_cuts_no_value(is_terminal: bool) -> None:
    words = ["info", "--recv-buffer", "2047M"]
    if is_terminal:
        text = on_a_terminal(*words)
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    else:
        text = rsecho(*words).stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    unfolded = " ".join(text.split())
    for limit in json.loads(rsecho("info", "--json").stdout)["limits"]:
        if limit["values"]:
            form = "d" if "port" in limit["name"] else ",d"
            shown = " ".join(f"{value:{form}}" for value in limit["values"])
            assert f"{limit['sysctl']}: {shown} {limit['meaning']}" in unfolded
    assert unfolded.count("grown by autotuning, unless set: at most") == 2
    assert "(net.ipv4.tcp_rmem, last value)" in unfolded
    assert "(net.core.rmem_max); the kernel doubles it" in unfolded


def test_the_screen_of_info_in_the_docs_has_this_form() -> None:
    text = (Path(__file__).parents[2] / "docs/command-line.md").read_text(encoding="utf-8")
    screen = re.search(r"```console\n\$ rsecho (info.*)\n((?:.|\n)*?)```", text)
    assert screen is not None
    shown = rsecho(*screen[1].split()).stdout.decode()

    def form(page: str) -> list[str]:
        """The lines that every machine has, with their first word."""
        lines = [line for line in page.splitlines()[1:] if re.match(r" {0,2}\S", line)]
        return [re.split(r":|\s{2,}", line.strip())[0] for line in lines]

    assert form(screen[2]) == form(shown)
    assert max(map(len, screen[2].splitlines())) <= 80


def on_a_terminal(*words: str) -> str:
    """What the command shows on a terminal of 80 columns."""
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [RSECHO, *words], stdin=follower, stdout=follower, stderr=follower, env=clean_environment()
    ) as process:
        os.close(follower)
        shown = b""
        # At the end of the other side, Linux has EIO and others an end of file.
        with contextlib.suppress(OSError):
            while part := os.read(leader, 4096):
                shown += part
        os.close(leader)
        assert process.wait(PATIENCE) == 0
    return shown.decode().replace("\r\n", "\n")


def test_completion_scripts_complete() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = rsecho("completion", shell)
        assert done.returncode == 0
        assert b"_RSECHO_COMPLETE" in done.stdout
    env = {"_RSECHO_COMPLETE": "bash_complete", "COMP_WORDS": "rsecho se", "COMP_CWORD": "1"}
    assert set(rsecho(env=env).stdout.decode().split()) == {"plain,serve", "plain,send"}


def test_starts_in_under_60_ms_beyond_a_loaded_machine() -> None:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        rsecho("--version")
        times.append(time.perf_counter() - start)
    # What is promised is 60 ms on an idle machine; ten times that means it broke.
    assert min(times) < 0.6, times


def test_the_command_imports_nothing_that_it_does_not_need() -> None:
    script = (
        "import sys; from rsecho.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'asyncio', 'numpy', 'importlib.metadata'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_where_serve_listens_is_no_matter_to_send(target: list[str]) -> None:
    done = rsecho("send", *target, "data", env={"RSECHO_TCP": "127.0.0.1:9999"})
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["info"], ["info", "--json"], ["unpack", "!H", "0001"]])
def test_output_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [RSECHO, *words], stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1, done.stderr
    assert b"No space left on device" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with subprocess.Popen([RSECHO, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout is not None
        done.stdout.close()
        assert done.stderr is not None
        errors = done.stderr.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            done.wait(PATIENCE)
    assert b"Traceback" not in errors
