"""`rsecho send`: its summary, Ctrl-C, and what cannot be sent or compared."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import statistics
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, clean_environment, rsecho

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]

NUMBER = r"\d+\.\d{3}"
TIMES = rf"rtt min/avg/max/stddev = {NUMBER}/{NUMBER}/{NUMBER}/{NUMBER} ms\n"


@contextlib.contextmanager
def every_second_one() -> Iterator[str]:
    """A UDP server that echoes every second datagram; its HOST:PORT."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))

        def serve() -> None:
            number = 0
            while data := peer.recvfrom(100):
                if data[0] == b"end":
                    return
                number += 1
                if number % 2:
                    peer.sendto(*data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{peer.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", peer.getsockname())
            thread.join(PATIENCE)


@contextlib.contextmanager
def tcp_peer(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that serves one connection; its HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE)


@contextlib.contextmanager
def udp_target() -> Iterator[str]:
    with package.UdpServer("127.0.0.1") as server:
        yield "{}:{}".format(*server.address)


def test_a_summary_has_loss_and_the_times_like_pings() -> None:
    with every_second_one() as target:
        words = ["--count", "4", "--timeout", "100ms"]
        done = rsecho("send", target, *words)
        document = json.loads(rsecho("send", target, *words, "--json").stdout)
    assert done.returncode == 1
    summary = rf"\n--- udp://{target} ---\n4 sent, 2 received, 2 equal, 50% loss\n{TIMES}$"
    assert re.search(summary, done.stdout.decode()), done.stdout
    times = [reply["rtt_ns"] for reply in document["replies"] if "rtt_ns" in reply]
    assert len(times) == 2
    assert len([reply for reply in document["replies"] if "error" in reply]) == 2
    wanted: dict[str, Any] = {
        "count": 4,
        "sent": 4,
        "received": 2,
        "equal": 2,
        "loss_percent": 50.0,
        "rtt_min_ns": min(times),
        "rtt_avg_ns": round(statistics.fmean(times)),
        "rtt_max_ns": max(times),
        "rtt_stddev_ns": int(statistics.pstdev(times)),
        "is_interrupted": False,
    }
    assert {name: document[name] for name in wanted} == pytest.approx(wanted, abs=2)


def test_without_a_reply_there_are_no_times() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        words = ["--count", "2", "--timeout", "50ms"]
        text = rsecho("send", target, *words).stdout.decode()
        document = json.loads(rsecho("send", target, *words, "--json").stdout)
    assert text.endswith("2 sent, 0 received, 0 equal, 100% loss\n")
    assert (document["rtt_min_ns"], document["loss_percent"]) == (None, 100.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_interrupt_shows_what_has_come(number: signal.Signals, form: list[str]) -> None:
    with udp_target() as target:
        words = [RSECHO, "send", target, "--count", "1000", "--interval", "20ms", *form]
        with subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment() | {"PYTHONUNBUFFERED": "1"},
        ) as process:
            assert process.stdout is not None
            seen = b""
            while not re.search(rb'bytes from|"sequence"', seen):
                part = process.stdout.readline()
                assert part, "it ended"
                seen += part
            process.send_signal(number)
            assert process.stderr is not None
            rest, errors = process.stdout.read(), process.stderr.read()
            process.wait(PATIENCE)
    assert (process.returncode, errors) == (128 + number, b"")
    text = (seen + rest).decode()
    if form:
        document = json.loads(text)
        assert document["is_interrupted"] is True
        assert 1 <= document["sent"] == document["received"] == len(document["replies"]) < 1000
        assert document["rtt_min_ns"] <= document["rtt_avg_ns"] <= document["rtt_max_ns"]
    else:
        summary = re.search(rf"\n(\d+) of 1000 sent, (\d+) received.* 0% loss\n{TIMES}$", text)
        assert summary and summary[1] == summary[2], text
        assert text.count(" bytes from ") == int(summary[1])


def test_an_interrupt_ends_a_wait_for_a_reply() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(PATIENCE)
        words = [RSECHO, "send", f"127.0.0.1:{silent.getsockname()[1]}"]
        with subprocess.Popen(
            [*words, "--timeout", "1h", "--json"], stdout=subprocess.PIPE, env=clean_environment()
        ) as process:
            silent.recv(100)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    document = json.loads(output)
    assert (document["sent"], document["replies"]) == (0, [])


def test_a_line_without_bytes_is_a_line_and_a_banner_needs_no_request() -> None:
    with package.TcpServer("127.0.0.1") as server:
        target = "tcp://{}:{}".format(*server.address)
        done = rsecho("send", target, "", "--line")
        assert done.returncode == 0 and b', equal: ""' in done.stdout
    with package.TcpServer("127.0.0.1", responder="daytime") as server:
        target = "tcp://{}:{}".format(*server.address)
        assert rsecho("send", target, "", "--any").returncode == 0
    with udp_target() as target:
        done = rsecho("send", target, "")
        assert done.returncode == 0 and b"0 bytes from" in done.stdout


def test_an_echo_that_goes_on_is_not_equal() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100) + b" and more")
        assert connection.recv(100) == b""

    with tcp_peer(serve) as target:
        done = rsecho("send", f"tcp://{target}", "hello")
    assert done.returncode == 1
    assert b"9 more bytes came from tcp://" in done.stderr and b'" and more"' in done.stderr


