"""Network namespaces joined by a veth, or by a router: a network of our own, for root on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_namespaces = pytest.mark.skipif(
    not (sys.platform == "linux" and os.geteuid() == 0 and shutil.which("ip")),
    reason="network namespaces need root on Linux, and iproute2",
)

PATIENCE = 20


def run(*words: str) -> str:
    """Runs a program to its end; its standard output."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


class Network:
    """`server` at 10.9.8.1, 10.9.8.3 and fd09::1, `client` at 10.9.8.2 and fd09::2, MTU 1500."""

    def __init__(self) -> None:
        self.server = f"rsecho-s{os.getpid()}"
        self.client = f"rsecho-c{os.getpid()}"

    def build(self) -> None:
        """Makes both namespaces and the link."""
        for name in (self.server, self.client):
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        self.ip(
            self.server, "link", "add", "veth0", "type", "veth",
            "peer", "name", "veth0", "netns", self.client,
        )  # fmt: skip
        addresses = {
            self.server: ["10.9.8.1/24", "10.9.8.3/24", "fd09::1/64"],
            self.client: ["10.9.8.2/24", "fd09::2/64"],
        }
        for name, own in addresses.items():
            for address in own:
                words = ["brd", "+"] if "." in address else ["nodad"]
                self.ip(name, "addr", "add", address, *words, "dev", "veth0")
            self.ip(name, "link", "set", "veth0", "addrgenmode", "none")
            number = address.rpartition("::")[2]
            self.ip(name, "addr", "add", f"fe80::{number}", "nodad", "dev", "veth0")
            self.ip(name, "link", "set", "veth0", "up")

    def ip(self, namespace: str, *words: str) -> str:
        """Runs `ip` in a namespace."""
        return run("ip", "-n", namespace, *words)

    def remove(self) -> None:
        """Takes everything away."""
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=PATIENCE)

    def python(self, namespace: str, script: str, *arguments: str) -> str:
        """Runs a Python program in a namespace; its standard output."""
        return run(*self.within(namespace), sys.executable, "-c", script, *arguments)

    def within(self, namespace: str) -> tuple[str, ...]:
        """The words before a command that make it run in a namespace."""
        return "ip", "netns", "exec", namespace


class Routed(Network):
    """`server` at 10.9.8.1 and `client` at 10.9.7.2, with a `router` between them, which has veth1
    towards the server and veth2 towards the client. MTU 1500; every packet goes by itself."""

    def __init__(self) -> None:
        super().__init__()
        # Both networks may be there at a time.
        self.server += "-routed"
        self.client += "-routed"
        self.router = f"rsecho-r{os.getpid()}"

    def build(self) -> None:
        """Makes the namespaces and the links."""
        for name in (self.server, self.client, self.router):
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        run(*self.within(self.router), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        ends = ((self.server, "veth1", "10.9.8.1"), (self.client, "veth2", "10.9.7.2"))
        for name, device, address in ends:
            gateway = address.rpartition(".")[0] + ".254"
            self.ip(
                name, "link", "add", "veth0", "type", "veth",
                "peer", "name", device, "netns", self.router,
            )  # fmt: skip
            for where, link, own in ((name, "veth0", address), (self.router, device, gateway)):
                self.ip(where, "addr", "add", f"{own}/24", "dev", link)
                # A train would be one packet to the router.
                self.ip(where, "link", "set", link, "gso_max_segs", "1", "up")
            self.ip(name, "route", "add", "default", "via", gateway)

    def nft(self, rules: str) -> None:
        """Has the router follow these rules of nftables, instead of those before."""
        run(*self.within(self.router), "nft", f"flush ruleset; {rules}")

    def remove(self) -> None:
        """Takes everything away."""
        super().remove()
        subprocess.run(["ip", "netns", "del", self.router], check=False, timeout=PATIENCE)


@pytest.fixture(scope="module")
def routed() -> Iterator[Routed]:
    """The three namespaces, for a module's tests."""
    made = Routed()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """The two namespaces, for a module's tests."""
    made = Network()
    try:
        made.build()
        yield made
    finally:
        made.remove()
