"""Guards across a real link: forged sources by the hundred thousand, and echoes that answer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command
import pytest
from netns import Network, needs_namespaces, network, run
from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["network"]  # a fixture is used by its name

pytestmark = needs_namespaces

ENGINES = ["batch", "portable"]

# `make soak` asks for a million of them.
FORGED_SOURCES = int(os.environ.get("RSECHO_FORGED_SOURCES", "150000"))

HERE = str(Path(__file__).parent)


@contextlib.contextmanager
def serving(network: Network, engine: str, *options: str) -> Iterator[command.Serving]:
    """`rsecho serve` in the server's namespace."""
    words = ["--engine", engine, "--jsonl", *options]
    with command.serving(*words, prefix=network.within(network.server)) as server:
        yield server
        server.end()
        assert server.status == 0, server.errors
        for totals in server.totals:
            assert totals["engine"] == engine
            stats = totals["stats"]
            assert stats["received_packets"] == stats["sent_packets"] + sum(
                stats["dropped"].values()
            )


def port_of(server: command.Serving) -> str:
    return server.urls[0].rpartition(":")[2]


def loops_told(server: command.Serving) -> list[str]:
    return [line for line in server.errors.splitlines() if " ended an echo loop with " in line]


# An echo server of the kind that people copy, and datagrams with its forged source. Prints
# how many rounds there were and how long they took; ends once it has been silent, or at last.
_NAIVE = """
import json, socket, sys, time
sys.path.insert(0, sys.argv[4])
from forge import send_forged
own, server, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in own else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as echo:
    echo.bind((own, 0))
    echo.settimeout(1)
    for number in range(int(sys.argv[5])):
        source = own, echo.getsockname()[1]
        send_forged(source, (server, port), b"round and round" + number.to_bytes(2, "big"))
    rounds, start = 0, time.monotonic()
    last = start
    try:
        while last < start + 15:
            data, peer = echo.recvfrom(2000)
            rounds += 1
            echo.sendto(data, peer)
            last = time.monotonic()
    except TimeoutError:
        pass
print(json.dumps({"rounds": rounds, "seconds": last - start, "ended": last < start + 15}))
"""


def run_naive(
    network: Network, server: command.Serving, is_v6: bool, forged: int = 1
) -> dict[str, Any]:
    hosts = ("fd09::2", "fd09::1") if is_v6 else ("10.9.8.2", "10.9.8.1")
    shown = network.python(network.client, _NAIVE, *hosts, port_of(server), HERE, str(forged))
    found: dict[str, Any] = json.loads(shown)
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("is_v6", [False, True])
def test_f17_an_echo_beyond_loopback_stays_below_its_limit(
    network: Network, engine: str, is_v6: bool
) -> None:
    with serving(network, engine, "--udp", "[::]:0", "--rate-limit", "1000:80") as server:
        found = run_naive(network, server, is_v6)
    assert found["ended"]
    assert 80 <= found["rounds"] <= 80 + 1000 * found["seconds"] + 1, found
    stats = server.totals[0]["stats"]
    assert stats["dropped"]["rate_limited"] == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("is_v6", [False, True])
@pytest.mark.parametrize("forged", [1, 30])
def test_f17_without_a_limit_it_has_one_of_its_own(
    network: Network, engine: str, is_v6: bool, forged: int
) -> None:
    with serving(network, engine, "--udp", "[::]:0", "--recv-buffer", "4M") as server:
        found = run_naive(network, server, is_v6, forged)
    # What may come at once, then 10,000 a second, and what it takes to leave out the others.
    most = 65_536 + 10_000 * found["seconds"] + 65 * forged
    assert found["rounds"] <= most, found
    # One that goes round slower than that has 65,536 rounds.
    assert found["ended"], found
    assert server.totals[0]["stats"]["dropped"]["repeated"] == forged
    lines = [line for line in server.errors.splitlines() if "that repeats a reply" in line]
    assert lines
    assert ("fd09::2" if is_v6 else "10.9.8.2") in lines[0]


