"""Addresses of the command: what each form means, and listeners that would collide."""

from __future__ import annotations

import re
import socket

import click
import pytest
import rsecho as package
from command import PATIENCE, rsecho, serving
from rsecho.cli.addresses import Wanted, collision
from rsecho.cli.types import HostPort, Listen, TcpAddress, UdpAddress


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7000", [("localhost", 7000)]),
        ("example.org:7", [("example.org", 7)]),
        ("[::1]:7", [("::1", 7)]),
        ("[fe80::1%eth0]:7", [("fe80::1%eth0", 7)]),
        # As elsewhere (Go, ss, nginx): all interfaces.
        (":7000", [("", 7000)]),
        ("*:7000", [("", 7000)]),
        ("7000-7002", [("localhost", 7000), ("localhost", 7001), ("localhost", 7002)]),
        (":7000-7001", [("", 7000), ("", 7001)]),
        ("my-host-1:7-8", [("my-host-1", 7), ("my-host-1", 8)]),
        ("[::1]:7-7", [("::1", 7)]),
        ("udp://127.0.0.1:7", [("127.0.0.1", 7)]),
        ("UDP://[::1]:7/", [("::1", 7)]),
        ("udp://:7", [("", 7)]),
    ],
)
def test_where_to_listen(text: str, wanted: list[tuple[str, int]]) -> None:
    assert list(Listen("udp")(text)) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("7002-7000", "write the smaller first"),
        ("0-5", "is not a range of ports"),
        ("1-65535", "at most 1024"),
        ("7000-99999", "0 to 65535"),
        ("7000-", "no port"),
        ("-7000", "no port"),
        ("*", "no port"),
        (":", "0 to 65535"),
        ("*:x", "no port"),
        ("::1:7", "brackets"),
        ("tcp://127.0.0.1:7", "write --tcp"),
        ("http://127.0.0.1:7", "write udp://"),
        ("udp://127.0.0.1:7/path", "0 to 65535"),
        ("", "0 to 65535"),
    ],
)
def test_where_nobody_can_listen(text: str, why: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(why)):
        Listen("udp")(text)
    done = rsecho("serve", "--udp", text)
    assert done.returncode == 2
    assert done.stderr.startswith(b"rsecho: --udp: ") and done.stderr.count(b"\n") == 1


def test_whom_to_send_to() -> None:
    parse = HostPort("udp", "tcp")
    assert parse("localhost:7") == ("localhost", 7)
    udp, tcp = parse("udp://[::1]:7"), parse("tcp://a:7/")
    assert (udp, type(udp), tcp, type(tcp)) == (("::1", 7), UdpAddress, ("a", 7), TcpAddress)
    for text, why in (
        (":7000", "as in localhost:7000"),
        ("7000", "as in localhost:7000"),
        ("a:7-8", "names 2 ports"),
        ("http://a:7", "udp:// or tcp://"),
    ):
        with pytest.raises(click.BadParameter, match=why):
            parse(text)


def test_the_form_that_is_printed_is_taken() -> None:
    listeners = "--udp", "udp://127.0.0.1:0", "--tcp", "tcp://127.0.0.1:0"
    with serving(*listeners) as server:
        for url in server.urls:
            done = rsecho("send", url, "data")
            assert done.returncode == 0 and f"from {url} " in done.stdout.decode(), done.stderr
        # The word in the line wins over the environment, the address over neither flag.
        udp, tcp = server.urls
        env = {"RSECHO_SEND_TCP": "1"}
        assert b" from udp://" in rsecho("send", udp, "data", env=env).stdout
        assert rsecho("send", tcp, "data", "--tcp").returncode == 0
        assert rsecho("send", udp, "data", "--tcp").returncode == 2


def test_all_interfaces_of_both_families() -> None:
    for word in (":0", "*:0"):
        with serving("--udp", word, "--tcp", word) as server:
            found = [url.rpartition(":")[0] for url in server.urls]
            assert found == [f"{p}://{h}" for p in ("udp", "tcp") for h in ("0.0.0.0", "[::]")]
            for host in ("127.0.0.1", "::1"):
                port = server.address("udp", "0.0.0.0")[1]
                with package.UdpClient(host, port, timeout=PATIENCE) as client:
                    assert client.request(b"data") == b"data"
    for flags, wanted in (
        (["-4"], ["udp://0.0.0.0"]),
        (["-6"], ["udp://[::]"]),
        (["--dual-stack"], ["udp://[::]"]),
    ):
        with serving("--udp", ":0", *flags) as server:
            assert [url.rpartition(":")[0] for url in server.urls] == wanted


def free_ports(count: int) -> int:
    """The first of some ports that nobody has now."""
    for first in range(20000, 32000, count):
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            try:
                for port in range(first, first + count):
                    with socket.socket(type=socket.SOCK_DGRAM) as one:
                        one.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", first))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def test_a_range_is_a_listener_per_port() -> None:
    first = free_ports(3)
    with serving("--udp", f"127.0.0.1:{first}-{first + 2}") as server:
        assert server.urls == [f"udp://127.0.0.1:{first + n}" for n in range(3)]
        with package.UdpClient("127.0.0.1", first + 2, timeout=PATIENCE) as client:
            assert client.request(b"data") == b"data"


@pytest.mark.parametrize(
    ("sockets", "why"),
    [
        (["0.0.0.0", "::"], "add --ipv6-only, or listen on udp://[::]:7 alone"),
        (["::", "0.0.0.0"], "add --ipv6-only, or listen on udp://[::]:7 alone"),
        (["127.0.0.1", "::"], "add --ipv6-only"),
        (["0.0.0.0", "127.0.0.1"], "listen on udp://0.0.0.0:7 alone"),
        (["::1", "::"], "listen on udp://[::]:7 alone"),
        (["127.0.0.1", "::1", "127.0.0.1"], "udp://127.0.0.1:7 twice"),
        (["127.0.0.1", "127.0.0.2", "::1"], None),
        (["0.0.0.0", "::1"], None),
    ],
)
def test_listeners_that_would_take_a_port_from_each_other(
    sockets: list[str], why: str | None
) -> None:
    found = collision("udp", [Wanted(host, 7, False) for host in sockets])
    assert (found is None) if why is None else (found is not None and why in found)
    # Any free port is another one each time.
    assert collision("udp", [Wanted(host, 0, False) for host in sockets]) is None
    assert collision("udp", [Wanted(host, n, False) for n, host in enumerate(sockets)]) is None


def test_ipv6_only_leaves_ipv4_to_others() -> None:
    assert collision("tcp", [Wanted("0.0.0.0", 7, None), Wanted("::", 7, True)]) is None


def test_our_own_other_socket_is_named_and_the_way_out_works() -> None:
    port = free_ports(1)
    for protocol in ("udp", "tcp"):
        both = f"--{protocol}", f"0.0.0.0:{port}", f"--{protocol}", f"[::]:{port}"
        done = rsecho("serve", *both, "--dual-stack")
        text = done.stderr.decode()
        assert (done.returncode, done.stdout, text.count("\n")) == (2, b"", 1)
        assert f"{protocol}://0.0.0.0:{port} and {protocol}://[::]:{port}" in text
        assert "--ipv6-only" in text
        with serving(*both, "--ipv6-only") as server:
            assert len(server.urls) == 2
    same = "--udp", f"127.0.0.1:{port}"
    assert b"twice" in rsecho("serve", *same, *same).stderr
    with serving(*same, *same, "--reuse-port") as server:
        assert len(server.urls) == 2