def test_nothing_is_shown_of_replies_where_none_is_asked_for() -> None:
    with udp_target() as target:
        text = rsecho("send", target, "hello", "--show", "0").stdout.decode()
    assert re.fullmatch(rf"5 bytes from udp://{target} in {NUMBER} ms, equal\n", text)


def test_expected_bytes_may_be_escaped() -> None:
    with udp_target() as target:
        for sent, expected in [
            ("ff00", r"\xff\0"),
            ("0a5c09", r"\n\\\t"),
            ("e282ac", r"\u20ac"),
            ("e282ac", "€"),
        ]:
            assert rsecho("send", target, "--hex", sent, "--expect", expected).returncode == 0


def test_hex_is_read_as_people_copy_it() -> None:
    with udp_target() as target:
        for digits in ("00ff", "0x00FF", "00:ff", " 00 ff "):
            done = rsecho("send", target, "--hex", digits, "--json")
            assert json.loads(done.stdout)["replies"][0]["data_hex"] == "00ff"


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of a GiB and a byte, without blocks on the disk."""
    path = tmp_path_factory.mktemp("send") / "huge"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    return str(path)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["tcp://127.0.0.1:9", ""], "TCP carries no empty messages"),
        (["tcp://127.0.0.1:9", "--hex", ""], "cannot send --hex: it is empty"),
        (["tcp://127.0.0.1:9", "--file", "/dev/null"], "cannot send /dev/null: it is empty"),
        (["tcp://127.0.0.1:9", "--stdin"], "cannot send standard input: it is empty"),
        (["tcp://127.0.0.1:9", "x", "--expect", ""], "any reply would pass; use --any"),
        (["127.0.0.1:9", "--file", "/dev/zero"], "`rsecho push /dev/zero 127.0.0.1:9`"),
        (["127.0.0.1:9", "--file", "HUGE"], "a datagram has at most 65,507 bytes"),
        (["tcp://127.0.0.1:9", "--file", "HUGE"], "at most 1 GiB of a file"),
        (["127.0.0.1:9", "--file", "/"], "--file: File '/' is a directory"),
        (["127.0.0.1:9", "--hex", "123"], "it has 3 digits, and each byte takes two"),
        (["127.0.0.1:9", "--hex", "1g"], "'g' is not a hex digit"),
        (["127.0.0.1:9", "--expect", r"\q"], r"\q is not an escape such as \n or \x00; write \\ "),
        (["127.0.0.1:9", "--expect", r"\x1"], r"\x is not an escape"),
        (["127.0.0.1:9", "--expect", "\\"], "is not an escape"),
        (["127.0.0.1:9", "--expect", r"\Uffffffff"], "is not a character"),
        (["127.0.0.1:0"], "give the port of the server"),
    ],
)
def test_what_cannot_be_sent_is_one_line(words: list[str], wanted: str, huge: str) -> None:
    done = rsecho("send", *(huge if word == "HUGE" else word for word in words))
    text = done.stderr.decode()
    assert (done.returncode, done.stdout, text.count("\n")) == (2, b"", 1), text
    assert wanted in text, text


def test_the_screen_of_the_documentation_has_this_form() -> None:
    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    screen = re.search(r"```console\n\$ rsecho send (.*)\n((?:.|\n)*?)```", text)
    assert screen is not None
    with udp_target() as target:
        words = screen[1].replace("localhost:9999", target).split()
        shown = rsecho("send", *words).stdout.decode().replace(target, "127.0.0.1:9999")
    form = [re.sub(r"\d+\.\d{3}", "N", page) for page in (screen[2], shown)]
    assert form[0] == form[1]
