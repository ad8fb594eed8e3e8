"""Across a real link: source addresses, scopes, fragments, broadcast."""

from __future__ import annotations

import ast
import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import command
import pytest
from netns import Network, needs_namespaces, network, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["network"]  # a fixture is used by its name

pytestmark = needs_namespaces

ENGINES = ["batch", "portable"]


@contextlib.contextmanager
def serving(
    network: Network, engine: str, *options: str, environment: dict[str, str] | None = None
) -> Iterator[command.Serving]:
    """`rsecho serve` in the server's namespace."""
    words = ["--engine", engine, "--jsonl", "--log-level", "error", *options]
    within = network.within(network.server)
    with command.serving(*words, prefix=within, env=environment) as server:
        yield server
        server.end()
        assert (server.status, server.errors) == (0, "")
        assert all(totals["engine"] == engine for totals in server.totals)


def port_of(server: command.Serving) -> str:
    return server.urls[0].rpartition(":")[2]


_ASK = """
import socket, sys
host, port, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
info = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
with socket.socket(info[0], socket.SOCK_DGRAM) as client:
    client.settimeout(15)
    client.connect(info[4])
    payload = bytes(i % 251 for i in range(length))
    client.send(payload)
    print(client.recv(70000) == payload)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_f01_the_reply_comes_from_the_address_that_was_asked_of_two(
    network: Network, engine: str
) -> None:
    with serving(network, engine, "--udp", "0.0.0.0:0") as server:
        for host in ("10.9.8.3", "10.9.8.1"):
            # The client is connected: a reply from the other address would not reach it.
            assert network.python(network.client, _ASK, host, port_of(server), "9") == "True\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_f02_dual_stack_across_a_link(network: Network, engine: str) -> None:
    with serving(network, engine, "--udp", "[::]:0", "--dual-stack") as server:
        for host in ("10.9.8.3", "10.9.8.1", "fd09::1"):
            assert network.python(network.client, _ASK, host, port_of(server), "9") == "True\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bind", ["[fe80::1%veth0]:0", "[::]:0"])
def test_f03_link_local_keeps_its_scope(network: Network, engine: str, bind: str) -> None:
    with serving(network, engine, "--udp", bind) as server:
        asked = network.python(network.client, _ASK, "fe80::1%veth0", port_of(server), "9")
        assert asked == "True\n"


# Prints the offsets and DF flags of all IPv4 fragments from the server, and then the reply's
# length. A packet socket sees them before they are put together.
_SNIFF = """
import socket, struct, sys
host, port, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sniffer.bind(("veth0", 0x0800))
sniffer.settimeout(15)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(15)
    client.connect((host, port))
    client.send(b"x" * length)
    reply = client.recv(70000)
fragments, dont_fragment, more = 0, 0, True
while more:
    packet, address = sniffer.recvfrom(2000)
    if address[2] == socket.PACKET_OUTGOING or packet[12:16] != socket.inet_aton(host):
        continue
    flags = struct.unpack("!H", packet[6:8])[0]
    fragments += 1
    dont_fragment += bool(flags & 0x4000)
    more = bool(flags & 0x2000)
print(len(reply), fragments, dont_fragment)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_f05_the_largest_datagram_is_fragmented_and_never_marked_df(
    network: Network, engine: str
) -> None:
    # Replies are told from requests by their buffer: 45 fragments each way.
    big = ["--recv-buffer", "1M", "--send-buffer", "1M"]
    with serving(network, engine, "--udp", "0.0.0.0:0", *big) as server:
        port = port_of(server)
        shown = network.python(network.client, _SNIFF, "10.9.8.1", port, "65507")
        assert shown == "65507 45 0\n"
        # A small one fits, and Linux would mark it by default.
        assert network.python(network.client, _SNIFF, "10.9.8.1", port, "100") == "100 1 0\n"


_SHOUT = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.settimeout(15)
    port = int(sys.argv[1])
    client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.9.8.2"))
    for group in ("10.9.8.255", "255.255.255.255", "224.0.0.1"):
        client.sendto(group.encode(), (group, port))
    client.sendto(b"honest", ("10.9.8.1", port))
    print(client.recv(100).decode())
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_f15_broadcast_and_multicast_are_not_answered(network: Network, engine: str) -> None:
    network.ip(network.client, "route", "replace", "255.255.255.255", "dev", "veth0")
    with serving(network, engine, "--udp", "0.0.0.0:0") as server:
        assert network.python(network.client, _SHOUT, port_of(server)) == "honest\n"
    stats = server.totals[0]["stats"]
    assert stats["dropped"]["to_broadcast"] == 2
    assert stats["dropped"]["to_multicast"] == 1
    assert (stats["received_packets"], stats["sent_packets"]) == (4, 1)


