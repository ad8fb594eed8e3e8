"""Large messages across links that lose, cut and forge, and through impairments of our own.

`RSECHO_TRANSFER_BYTES=100M` makes the files longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import RSECHO, Serving, clean_environment, serving
from netns import Network, Routed, needs_namespaces, network, routed, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["network", "routed"]  # fixtures are used by their names

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")

MEBIBYTE = 1 << 20
LENGTH = int(os.environ.get("RSECHO_TRANSFER_BYTES", "8M").removesuffix("M")) * MEBIBYTE
LONG = 60 + LENGTH / MEBIBYTE
HERE = Path(__file__).parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that is alike nowhere."""
    path = tmp_path / "source"
    path.write_bytes(hashlib.shake_128(b"network").digest(LENGTH))
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An empty directory."""
    found = tmp_path / "there"
    found.mkdir()
    return found


def rsecho(*words: str, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """Runs `rsecho … --json` to its end; what it printed, of the one file."""
    done = subprocess.run(
        [*prefix, RSECHO, *words, "--json"], capture_output=True, text=True, timeout=LONG,
        env=clean_environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    [document] = found.get("files", [found])
    return document  # type: ignore[no-any-return]


def totals(server: Serving) -> dict[str, Any]:
    """What it counted; its books balance."""
    server.end()
    assert server.status == 0, server.errors
    stats: dict[str, Any] = server.totals[0]["stats"]
    came = stats["received_packets"] + stats["duplicated_packets"] + stats["produced_packets"]
    went = stats["sent_packets"] + stats["consumed_packets"] + stats["pending_packets"]
    assert came == went + sum(stats["dropped"].values())
    return stats


# --- impairments of our own ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "impairment",
    [
        "loss 1%",
        "loss 5%",
        "loss 20%",
        "delay 50ms",
        "in delay 25ms 5ms loss 2%; out delay 25ms 5ms",
        "in loss 20% duplicate 5% corrupt 1% delay 5ms; out loss 5%",
        "in delay 1ms reorder 25%",
    ],
)
def test_impaired_transfers_arrive_equal(impairment: str, source: Path, there: Path) -> None:
    options = ["--udp", "127.0.0.1:0", "--transfer", str(there), "--jsonl"]
    with serving(*options, "--impair", impairment) as server:
        host, port = server.address("udp")
        pushed = rsecho("push", str(source), f"{host}:{port}")
        back = there.parent / "back"
        pulled = rsecho("pull", f"{host}:{port}", "source", str(back))
        stats = totals(server)
    assert (there / "source").read_bytes() == source.read_bytes() == back.read_bytes()
    assert pushed["digest"] == pulled["digest"]
    assert (stats["received_transfers"], stats["failed_transfers"]) == (1, 0)
    # Whether its end came, who has sent it may not learn before it gives up.
    assert stats["sent_transfers"] <= 1
    if "loss" in impairment:
        assert stats["dropped"]["impair_lost"] > 0
    if "corrupt" in impairment:
        assert stats["dropped"]["transfer_malformed"] > 0


# --- a router that drops every tenth packet -----------------------------------------------------

EVERY_TENTH = (
    "add table ip t; add chain ip t f { type filter hook forward priority 0; }; "
    "add rule ip t f meta l4proto udp numgen inc mod 10 == 0 counter drop"
)


@needs_namespaces
@needs_nft
def test_a_router_that_drops_every_tenth_packet(routed: Routed, source: Path, there: Path) -> None:
    routed.nft(EVERY_TENTH)
    options = ["--udp", "10.9.8.1:0", "--transfer", str(there), "--jsonl"]
    with serving(*options, prefix=routed.within(routed.server)) as server:
        host, port = server.address("udp", "10.9.8.1")
        client = routed.within(routed.client)
        pushed = rsecho("push", str(source), f"{host}:{port}", prefix=client)
        back = there.parent / "back"
        rsecho("pull", f"{host}:{port}", "source", str(back), prefix=client)
        stats = totals(server)
    assert (there / "source").read_bytes() == source.read_bytes() == back.read_bytes()
    assert stats["received_transfers"] == 1
    packets = LENGTH // 1500
    assert pushed["lost_packets"] > packets / 20
    # Each of them once more, and a few of those again.
    assert pushed["sent_bytes"] < 1.4 * LENGTH
    dropped, _ = counter(routed, routed.router, "ip t")
    assert dropped > packets / 10


def counter(network: Network, namespace: str, table: str) -> tuple[int, int]:
    """Packets and bytes that the only counter of a table has seen."""
    words = ("nft", "-j", "list", "table", *table.split())
    found = json.loads(run(*network.within(namespace), *words))["nftables"]
    for each in found:
        for expression in each.get("rule", {}).get("expr", []):
            if "counter" in expression:
                return expression["counter"]["packets"], expression["counter"]["bytes"]
    raise AssertionError(f"no counter in {found}")


# --- 37: forged by the hundred thousand ---------------------------------------------------------

FORGED = 100_000

# Forges packets of each kind in turn, from a hundred addresses a kind, or from one.
_FORGER = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
import forge, transfer_wire as wire
kinds, target, source, count = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
def port(text):
    host, _, number = text.rpartition(":")
    return host, int(number)
def first(id_):
    cookie = os.urandom(16)
    return [
        wire.offer(id_, 2**40, name="forged"), wire.offer(id_, 2**20, cookie=cookie),
        wire.data(id_, 0, 0, bytes(500)), wire.pull(id_, cookie=cookie, name="source"),
    ]
def answers(id_):
    far = wire.Ack(2**40, 2**30, 0, ((0, 2**20),))
    return [
        wire.ack(id_, far), wire.ack(id_, wire.Ack(0, 0, 0)), wire.done(id_),
        wire.packet(wire.ABORT, id_, bytes([1])),
    ]
of_kind = {"first": first, "answers": answers}[kinds]
packets = [packet for _ in range(250) for packet in of_kind(wire.random_id())]
print("ready", flush=True)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for number in range(count):
        forged = port(source.replace("*", f"{number // 250 % 250}.{number % 250 + 1}"))
        packet = forge.udp_packet(forged, port(target), packets[number * 7 % 1000])
        raw.sendto(packet, (port(target)[0], 0))
"""

