"""Networks to move files through: namespaces on this machine, for root on Linux.

Each has a client at one end and a server at the other; what lies between them differs. All is
taken away when the `with` statement ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 20.0
MTU_BYTES = 1500
# Packets that a TUN device holds until the path takes them.
DEVICE_QUEUE_PACKETS = 10_000
# What one TCP connection learns of a path must not help the next.
NO_MEMORY = "net.ipv4.tcp_no_metrics_save=1"
NICE = -10


class NetworkError(Exception):
    """A network cannot be built; printed without a traceback."""


@dataclass(frozen=True)
class Shape:
    """What lies between client and server."""

    # `loopback`; `veth`: a cable of MTU 1500; `path`: one with loss and delay (see path/);
    # `router`: a third host, with a cable to each.
    kind: str
    # Path: percent of the packets, each way, drawn for each by itself.
    loss: float = 0.0
    # Path, also of a router's cable to the client: one way; a round trip takes it twice.
    delay_ms: float = 0.0
    # Router: drops every so-manieth packet of both directions.
    drops_every: int | None = None
    # Router: what tc-tbf(8) is told for its device towards the server.
    tbf: str | None = None


@dataclass
class Network:
    """Two hosts, and what is known of the way between them."""

    client: Namespace
    server: Namespace
    # Where the server listens.
    host: str
    # The client's device, over which files leave.
    device: str
    router: Namespace | None = None
    path: subprocess.Popen[str] | None = None
    # What the path says at its end of its two directions: packets that came, were lost, …
    path_counts: list[dict[str, int]] = field(default_factory=list)

    def path_cpu_seconds(self) -> float:
        """User and system time of what stands in for the path so far."""
        if self.path is None:
            return 0.0
        words = Path(f"/proc/{self.path.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def run(*words: str) -> str:
    """Runs a program to its end; its standard output."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def missing() -> str | None:
    """What networks need and is not here; None: nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"{program} is not found: install {package}"
    return None


class Namespace:
    """A network namespace, and a process that waits in it, through which it is looked at."""

    numbers = itertools.count()

    def __init__(self, role: str) -> None:
        self.name = f"rsecho-{role}{os.getpid()}-{next(self.numbers)}"
        run("ip", "netns", "add", self.name)
        # cat(1) ends with its standard input: with this process at the latest.
        self.holder = subprocess.Popen(
            [*self.within(), "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            self.await_holder()
            run(*self.within(), "sysctl", "-qw", NO_MEMORY)
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    def await_holder(self) -> None:
        """Until the holder is in the namespace: ip(8) enters it first, then becomes cat."""
        until = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{self.holder.pid}/comm").read_text().strip() != "cat":
            if self.holder.poll() is not None or time.monotonic() > until:
                raise NetworkError(f"no process could enter {self.name}")
            time.sleep(0.001)

    def within(self) -> tuple[str, ...]:
        """The words before a command that make it run here."""
        return "ip", "netns", "exec", self.name

    def ip(self, *words: str) -> str:
        """Runs `ip` in it."""
        return run("ip", "-n", self.name, *words)

    def connect(self, device: str, address: str) -> None:
        """Gives a device its address and starts it."""
        self.ip("link", "set", device, "mtu", str(MTU_BYTES))
        self.ip("link", "set", device, "addrgenmode", "none")
        self.ip("addr", "add", address, "dev", device)
        self.ip("link", "set", device, "up")

    def sent(self, device: str) -> tuple[int, int, int]:
        """The packets (trains as one) and bytes that a device has sent, and packets it lost
        because its queue was full."""
        for line in Path(f"/proc/{self.holder.pid}/net/dev").read_text().splitlines():
            name, colon, numbers = line.partition(":")
            if colon and name.strip() == device:
                words = numbers.split()
                return int(words[9]), int(words[8]), int(words[11])
        raise NetworkError(f"{self.name} has no device {device}")

    def listens(self, protocol: str, port: int) -> bool:
        """Whether a socket has this port, and takes connections if it is TCP's."""
        # TCP_LISTEN, and TCP_CLOSE as which unconnected UDP sockets are shown.
        wanted = "0A" if protocol == "tcp" else "07"
        for family in ("", "6"):
            table = Path(f"/proc/{self.holder.pid}/net/{protocol}{family}").read_text()
            for line in table.splitlines()[1:]:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and words[3] == wanted:
                    return True
        return False

    def remove(self) -> None:
        """Takes it away."""
        if self.holder.stdin is not None:
            self.holder.stdin.close()
        self.holder.wait(PATIENCE_SECONDS)
        subprocess.run(["ip", "netns", "del", self.name], check=False, timeout=PATIENCE_SECONDS)


