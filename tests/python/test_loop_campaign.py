"""Echo loops at random, on a link of our own: every bound of docs/guards.md, and honest clients.

`RSECHO_CAMPAIGN_SECONDS=600` runs for ten minutes, `RSECHO_CAMPAIGN_SEED=…` repeats a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command
from netns import Network, needs_namespaces, network, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["network"]  # a fixture is used by its name

pytestmark = needs_namespaces

SECONDS = float(os.environ.get("RSECHO_CAMPAIGN_SECONDS", "10"))
SEED = int(os.environ.get("RSECHO_CAMPAIGN_SEED", time.time_ns() % 1_000_000))
HERE = str(Path(__file__).parent)

# Forges as it is told, while an honest client asks each server; prints what that lost.
_ACT = """
import json, random, socket, sys, time
sys.path.insert(0, sys.argv[1])
from forge import send_forged
plan = json.loads(sys.argv[2])
dice = random.Random(plan["seed"])
ends = [tuple(end) for end in plan["ends"]]
asked = answered = 0
family = socket.AF_INET6 if ":" in ends[0][0] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(2)
    for number, forged in enumerate(plan["forged"]):
        to = forged["to"]
        payload = dice.randbytes(forged["length"])
        send_forged(ends[1 - to], ends[to], payload, hop_limit=forged["hop_limit"])
        if forged["gap"]:
            time.sleep(forged["gap"])
        if plan["asks"] and number % 10 == 0:
            question = b"honest %d." % number
            asked += 1
            client.sendto(question, ends[number // 10 % len(ends) if plan["asks"] == 2 else 0])
            try:
                # Past another copy of the last reply.
                while question not in client.recv(2000).lower():
                    pass
                answered += 1
            except TimeoutError:
                pass
print(json.dumps([asked, answered]))
"""

# An echo of the kind that people copy; ends once it has been silent for a second and a half.
_PLAIN = """
import socket, sys
host = sys.argv[1]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as echo:
    echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    echo.bind((host, 5007))
    print("up", flush=True)
    echo.settimeout(30)
    try:
        while True:
            data, peer = echo.recvfrom(65536)
            echo.settimeout(1.5)
            echo.sendto(data, peer)
    except TimeoutError:
        pass
"""


@dataclass(frozen=True)
class Round:
    """One scenario, and what it must come to."""

    is_v6: bool
    is_foreign: bool
    is_rewritten: bool
    forged: int
    options: tuple[tuple[str, ...], tuple[str, ...]]
    copies: int
    seed: int

    @classmethod
    def thrown(cls, dice: random.Random, can_rewrite: bool) -> Round:
        kind = dice.choice(["ours", "ours", "ours", "foreign", "rewritten"])
        if kind == "rewritten" and not can_rewrite:
            kind = "ours"
        copies = 1
        options = []
        for _ in range(2):
            words = ["--engine", dice.choice(["batch", "portable"])]
            words += ["--workers", dice.choice(["1", "1", "2"])]
            if kind == "ours":
                words += dice.choice(
                    [[], [], ["--responder", "upper"], ["--responder", "prefix=>"]]
                )
                impair = dice.choice(
                    [
                        "",
                        "",
                        "delay 1ms",
                        "delay 2ms 2ms",
                        "loss 5%",
                        "duplicate 100%",
                        "reorder 25% delay 1ms",
                    ]
                )
                if impair:
                    words += ["--impair", impair]
                copies *= 1 + (impair == "duplicate 100%")
            options.append(tuple(words))
        forged = dice.choice([1, 2, 16, 17, 20, 64, dice.randint(1, 500), 500])
        return cls(
            dice.random() < 0.5, kind == "foreign", kind == "rewritten",
            forged, (options[0], options[1]), copies, dice.randrange(1 << 32),
        )  # fmt: skip

    def plan(self, ends: list[tuple[str, int]]) -> dict[str, Any]:
        dice = random.Random(self.seed)
        both = not self.is_foreign and dice.random() < 0.3
        lowest, highest = dice.choice([(64, 64), (255, 255), (1, 255), (1, 40)])
        gap = dice.choice([0, 0, 0.0005, 0.002])
        longest = dice.choice([0, 40, 1400])
        forged = [
            {
                "to": dice.randrange(2) if both else 0,
                "length": dice.randint(0, longest),
                "hop_limit": dice.randint(lowest, highest),
                "gap": gap,
            }
            for _ in range(self.forged)
        ]
        # What is lost on purpose is no client's loss.
        lossy = any("loss" in word for words in self.options for word in words)
        asks = 0 if lossy else 1 if self.is_foreign else 2
        return {"seed": self.seed, "ends": ends, "forged": forged, "asks": asks}

    def most_replies(self, seconds: float, asked: int) -> float:
        """What a server may have sent."""
        if self.is_foreign or self.is_rewritten:
            return 65_536 + 10_000 * seconds + 66 * self.forged + asked
        each = 64 if self.copies == 1 else 256
        return each * self.forged + 2 * asked


@contextlib.contextmanager
def rewriting(network: Network, is_on: bool) -> Iterator[None]:
    sides = [network.server, network.client] if is_on else []
    chain = "add chain inet h c { type filter hook prerouting priority mangle; }"
    add = "add rule inet h c meta l4proto udp"
    rules = f"{add} ip ttl set 64; {add} ip6 hoplimit set 64"
    try:
        for side in sides:
            run(*network.within(side), "nft", f"add table inet h; {chain}; {rules}")
        yield
    finally:
        for side in sides:
            run(*network.within(side), "nft", "delete table inet h")


def play(network: Network, found: Round) -> str:
    hosts = ("fd09::1", "fd09::2") if found.is_v6 else ("10.9.8.1", "10.9.8.2")
    sides = network.server, network.client
    # Each ends by itself once it is over, and not before it has begun on a busy machine.
    common = (
        "--jsonl",
        "--recv-buffer",
        "8M",
        "--send-buffer",
        "8M",
        "--idle-timeout",
        "4s",
        "--udp",
    )
    start = time.monotonic()
    with rewriting(network, found.is_rewritten), contextlib.ExitStack() as stack:
        servers: list[command.Serving] = []
        ends: list[tuple[str, int]] = []
        for side, host, options in zip(sides, hosts, found.options, strict=True):
            if found.is_foreign and servers:
                stack.enter_context(
                    command.running(*network.within(side), sys.executable, "-c", _PLAIN, host)
                )
                ends.append((host, 5007))
                continue
            listen = f"[{host}]:0" if found.is_v6 else f"{host}:0"
            server = stack.enter_context(
                command.serving(*options, *common, listen, prefix=network.within(side))
            )
            servers.append(server)
            ends.append((host, int(server.urls[0].rpartition(":")[2])))
        plan = found.plan(ends)
        shown = network.python(network.server, _ACT, HERE, json.dumps(plan))
        for server in servers:
            server.wait()
    seconds = time.monotonic() - start
    asked, answered = json.loads(shown)
    told = []
    for server in servers:
        assert server.status == 0, server.errors
        stats = server.totals[0]["stats"]
        came = stats["received_packets"] + stats["duplicated_packets"]
        assert came == stats["sent_packets"] + sum(stats["dropped"].values()), stats
        assert stats["sent_packets"] <= found.most_replies(seconds, asked), stats
        told.append(stats["sent_packets"])
    if plan["asks"]:
        assert answered == asked, (asked, answered)
    return f"{told} replies, {answered} of {asked} answered, {seconds:.1f} s"


def test_f17_whatever_goes_round_ends_as_stated(network: Network) -> None:
    dice = random.Random(SEED)
    can_rewrite = shutil.which("nft") is not None
    end = time.monotonic() + SECONDS
    played = 0
    while time.monotonic() < end:
        found = Round.thrown(dice, can_rewrite)
        print(f"\nseed {SEED}, round {played}: {found}", end="", flush=True)
        print(":", play(network, found), end="", flush=True)
        played += 1
    assert played > 0
