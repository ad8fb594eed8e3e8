"""Real clients that nobody here wrote: socat, ncat, nping; and the first client of every
tutorial."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import rsecho

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30
HOSTS = ["127.0.0.1", "::1"]


def needs(program: str) -> pytest.MarkDecorator:
    """Skips where a program is not installed; CI installs all of them."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(*words: str, data: bytes = b"") -> bytes:
    done = subprocess.run(words, input=data, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(params=HOSTS)
def udp(request: pytest.FixtureRequest) -> Iterator[rsecho.UdpServer]:
    with rsecho.UdpServer(request.param) as server:
        yield server


@pytest.fixture(params=HOSTS)
def tcp(request: pytest.FixtureRequest) -> Iterator[rsecho.TcpServer]:
    with rsecho.TcpServer(request.param) as server:
        yield server


def bracketed(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@needs("socat")
def test_socat_over_udp(udp: rsecho.UdpServer) -> None:
    # -t: how long it waits for the reply after its input ended.
    assert (
        run("socat", "-t", "5", "-", f"UDP:{bracketed(udp.address)},shut-none", data=b"ping")
        == b"ping"
    )
    assert udp.stats().received_packets == 1


@needs("socat")
def test_socat_over_tcp_with_300_000_bytes_and_a_half_close(tcp: rsecho.TcpServer) -> None:
    data = os.urandom(300_000)
    assert run("socat", "-t", "20", "-", f"TCP:{bracketed(tcp.address)}", data=data) == data


@needs("ncat")
def test_ncat_over_tcp_with_300_000_bytes_and_a_half_close(tcp: rsecho.TcpServer) -> None:
    host, port = tcp.address
    data = os.urandom(300_000)
    assert run("ncat", host, str(port), data=data) == data


@needs("ncat")
def test_ncat_over_udp(udp: rsecho.UdpServer) -> None:
    host, port = udp.address
    with subprocess.Popen(
        ["ncat", "-u", host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"one datagram\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"one datagram\n"
        # It waits for more replies until it is told otherwise.
        client.terminate()


@needs("nping")
@pytest.mark.parametrize("host", HOSTS)
def test_nping_over_udp(host: str) -> None:
    with rsecho.UdpServer(host) as server:
        words = ["--udp", "--data-string", "ping", "-p", str(server.address[1])]
        text = nping(host, *words)
    assert (server.stats().received_packets, server.stats().sent_packets) == (5, 5), text
    assert "UDP packets sent: 5 | Rcvd: 5" in text


@needs("nping")
@pytest.mark.parametrize("host", HOSTS)
def test_nping_over_tcp(host: str) -> None:
    with rsecho.TcpServer(host) as server:
        text = nping(host, "--tcp-connect", "-p", str(server.address[1]))
    assert server.stats().accepted_connections == 5, text
    assert "Successful connections: 5" in text


def nping(host: str, *words: str) -> str:
    family = ["-6"] if ":" in host else []
    timing = ["-c", "5", "--delay", "50ms"]
    return run("nping", *family, "--unprivileged", *words, *timing, host).decode()


# What readers of a tutorial type, to the letter: no connect, no timeout, the name of the host.
TUTORIAL = """
import logging
import socket

logging.basicConfig(
    level=logging.DEBUG, style='{', format='[{processName} ({process})] {message}'
)

data: bytes = b'data'
server_address = ('localhost', 9999)

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    try:

        client.sendto(data, server_address)
        logging.debug(f'sent: {data!r}, to: {server_address}')

        data, server_address = client.recvfrom(1024)
        logging.debug(f'recv: {data!r}, from: {server_address}')
    except OSError as err:
        logging.error(err)
"""


def test_a_tutorial_client() -> None:
    with rsecho.UdpServer() as server:
        assert server.address[0] == "127.0.0.1"
        port = server.address[1]
        program = [sys.executable, "-c", TUTORIAL.replace("9999", str(port))]
        done = subprocess.run(program, capture_output=True, timeout=PATIENCE, check=True)
    said = [line.partition("] ")[2] for line in done.stderr.decode().splitlines()]
    assert said == [
        f"sent: b'data', to: ('localhost', {port})",
        f"recv: b'data', from: ('127.0.0.1', {port})",
    ]


def test_pythons_own_sockets_over_tcp(tcp: rsecho.TcpServer) -> None:
    data = os.urandom(300_000)
    with socket.create_connection(tcp.address, timeout=PATIENCE) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        found = b"".join(iter(lambda: client.recv(65536), b""))
    assert found == data
    deadline = time.monotonic() + PATIENCE
    while tcp.stats().active_connections:
        assert time.monotonic() < deadline