# Sends a file, and says first from where.
_SENDER = """
import sys
from pathlib import Path
from rsecho import transfer
host, port, path = sys.argv[1:]
with transfer.Client(host, int(port), rate=20 << 20) as client:
    print(client.address[1], flush=True)
    print(client.send(Path(path)).digest)
"""


@contextlib.contextmanager
def program(
    network: Network, namespace: str, code: str, *words: str
) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a namespace, which has printed its first line."""
    command = [*network.within(namespace), sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def memory(process: int, field: str) -> int:
    """Bytes, by /proc/PID/status."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


@pytest.fixture
def forgeable(network: Network) -> Iterator[Network]:
    """What is sent to 10.77.0.0/16, whose hosts are none, goes to the client, and is counted."""
    network.ip(network.server, "route", "add", "10.77.0.0/16", "via", "10.9.8.2")
    counts = "; ".join(
        f"add table ip {name}; add chain ip {name} c {{ type filter hook {hook} priority 0; }}; "
        f"add rule ip {name} c ip {field} 10.77.0.0/16 counter {verdict}"
        for name, hook, field, verdict in (
            ("came", "prerouting", "daddr", "drop"), ("went", "output", "saddr", "accept"),
        )
    )  # fmt: skip
    client = network.within(network.client)
    run(*client, "nft", counts)
    yield network
    run(*client, "nft", "flush ruleset")
    network.ip(network.server, "route", "del", "10.77.0.0/16")


