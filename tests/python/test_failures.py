"""What the kernel or the core refuses: one line with the way out, in Python's words to Python and
in flags to those who use the command."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import rsecho as package
from command import PATIENCE, RSECHO, clean_environment, rsecho
from rsecho import _options

if TYPE_CHECKING:
    from collections.abc import Callable

UDP, TCP = package.UdpServer, package.TcpServer
NOBODY = "192.0.2.1"  # RFC 5737


@pytest.fixture
def taken() -> Any:
    """A port that an IPv4 socket has for both protocols."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(100):
            tcp.bind(("0.0.0.0", 0))
            try:
                udp.bind(("0.0.0.0", tcp.getsockname()[1]))
            except OSError:
                continue
            break
        tcp.listen()
        yield tcp.getsockname()[1]


def python_text(call: Callable[[], Any]) -> str:
    with pytest.raises((OSError, ValueError)) as caught:
        call()
    error = caught.value
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


# What Python does, what the command does, what both say, and the command's status.
FAILURES: list[tuple[Callable[..., Any], list[str], str, int]] = [
    (lambda _: UDP("127.0.0.1", bind_to_device="nope"),
     ["serve", "--udp", "127.0.0.1:0", "--bind-to-device", "nope"],
     "there is no such interface; this machine has lo", 3),
    (lambda _: package.UdpClient("127.0.0.1", 7, bind_to_device="nope"),
     ["send", "127.0.0.1:7", "--bind-to-device", "nope"],
     "there is no such interface; this machine has lo", 1),
    (lambda _: TCP("127.0.0.1", congestion="nope"),
     ["serve", "--tcp", "127.0.0.1:0", "--congestion", "nope"],
     "the kernel has no such algorithm; it has ", 3),
    (lambda _: TCP("127.0.0.1", keep_alive=(40_000.0, None, None)),
     ["serve", "--tcp", "127.0.0.1:0", "--keep-alive", "40000s"], "32767", 2),
    (lambda _: TCP("127.0.0.1", keep_alive=(None, 0.5, None)),
     ["serve", "--tcp", "127.0.0.1:0", "--keep-alive", "1s,500ms"], "32767", 2),
    (lambda _: TCP("127.0.0.1", keep_alive=(None, None, 128)),
     ["serve", "--tcp", "127.0.0.1:0", "--keep-alive", "1s,1s,128"], "127", 2),
    (lambda _: TCP("127.0.0.1", linger=3.0),
     ["serve", "--tcp", "127.0.0.1:0", "--linger", "3s"], "take 0 to reset connections", 2),
    (lambda _: UDP("127.0.0.1", cpus=[60_000]),
     ["serve", "--udp", "127.0.0.1:0", "--cpus", "60000"], "see taskset(1)", 2),
    (lambda _: UDP("127.0.0.1", workers=2000),
     ["serve", "--udp", "127.0.0.1:0", "--workers", "2000"], "1024", 2),
    (lambda _: UDP("127.0.0.1", ttl=256),
     ["serve", "--udp", "127.0.0.1:0", "--ttl", "256"], "255", 2),
    (lambda _: UDP("127.0.0.1", dscp=64),
     ["serve", "--udp", "127.0.0.1:0", "--dscp", "64"], "63", 2),
    (lambda _: TCP("127.0.0.1", backlog=-1),
     ["serve", "--tcp", "127.0.0.1:0", "--backlog", "-1"], "", 2),
    (lambda _: UDP("127.0.0.1", recv_buffer_bytes=1 << 31),
     ["serve", "--udp", "127.0.0.1:0", "--recv-buffer", "2G"], "2147483647", 2),
    (lambda _: UDP(NOBODY), ["serve", "--udp", f"{NOBODY}:0"], "`ip address` shows those", 3),
    (lambda port: UDP("127.0.0.1", port), ["serve", "--udp", "127.0.0.1:PORT"],
     "shows which socket has it; or take another port", 3),
    (lambda port: TCP("127.0.0.1", port), ["serve", "--tcp", "127.0.0.1:PORT"],
     "`ss -ltnp 'sport = :", 3),
    (lambda port: UDP("::", port, ipv6_only=False), ["serve", "--udp", "[::]:PORT", "--dual-stack"],
     "leaves IPv4 to it", 3),
    (lambda port: UDP("0.0.0.0", port), ["serve", "--udp", "0.0.0.0:PORT"],
     "where that is a socket on [::]", 3),
    (lambda port: UDP("127.0.0.1", port, reuse_port=True),
     ["serve", "--udp", "127.0.0.1:PORT", "--reuse-port"], "every socket on a shared port", 3),
    (lambda _: UDP("fe80::1"), ["serve", "--udp", "[fe80::1]:0"],
     "a link-local address needs the name of its interface", 2),
    (lambda _: package.UdpClient("fe80::1", 7), ["send", "[fe80::1]:7"],
     "a link-local address needs the name of its interface", 2),
    (lambda _: package.TcpClient("fe80::1", 7), ["send", "tcp://[fe80::1]:7"],
     "; this machine has lo", 2),
    (lambda _: package.UdpClient("fe80::1%nope", 7), ["send", "[fe80::1%nope]:7"],
     'this machine has no interface "nope"', 2),
    (lambda _: package.UdpClient("255.255.255.255", 7), ["send", "255.255.255.255:7"],
     "it is a broadcast address; ask one host", 1),
    (lambda _: package.UdpClient("127.0.0.1", 0), ["send", "127.0.0.1:0"],
     "give the port of the server", 2),
    (lambda _: package.TcpClient("127.0.0.1", 0), ["send", "tcp://127.0.0.1:0"],
     "give the port of the server", 2),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: " ".join(one[1]))