_CALL = """
import socket, sys, time
port, group, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.9.8.2"))
    client.settimeout(1)
    start = time.monotonic()
    for _ in range(count):
        client.sendto(b"anyone?", (group, port))
    replies = []
    try:
        while len(replies) < count:
            data, peer = client.recvfrom(100)
            replies.append((data.decode(), peer[0], time.monotonic() - start))
    except TimeoutError:
        pass
    print(replies)
"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("group", ["10.9.8.255", "255.255.255.255", "224.0.0.1"])
def test_f15_the_broadcast_responder_answers_from_its_own_address_late_and_seldom(
    network: Network, engine: str, group: str
) -> None:
    network.ip(network.client, "route", "replace", "255.255.255.255", "dev", "veth0")
    options = ["--broadcast", "--broadcast-delay", "200ms", "--broadcast-rate", "5"]
    with serving(network, engine, "--udp", "0.0.0.0:0", "--responder", "upper", *options) as server:
        shown = network.python(network.client, _CALL, port_of(server), group, "20")
    replies = ast.literal_eval(shown)
    assert {reply[:2] for reply in replies} == {("ANYONE?", "10.9.8.1")}
    # One at once, and five more a second.
    assert 1 <= len(replies) <= 10
    stats = server.totals[0]["stats"]
    assert stats["sent_packets"] == len(replies)
    assert stats["dropped"]["broadcast_limited"] == 20 - len(replies)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reply_is_no_more_than_three_times_its_request_beyond_loopback(
    network: Network, engine: str, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text("def answer(data, peer):\n    return data * 10\n")
    words = ["--udp", "0.0.0.0:0", "--responder", "python=loud:answer"]
    with serving(network, engine, *words, environment={"PYTHONPATH": str(tmp_path)}) as server:
        # 28 + 1 bytes on the wire may have 87 answer, 10 + 28 is less; 28 + 100 may not 1028.
        script = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(15)
    client.connect(("10.9.8.1", int(sys.argv[1])))
    client.send(bytes(100))
    client.send(b"a")
    print(client.recv(2000).decode())
"""
        assert network.python(network.client, script, port_of(server)) == "a" * 10 + "\n"
    stats = server.totals[0]["stats"]
    assert (stats["sent_packets"], stats["dropped"]["amplification"]) == (1, 1)


@pytest.mark.parametrize(("spec", "replies"), [("duplicate 100%", 2), ("both duplicate 100%", 0)])
def test_duplicates_on_purpose_count_as_well(network: Network, spec: str, replies: int) -> None:
    with serving(network, "batch", "--udp", "0.0.0.0:0", "--impair", spec) as server:
        script = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(1)
    client.connect(("10.9.8.1", int(sys.argv[1])))
    client.send(bytes(100))
    count = 0
    try:
        while client.recv(2000):
            count += 1
    except TimeoutError:
        print(count)
"""
        assert network.python(network.client, script, port_of(server)) == f"{replies}\n"
    # One request that comes twice, and each answer twice, would be four times what came.
    dropped = server.totals[0]["stats"]["dropped"]["amplification"]
    assert dropped == (2 if replies == 0 else 0)


# Three datagrams that are read in one batch; the one in the middle claims a source to which
# there is no route.
_BATCH = """
import os, signal, socket, sys, time
sys.path.insert(0, sys.argv[3])
from forge import send_forged
pid, port = int(sys.argv[1]), int(sys.argv[2])
clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
os.kill(pid, signal.SIGSTOP)
clients[0].sendto(b"before", ("127.0.0.1", port))
send_forged(("203.0.113.1", 4000), ("127.0.0.1", port), b"nowhere")
clients[1].sendto(b"after", ("127.0.0.1", port))
os.kill(pid, signal.SIGCONT)
for client in clients:
    client.settimeout(15)
    print(client.recv(100).decode())
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_f13_one_unsendable_reply_in_the_midst_of_a_batch(network: Network, engine: str) -> None:
    with serving(network, engine, "--udp", "0.0.0.0:0") as server:
        here = str(Path(__file__).parent)
        words = str(server.process.pid), port_of(server), here
        assert network.python(network.server, _BATCH, *words) == "before\nafter\n"
    stats = server.totals[0]["stats"]
    assert stats["dropped"]["send_unreachable"] == 1
    assert (stats["received_packets"], stats["sent_packets"]) == (3, 2)


_TWO_PORTS = """
import socket, sys
port = int(sys.argv[1])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as filtered:
    filtered.bind(("10.9.8.2", 4567))
    filtered.sendto(b"never answered", ("10.9.8.1", port))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(15)
    client.sendto(b"served", ("10.9.8.1", port))
    print(client.recv(100).decode())
"""


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
@pytest.mark.parametrize("engine", ENGINES)
def test_f21_a_packet_filter_on_the_way_out_is_counted_and_serving_goes_on(
    network: Network, engine: str
) -> None:
    nft = (*network.within(network.server), "nft")
    run(*nft, "add table ip t; add chain ip t out { type filter hook output priority 0; }")
    try:
        run(*nft, "add rule ip t out udp dport 4567 drop")
        with serving(network, engine, "--udp", "0.0.0.0:0") as server:
            shown = network.python(network.client, _TWO_PORTS, port_of(server))
            assert shown == "served\n"
    finally:
        run(*nft, "delete table ip t")
    stats = server.totals[0]["stats"]
    assert stats["dropped"]["send_filtered"] == 1
    assert (stats["received_packets"], stats["sent_packets"]) == (2, 1)


_FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    for _ in range(200):
        client.sendto(b"x" * 1400, ("10.9.8.1", int(sys.argv[1])))
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_f20_a_full_send_buffer_hangs_nothing_and_is_counted(network: Network, engine: str) -> None:
    # 20 kbit/s: a datagram of 1400 bytes takes half a second, and keeps its place in the
    # send buffer until it is gone.
    slow = "qdisc", "add", "dev", "veth0", "root", "tbf", "rate", "20kbit"
    tc = (*network.within(network.server), "tc")
    run(*tc, *slow, "burst", "2kb", "limit", "1mb")
    try:
        small = "--send-buffer", "1", "--timeout", "100ms", "--recv-buffer", "1M"
        with serving(network, engine, "--udp", "0.0.0.0:0", *small) as server:
            network.python(network.client, _FLOOD, port_of(server))
            start = time.monotonic()
            server.end()
            assert time.monotonic() - start < 2
    finally:
        run(*tc, "qdisc", "del", "dev", "veth0", "root")
    stats = server.totals[0]["stats"]
    assert stats["dropped"]["send_buffer_full"] > 0
    assert stats["received_packets"] == stats["sent_packets"] + sum(stats["dropped"].values())
