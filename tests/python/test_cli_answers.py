"""Flags about what a server answers and impairs, by what they bring about."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, NoReturn

import pytest
import rsecho as package
from click.testing import CliRunner
from command import PATIENCE, rsecho, serving
from rsecho.cli import send

if TYPE_CHECKING:
    from pathlib import Path

BOTH = ["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]


def line(address: tuple[str, int], request: bytes) -> bytes:
    """What a TCP server answers to one line."""
    with socket.create_connection(address, PATIENCE) as stream:
        stream.sendall(request + b"\n")
        stream.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: stream.recv(65536), b""))


def datagram(address: tuple[str, int], request: bytes) -> bytes:
    """What a UDP server answers to one datagram."""
    with package.UdpClient(*address, timeout=PATIENCE) as client:
        return client.exchange(request).data


@pytest.mark.parametrize(
    ("words", "request_", "reply"),
    [
        (["--responder", "upper"], b"Some text", b"SOME TEXT"),
        (["--upper"], b"Some text", b"SOME TEXT"),
        (["--responder", "prefix=Echo: "], b"hi", b"Echo: hi"),
        (["--responder", "prefix=Response: ", "--upper"], b"hi", b"Response: HI"),
        (["--responder", "prefix=Echo: "], b"\xff", b"Error: Invalid encoding"),
        (["--responder", "command"], b" ECHO Any thing ", b"Any thing"),
        (["--responder", "command"], b"nothing known", b"Unknown command"),
    ],
)
def test_named_responders(words: list[str], request_: bytes, reply: bytes) -> None:
    with serving(*BOTH, *words) as server:
        assert datagram(server.address("udp"), request_) == reply
        assert line(server.address("tcp"), request_) == reply + b"\n"


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def answer(data, peer):\n"
        "    return str(1 / int(data)).encode()\n"
        "async def later(data, peer):\n"
        "    return data\n"
        "def add(fields, peer):\n"
        "    return str(fields['a'] + fields['b']).encode()\n"
    )
    words = ["--responder", "python=mine:answer", "--error-reply", "sorry", "--framing", "lines"]
    # It lies in the working directory.
    with serving(*BOTH, *words, cwd=tmp_path) as server:
        assert datagram(server.address("udp"), b"4") == b"0.25"
        assert datagram(server.address("udp"), b"0") == b"sorry"
        assert line(server.address("tcp"), b"2") == b"0.5\n"
    assert "ZeroDivisionError" in server.errors
    fields = ["--unpack", "!HH", "--names", "a b", "--responder-takes", "fields"]
    with serving(
        "--udp", "127.0.0.1:0", "--responder", "python=mine:add", *fields, cwd=tmp_path
    ) as s:
        assert datagram(s.address("udp"), b"\0\1\0\2") == b"3"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--responder", "loud"], "it is one of echo, upper"),
        (["--responder", "python=no_such_module:f"], "is it on PYTHONPATH?"),
        (["--responder", "time", "--upper"], "--upper needs --responder echo or prefix=TEXT"),
        (["--error-reply", "x"], "--error-reply needs --responder python="),
        (
            ["--framing", "lines", "--tcp", "127.0.0.1:0"],
            "--framing needs a --responder other than echo",
        ),
        (["--impair", "loss 101%"], "from 0% to 100%"),
        (["--impair", "loss 1%", "--tcp", "127.0.0.1:0"], "TCP sends again what is lost"),
        (["--broadcast", "--broadcast-rate", "2e9"], "at most 1000000000"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_in_one_line(words: list[str], why: str) -> None:
    here = [] if "--tcp" in words else ["--udp", "127.0.0.1:0"]
    done = rsecho("serve", *here, *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert why in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_a_coroutine_function_runs_on_a_loop_of_the_commands(tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text(
        "import asyncio\n"
        "async def answer(data, peer):\n"
        "    await asyncio.sleep(0.01)\n"
        "    return data[::-1]\n"
    )
    with serving(*BOTH, "--responder", "python=later:answer", cwd=tmp_path) as server:
        assert datagram(server.address("udp"), b"abc") == b"cba"
        assert line(server.address("tcp"), b"abc") == b"\ncba"


def test_each_protocol_may_be_impaired_in_its_own_way() -> None:
    own = ["--impair-udp", "truncate 100% 1 seed 3", "--impair-tcp", "limit_data 2 seed 4"]
    with serving(*BOTH, *own, "--jsonl") as server:
        assert datagram(server.address("udp"), b"abc") == b"a"
        assert line(server.address("tcp"), b"abc") == b"ab"
    assert [totals["impair"] for totals in server.totals] == [
        "truncate 100% 1 seed 3",
        "limit_data bytes=2, seed 4",
    ]


def test_impair_and_its_seed() -> None:
    def lost() -> list[bool]:
        with (
            serving("--udp", "127.0.0.1:0", "--impair", "loss 50% seed 5") as server,
            package.UdpClient(*server.address("udp"), timeout=0.1) as client,
        ):
            fates = []
            for _ in range(12):
                client.send(b"x")
                try:
                    client.receive()
                    fates.append(False)
                except TimeoutError:
                    fates.append(True)
            return fates

    first = lost()
    assert True in first and False in first
    assert lost() == first
    with serving("--tcp", "127.0.0.1:0", "--impair", "limit_data 3") as server:
        assert line(server.address("tcp"), b"12345") == b"123"


def test_send_expects_what_it_is_told() -> None:
    with package.UdpServer("127.0.0.1", responder="command") as server:
        target = "{}:{}".format(*server.address)
        good = rsecho("send", target, "ECHO hello", "--expect", "hello")
        assert good.returncode == 0 and b", as expected" in good.stdout
        bad = rsecho("send", target, "ECHO hello", "--expect", "goodbye")
        assert bad.returncode == 1 and b"DIFFERS" in bad.stdout
    with package.TcpServer("127.0.0.1", responder="upper") as server:
        target = "{}:{}".format(*server.address)
        words = ["--tcp", "--hex", b"hi\n".hex(), "--count", "2", "--expect", r"HI\n"]
        assert rsecho("send", target, *words).returncode == 0
        done = rsecho("send", target, "longer", "--tcp", "--line", "--any")
        assert done.returncode == 0 and b'"LONGER"' in done.stdout
    for words in (["--line"], ["--any", "--expect", "x"]):
        assert rsecho("send", target, "x", *words).returncode == 2


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["--line"], b"hello"),
        (["--line", "--any"], b"hello"),
        (["--any"], b"hello"),
        (["--expect", "hel"], b"hel"),
        ([], b"hello"),
    ],
)
def test_send_has_each_reply_timed_by_one_native_call(
    words: list[str], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piecewise(*_: object) -> NoReturn:
        raise AssertionError("timed piece by piece")

    for name in ("send_all", "receive", "receive_exactly"):
        monkeypatch.setattr(package.TcpClient, name, piecewise)
    with package.TcpServer("127.0.0.1") as server:
        target = "{}:{}".format(*server.address)
        done = CliRunner().invoke(send.command, [target, "hello", "--tcp", "--json", *words])
    assert done.exit_code == 0, done.output
    (reply,) = json.loads(done.output)["replies"]
    assert bytes.fromhex(reply["data_hex"]) == data
    assert reply["rtt_ns"] > 0