def test_each_failure_speaks_the_language_of_its_caller(
    failure: tuple[Callable[..., Any], list[str], str, int], taken: int
) -> None:
    call, words, wanted, status = failure
    text = python_text(lambda: call(taken))
    assert wanted in text and "\n" not in text
    # A flag is two hyphens behind a space, a quote or a bracket.
    assert not re.search(r"(?:^|[\s(`'])--[a-z]", text), text

    done = rsecho(*(word.replace("PORT", str(taken)) for word in words))
    line = done.stderr.decode()
    assert (done.returncode, line.count("\n")) == (status, 1), line
    assert wanted in line
    keywords = {
        name
        for options in (_options.UdpServerOptions, _options.TcpServerOptions)
        for name in options.__annotations__
        if "_" in name
    }
    spoken = {name for name in keywords if re.search(rf"\b{name}\b", line)}
    assert not spoken and not re.search(r"=(True|False|None)\b", line), line


def test_the_way_out_of_a_shared_port_is_the_one_that_was_not_taken(taken: int) -> None:
    line = rsecho("serve", "--udp", f"[::]:{taken}", "--dual-stack").stderr.decode()
    assert "--ipv6-only leaves IPv4 to it" in line
    text = python_text(lambda: UDP("::", taken, ipv6_only=False))
    assert "ipv6_only=True leaves IPv4 to it" in text
    with UDP("::", taken, ipv6_only=True) as server:
        assert server.address[1] == taken


def test_too_many_open_files_is_said_with_the_limit() -> None:
    code = f"""if True:
        import resource, rsecho, os
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        rsecho.UdpServer("127.0.0.1").close()
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            rsecho.UdpServer("127.0.0.1")
        except OSError as error:
            print(error.errno == {errno.EMFILE} and "ulimit -n" in str(error) or error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout == "True\n", done.stderr


def passing(number: str, prepare: str) -> subprocess.CompletedProcess[str]:
    """`rsecho serve` with LISTEN_FDS=`number`, after `prepare` has opened descriptors."""
    code = (
        "import os, socket\n"
        "os.closerange(3, 64)\n"
        f"{prepare}\n"
        f"os.environ.update(LISTEN_FDS={number!r}, LISTEN_PID=str(os.getpid()))\n"
        f"os.execv({RSECHO!r}, [{RSECHO!r}, 'serve'])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=clean_environment(),
        check=False,
    )


KEPT = "; s.set_inheritable(True); assert s.fileno() == 3"


@pytest.mark.parametrize(
    ("number", "prepare", "wanted", "status"),
    [
        ("x", "pass", "it is not a number of descriptors", 2),
        ("9" * 5000, "pass", "it is not a number of descriptors", 2),
        ("999999999", "pass", "descriptor 3 of LISTEN_FDS: it is not open", 3),
        ("1", "r, w = os.pipe(); os.set_inheritable(r, True)", "it is a file or a pipe", 3),
        ("1", f"s = socket.socket(socket.AF_UNIX){KEPT}", "it is a UNIX socket", 3),
        ("1", f"s = socket.socket(){KEPT}", "it is not bound to a port", 3),
        (
            "1",
            "s = socket.socket(); l = socket.create_server(('127.0.0.1', 0)); "
            f"s.connect(l.getsockname()); l.set_inheritable(True){KEPT}",
            "it is a connection, not a listener; set Accept=no",
            3,
        ),
    ],
)
def test_a_descriptor_that_cannot_be_served_is_refused_in_systemds_words(
    number: str, prepare: str, wanted: str, status: int
) -> None:
    done = passing(number, prepare)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert wanted in done.stderr and "LISTEN_FDS" in done.stderr


def test_what_python_passes_in_is_refused_in_its_words() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as unbound:
        assert "UNIX socket" in python_text(lambda: TCP(sock=unix))
        assert "it is not bound to a port; bind it first" in python_text(lambda: TCP(sock=unbound))
    reading, writing = os.pipe()
    try:
        assert "it is not a socket" in python_text(lambda: UDP(sock=reading))
    finally:
        os.close(reading)
        os.close(writing)
    assert "pass one that is open" in python_text(lambda: UDP(sock=reading))