@needs_namespaces
@needs_nft
def test_f37_an_honest_sender_among_forged_ones(
    forgeable: Network, tmp_path: Path, there: Path
) -> None:
    network = forgeable
    source = tmp_path / "honest"
    source.write_bytes(hashlib.shake_128(b"honest").digest(50 * MEBIBYTE))
    options = ["--udp", "10.9.8.1:0", "--transfer", str(there), "--jsonl"]
    with serving(*options, prefix=network.within(network.server)) as server:
        host, port = server.address("udp", "10.9.8.1")
        at = f"{host}:{port}"
        before = memory(server.process.pid, "VmRSS")
        here, from_anywhere = str(HERE), "10.77.*:4000"
        with contextlib.ExitStack() as stack:

            def begin(namespace: str, code: str, *words: str) -> subprocess.Popen[str]:
                return stack.enter_context(program(network, namespace, code, *words))

            count = str(FORGED)
            flood = begin(network.client, _FORGER, here, "first", at, from_anywhere, count)
            acks = begin(network.client, _FORGER, here, "answers", at, from_anywhere, count)
            assert (line(flood), line(acks)) == ("ready", "ready")
            honest = begin(network.client, _SENDER, host, str(port), str(source))
            to_sender = f"10.9.8.2:{line(honest)}"
            # In the server's name, to the sender: all but the id is right.
            liar = begin(network.server, _FORGER, here, "answers", to_sender, at, count)
            assert line(liar) == "ready"
            assert len(line(honest)) == 64
            for process in (flood, acks, liar):
                assert process.wait(LONG) == 0
        peak = memory(server.process.pid, "VmHWM")
        (sent, sent_bytes) = counter(network, network.client, "ip went")
        (came, came_bytes) = counter(network, network.client, "ip came")
        stats = totals(server)
    assert sent == 2 * FORGED
    assert (there / "honest").read_bytes() == source.read_bytes()
    assert list(there.iterdir()) == [there / "honest"]
    assert (stats["received_transfers"], stats["failed_transfers"]) == (1, 0)
    assert peak < before + 64 * MEBIBYTE
    # Some was answered, with less than came; what ACKs were forged for, with nothing.
    assert came > 0
    assert came_bytes < sent_bytes
    assert came <= FORGED


# --- 39: short datagrams ------------------------------------------------------------------------


@needs_namespaces
@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("asked", [106_496, 4 << 20])
def test_f39_short_datagrams_fit_the_receive_buffer_too(
    network: Network, asked: int, mtu: int
) -> None:
    client, server = network.client, network.server
    for namespace in (client, server):
        network.ip(namespace, "link", "set", "veth0", "mtu", str(mtu))
    words = [*network.within(server), sys.executable, str(HERE / "transfer_reader.py")]
    try:
        with subprocess.Popen(
            [*words, "10.9.8.1", str(asked), "16"], stdout=subprocess.PIPE, text=True
        ) as reader:
            to = f"10.9.8.1:{line(reader)}"
            words = [*network.within(client), RSECHO, "push", "/dev/zero", to, "--quiet"]
            pushed = subprocess.run(
                words, capture_output=True, timeout=LONG, env=clean_environment(), check=False
            )
            assert b"enough" in pushed.stderr
            assert reader.stdout is not None
            found = json.loads(reader.stdout.read())
    finally:
        for namespace in (client, server):
            network.ip(namespace, "link", "set", "veth0", "mtu", "1500")
    assert found["dropped"] == [0] * 16
    assert found["longest_bytes"] == (mtu - 28 if asked > 10**6 else found["longest_bytes"])
    announced = found["buffer_bytes"] // 2
    # With headers that are counted, and whole packets only.
    longest = found["longest_bytes"]
    assert announced * 0.85 - longest < found["most_came_bytes"] <= announced


@needs_namespaces
def test_fragments_are_never_needed(network: Network, source: Path, there: Path) -> None:
    """DF is set, and the size is the path's: no packet is cut, and none too long is missed."""
    options = ["--udp", "10.9.8.1:0", "--transfer", str(there), "--jsonl"]
    with serving(*options, prefix=network.within(network.server)) as server:
        host, port = server.address("udp", "10.9.8.1")
        pushed = rsecho(
            "push", str(source), f"{host}:{port}", prefix=network.within(network.client)
        )
        stats = totals(server)
    assert pushed["chunk_bytes"] == 1500 - 28 - 32
    assert stats["received_transfers"] == 1
    snmp = run(*network.within(network.client), "cat", "/proc/net/snmp")
    names, values = [line.split() for line in snmp.splitlines() if line.startswith("Ip:")]
    assert dict(zip(names, values, strict=True))["FragCreates"] == "0"