# A client that sends the same bytes again and again, answered or not.
_REPEATING = """
import socket, sys, time
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
    client.connect(("fd09::1", int(sys.argv[1])))
    for number in range(int(sys.argv[2])):
        client.send(b"hello")
        # In step with the server, or its buffer drops some.
        if number % 500 == 499:
            time.sleep(0.005)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_repeats_itself_beyond_its_limit_is_not_taken_for_an_echo(
    network: Network, engine: str
) -> None:
    # More than a loop may have rounds, and faster than 10,000 per second.
    count = 200_000
    words = "--udp", "[::]:0", "--rate-limit", "100", "--recv-buffer", "4M"
    with serving(network, engine, *words) as server:
        network.python(network.client, _REPEATING, port_of(server), str(count))
    stats = server.totals[0]["stats"]
    assert stats["received_packets"] > 140_000, stats
    # It lost what the limit says, and nothing else.
    assert stats["dropped"]["repeated"] == stats["dropped"]["echo_loop"] == 0, stats
    assert stats["dropped"]["rate_limited"] > 130_000, stats
    told = server.errors.replace("ends echo loops", "")
    assert "loop" not in told and "repeats" not in told, told


@contextlib.contextmanager
def rewritten_hop_limits(network: Network) -> Iterator[None]:
    """Whatever comes in comes with a hop limit of 64."""
    nft = "nft"
    sides = network.server, network.client
    chain = "add chain inet h c { type filter hook prerouting priority mangle; }"
    rules = "add rule inet h c ip ttl set 64"
    # Neighbours are found with 255 (RFC 4861 §7.1), so only datagrams.
    rules += "; add rule inet h c meta l4proto udp ip6 hoplimit set 64"
    try:
        for side in sides:
            run(*network.within(side), nft, f"add table inet h; {chain}; {rules}")
        yield
    finally:
        for side in sides:
            run(*network.within(side), nft, "delete table inet h")


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("is_v6", [False, True])
@pytest.mark.parametrize("forged", [1, 30])
def test_f17_two_servers_whose_hop_limits_are_rewritten_have_the_same(
    network: Network, engine: str, is_v6: bool, forged: int
) -> None:
    hosts = ("fd09::1", "fd09::2") if is_v6 else ("10.9.8.1", "10.9.8.2")
    # Each ends by itself once it is over.
    words = "--recv-buffer", "4M", "--idle-timeout", "4s", "--udp"
    ends = [f"[{host}]:0" if is_v6 else f"{host}:0" for host in hosts]
    start = time.monotonic()
    with rewritten_hop_limits(network), contextlib.ExitStack() as stack:
        sides = network.server, network.client
        one, other = (
            stack.enter_context(
                command.serving(
                    "--engine", engine, "--jsonl", *words, end, prefix=network.within(side)
                )
            )
            for side, end in zip(sides, ends, strict=True)
        )
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); from forge import send_forged\n"
            "a, p, b, q, n = sys.argv[2:]\n"
            "for i in range(int(n)): send_forged((a, int(p)), (b, int(q)), b'round' + bytes([i]))"
        )
        addresses = hosts[0], port_of(one), hosts[1], port_of(other)
        network.python(network.server, script, HERE, *addresses, str(forged))
        one.wait()
        other.wait()
        seconds = time.monotonic() - start
    for server in (one, other):
        stats = server.totals[0]["stats"]
        assert stats["sent_packets"] <= 65_536 + 10_000 * seconds + 65 * forged, stats
    left_out = [server.totals[0]["stats"]["dropped"]["repeated"] for server in (one, other)]
    assert sum(left_out) == forged, left_out


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("hosts", [("10.9.8.1", "10.9.8.3"), ("[fd09::1]", "[fd09::1]")])
def test_f17_two_servers_beyond_loopback_end_it_themselves(
    network: Network, engine: str, hosts: tuple[str, str]
) -> None:
    words = [word for host in hosts for word in ("--udp", f"{host}:0")]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from forge import send_forged; "
        "a, p, b, q = sys.argv[2:]; send_forged((a, int(p)), (b, int(q)), b'round and round')"
    )
    with serving(network, engine, *words) as server:
        ends = []
        for url in server.urls:
            host, _, port = url.removeprefix("udp://").rpartition(":")
            ends += [host.strip("[]"), port]
        network.python(network.server, script, HERE, *ends)
        # The line is written when it is over.
        assert server.process.stderr is not None
        for line in server.process.stderr:
            if " ended an echo loop with " in line:
                break
    received = [totals["stats"]["received_packets"] for totals in server.totals]
    assert all(2 <= rounds <= 64 for rounds in received), received
    assert sum(totals["stats"]["dropped"]["echo_loop"] for totals in server.totals) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_source_ports_of_services_are_answered_only_when_asked_for(
    network: Network, engine: str
) -> None:
    script = """
import socket, sys
for port in (53, 2049, 11211, 5353):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("10.9.8.2", port))
        client.settimeout(0.3 if sys.argv[2] == "no" and port != 5353 else 15)
        client.sendto(b"hello", ("10.9.8.1", int(sys.argv[1])))
        try:
            print(port, client.recv(10).decode())
        except TimeoutError:
            print(port, "-")
"""
    for words, answers in (((), "no"), (("--answer-service-ports",), "yes")):
        with serving(network, engine, "--udp", "0.0.0.0:0", *words) as server:
            shown = network.python(network.client, script, port_of(server), answers)
        wanted = "-" if answers == "no" else "hello"
        assert shown == f"53 {wanted}\n2049 {wanted}\n11211 {wanted}\n5353 hello\n"
        dropped = server.totals[0]["stats"]["dropped"]["service_port"]
        assert dropped == (3 if answers == "no" else 0)


# So many datagrams, from as many sources as it is told, in turn; prints how long that took.
_FLOOD = """
import socket, sys, time
sys.path.insert(0, sys.argv[3])
from forge import udp_packet
port, count, sources = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
packet = bytearray(udp_packet(("11.0.0.0", 4000), ("10.9.8.1", port), b"x" * 32))
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    send, to = raw.sendto, ("10.9.8.1", 0)
    print("flooding", flush=True)
    start = time.monotonic()
    for number in range(count):
        # An odd multiplier visits every number once (11.0.0.0/8 has 2**24).
        packet[13:16] = (number % sources * 9176263 & 0xFFFFFF).to_bytes(3, "big")
        send(packet, to)
    print(time.monotonic() - start)