@contextlib.contextmanager
def network(shape: Shape, path_program: str, seed: int = 1) -> Iterator[Network]:
    """Builds one."""
    with contextlib.ExitStack() as stack:

        def namespace(role: str) -> Namespace:
            made = Namespace(role)
            stack.callback(made.remove)
            return made

        client = namespace("c")
        if shape.kind == "loopback":
            # Some resolve with AI_ADDRCONFIG (getaddrinfo(3)), for which ::1 and 127.0.0.1 do
            # not count.
            client.ip("addr", "add", "10.9.8.1/32", "dev", "lo")
            yield Network(client, client, "127.0.0.1", "lo")
            return
        server = namespace("s")
        found = Network(client, server, "10.9.8.1", "cable")
        between = server
        if shape.kind == "router":
            between = found.router = namespace("r")
        # The client's end of its cable, then the other.
        if shape.kind == "veth" or not (shape.loss or shape.delay_ms or shape.kind == "path"):
            client.ip(
                *("link", "add", "cable", "type", "veth"),
                *("peer", "name", "near", "netns", between.name),
            )
        else:
            stack.enter_context(path(found, between, shape, path_program, seed))
        if found.router is None:
            client.connect("cable", "10.9.8.2/24")
            server.connect("near", "10.9.8.1/24")
        else:
            route(found, found.router, shape)
        yield found


@contextlib.contextmanager
def path(
    found: Network, between: Namespace, shape: Shape, program: str, seed: int
) -> Iterator[None]:
    """A cable with loss and delay from the client to another namespace."""
    near, far = f"rsc{os.getpid()}", f"rss{os.getpid()}"
    words = [program, near, far, "--seed", str(seed)]
    words += ["--loss", str(shape.loss), "--delay-ms", str(shape.delay_ms)]
    found.path = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=hurry
    )
    try:
        assert found.path.stdout is not None
        if found.path.stdout.readline() != "ready\n":
            raise NetworkError("the path did not start")
        for device, space, name in ((near, found.client, "cable"), (far, between, "near")):
            run("ip", "link", "set", device, "txqueuelen", str(DEVICE_QUEUE_PACKETS))
            run("ip", "link", "set", device, "netns", space.name, "name", name)
        yield
        said, _ = found.path.communicate(timeout=PATIENCE_SECONDS)
        found.path_counts = json.loads(said)
    finally:
        found.path.kill()
        found.path.communicate()


def hurry() -> None:
    """What stands in for the path goes before what it joins."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def route(found: Network, router: Namespace, shape: Shape) -> None:
    """Joins client and server by a router."""
    router.ip(
        *("link", "add", "far", "type", "veth"),
        *("peer", "name", "near", "netns", found.server.name),
    )
    found.client.connect("cable", "10.9.7.2/24")
    router.connect("near", "10.9.7.1/24")
    router.connect("far", "10.9.8.2/24")
    found.server.connect("near", "10.9.8.1/24")
    found.client.ip("route", "add", "default", "via", "10.9.7.1")
    found.server.ip("route", "add", "default", "via", "10.9.8.2")
    run(*router.within(), "sysctl", "-qw", "net.ipv4.ip_forward=1")
    if shape.drops_every:
        # Trains would be dropped as one: senders cut them before the router sees them.
        found.client.ip("link", "set", "cable", "gso_max_segs", "1")
        found.server.ip("link", "set", "near", "gso_max_segs", "1")
        run(
            *router.within(),
            "nft",
            "add table ip lossy; add chain ip lossy forward"
            " { type filter hook forward priority 0; };"
            f" add rule ip lossy forward numgen inc mod {shape.drops_every} == 0 drop",
        )
    if shape.tbf:
        tc = ("tc", "qdisc", "add", "dev", "far", "root", "tbf")
        run(*router.within(), *tc, *shape.tbf.split())


def queue(router: Namespace) -> dict[str, Any]:
    """What tc(8) shows of the router's device towards the server: backlog, drops, …"""
    shown = json.loads(run(*router.within(), "tc", "-s", "-j", "qdisc", "show", "dev", "far"))
    first: dict[str, Any] = shown[0]
    return first