"""

# A client that asks every so many seconds, until its input ends; prints how often it did and was
# answered.
_HONEST = """
import select, socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.connect(("10.9.8.1", int(sys.argv[1])))
    asked = answered = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        client.settimeout(0.2)
        client.send(asked.to_bytes(8, "big"))
        asked += 1
        due = time.monotonic() + float(sys.argv[2])
        try:
            while client.recv(100) != (asked - 1).to_bytes(8, "big"):
                pass
            answered += 1
        except TimeoutError:
            pass
        if asked == 1:
            print("asking", flush=True)
        time.sleep(max(0, due - time.monotonic()))
    print(asked, answered)
"""


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("engine", ENGINES)
def test_forged_sources_leave_an_honest_client_its_own_and_the_total_its_limit(
    network: Network, engine: str
) -> None:
    # Replies to 11.0.0.0/8 go out as they would to the world.
    network.ip(network.server, "route", "replace", "default", "via", "10.9.8.2")
    limits = "--rate-limit", "2000", "--rate-limit-total", "5000:500"
    pipe = subprocess.PIPE
    within = [*network.within(network.client), sys.executable, "-c"]
    with serving(network, engine, "--udp", "10.9.8.1:0", *limits, "--recv-buffer", "4M") as server:
        port, pid = port_of(server), server.process.pid
        honest = subprocess.Popen(
            [*within, _HONEST, port, "0.002"], stdin=pipe, stdout=pipe, text=True
        )
        assert honest.stdout is not None
        assert honest.stdout.readline() == "asking\n"
        memory = resident_bytes(pid)
        flood = subprocess.run(
            [*within, _FLOOD, port, str(FORGED_SOURCES), HERE, str(FORGED_SOURCES)],
            stdout=pipe, text=True, check=True, timeout=110,
        )  # fmt: skip
        grown = resident_bytes(pid) - memory
        shown, _ = honest.communicate("end\n", timeout=command.PATIENCE)
        asked, answered = map(int, shown.split())
    seconds = float(flood.stdout.split()[1])
    stats = server.totals[0]["stats"]
    print(
        f"\n{engine}: {FORGED_SOURCES} forged in {seconds:.1f} s, "
        f"{stats['received_packets']} came; "
        f"{stats['sent_packets']} replies; the client was answered {answered} of {asked} times; "
        f"{grown >> 10} KiB more"
    )
    assert stats["received_packets"] > FORGED_SOURCES / 2, stats
    # The client's own: the flood met a table that had been there before.
    assert answered >= 0.9 * asked, (answered, asked, stats)
    # All of it fell into the flood, the client's first and last moments, and the bucket.
    assert stats["sent_packets"] <= 5000 * (seconds + 2) + 500, (seconds, stats)
    assert stats["dropped"]["rate_limited_total"] > FORGED_SOURCES / 4, stats
    assert grown < 4 << 20, grown
    assert not loops_told(server)
    until(lambda: honest.poll() is not None)


@pytest.mark.parametrize("engine", ENGINES)
def test_forged_sources_that_return_starve_no_newcomer(network: Network, engine: str) -> None:
    network.ip(network.server, "route", "replace", "default", "via", "10.9.8.2")
    pipe = subprocess.PIPE
    within = [*network.within(network.client), sys.executable, "-c"]
    limits = "--rate-limit-total", "5000:500", "--recv-buffer", "4M"
    with serving(network, engine, "--udp", "10.9.8.1:0", *limits) as server:
        port = port_of(server)
        # Each of them every tenth of a second or so: they all look like clients.
        words = [*within, _FLOOD, port, "900000", HERE, "150000"]
        flood = subprocess.Popen(words, stdout=pipe, text=True)
        assert flood.stdout is not None
        assert flood.stdout.readline() == "flooding\n"
        # Each returns after most of a second, which is not the pace of the newcomer: until there
        # is no room for all, and some have.
        time.sleep(1.5)
        words = [*within, _HONEST, port, "0.01"]
        newcomer = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        flood.communicate(timeout=110)
        told, _ = newcomer.communicate("end\n", timeout=command.PATIENCE)
        asked, answered = map(int, told.split()[1:])
    stats = server.totals[0]["stats"]
    print(f"\n{engine}: the newcomer was answered {answered} of {asked} times")
    assert asked >= 10, "it met the flood"
    assert stats["dropped"]["rate_limited_total"] > 50_000, stats
    # What the kernel drops on a busy machine may be among the others; a fifth is what it had
    # when such a flood counted as known.
    assert answered >= 0.6 * asked, (answered, asked, stats)
