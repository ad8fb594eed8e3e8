"""Whether transfers leave others their share: some of them and one TCP flow on a slow link.

A router's link to the server carries 20 Mbit/s (tc-tbf(8)). All flows start together; for 30 s
the packet filter counts what each brings to the server, and ten times a second tc(8) shows the
router's queue.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import goodput
import movers
import network
import transfer
from network import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PORT = 7001
# What is wanted.
LEAST_PART_OF_SHARE = 0.25
MOST_LOSS = 0.02
# A queue this full is full, and one that is so in this part of the samples stays full.
FULL = 0.9
MOST_FULL = 0.5


@dataclass
class Flow:
    """One transfer, or the TCP flow."""

    name: str
    mover: movers.Mover
    port: int
    client: transfer.Running | None = None
    # As the server's packet filter counted them, headers included.
    length: int = 0


@dataclass(frozen=True)
class Sample:
    """The router's queue at a moment."""

    at_seconds: float
    backlog_bytes: int
    sent_packets: int
    dropped_packets: int


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """From these words, or the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ", ".join(movers.MOVERS)
    parser.add_argument("--flows", default="rsecho,rsecho,tcp", help=f"of {known} [%(default)s]")
    parser.add_argument("--seconds", type=float, default=30.0, help="counted [%(default)s]")
    parser.add_argument("--rate", type=float, default=20.0, help="of the link, Mbit/s [20]")
    parser.add_argument("--burst-bytes", type=int, default=4000, help="tbf's burst [4000]")
    parser.add_argument(
        "--latency-ms", type=float, default=50.0, help="that the queue may take [50]"
    )
    parser.add_argument(
        "--delay-ms", type=float, default=0.0, help="of the way to the router, each way [0]"
    )
    parser.add_argument(
        "--out", type=Path, default=movers.PROJECT / "target" / "transfer", help="for the results"
    )
    parser.add_argument("--memory", default="/dev/shm", help="folder in memory, for the files")
    parser.add_argument("--profile", default="release", help="cargo's, for the path [release]")
    return parser.parse_args(words)


def count_rules(flows: Sequence[Flow]) -> str:
    """A counter of the packet filter for each flow."""
    rules = ["add table ip shares", "add chain ip shares input { type filter hook input priority 0; }"]
    for flow in flows:
        rules.append(f"add counter ip shares port{flow.port}")
        rules.append(
            f"add rule ip shares input {flow.mover.protocol} dport {flow.port}"
            f" counter name port{flow.port}"
        )
    return "; ".join(rules)


def read_counts(server: network.Namespace) -> dict[int, int]:
    """Bytes that came to each port."""
    shown = json.loads(network.run(*server.within(), "nft", "-j", "list counters"))
    counters = (item["counter"] for item in shown["nftables"] if "counter" in item)
    return {int(c["name"].removeprefix("port")): int(c["bytes"]) for c in counters}


def run(
    options: argparse.Namespace,
    flows: list[Flow],
    words: dict[str, str],
    shape: Shape,
    folder: Path,
) -> list[Sample]:
    """Starts all, counts, samples, ends all."""
    file = folder / "file"
    # More than one flow alone could move in that time, twice over.
    goodput.make_file(file, int(options.rate * 1e6 / 8 * options.seconds * 2))
    with network.network(shape, words["path"]) as built, contextlib.ExitStack() as stack:
        assert built.router is not None
        network.run(*built.server.within(), "nft", count_rules(flows))
        known = words | {"host": built.host, "file": str(file)}
        for flow in flows:
            own = folder / str(flow.port)
            own.mkdir()
            filled = known | {"port": str(flow.port), "folder": str(own), "name": "arrived"}
            server = transfer.Running(built.server, flow.mover.server.format(**filled))
            stack.callback(server.end)
            until = time.monotonic() + transfer.START_SECONDS
            while not built.server.listens(flow.mover.protocol, flow.port):
                if server.has_ended() or time.monotonic() > until:
                    server.end()
                    raise movers.MoverError(f"{flow.name} did not start: {server.said}")
                time.sleep(0.01)
        for flow in flows:
            filled = known | {"port": str(flow.port), "name": "arrived"}
            flow.client = transfer.Running(built.client, flow.mover.client.format(**filled))
            stack.callback(flow.client.end)
        until = time.monotonic() + transfer.START_SECONDS
        while not all(read_counts(built.server).values()):
            if time.monotonic() > until:
                raise movers.MoverError("a flow did not start")
            time.sleep(0.02)
        before = read_counts(built.server)
        samples = sample(built.router, options.seconds)
        for port, length in read_counts(built.server).items():
            for flow in flows:
                if flow.port == port:
                    flow.length = length - before[port]
        for flow in flows:
            assert flow.client is not None
            if flow.client.has_ended():
                raise movers.MoverError(f"{flow.name} ended before the time was over")
    return samples


def sample(router: network.Namespace, seconds: float) -> list[Sample]:
    """The queue, ten times a second."""
    samples: list[Sample] = []
    start = time.monotonic()
    while (at := time.monotonic() - start) < seconds:
        shown = network.queue(router)
        samples.append(Sample(at, shown["backlog"], shown["packets"], shown["drops"]))
        time.sleep(max(0.0, start + 0.1 * len(samples) - time.monotonic()))
    return samples


def verdict(
    options: argparse.Namespace, flows: list[Flow], samples: list[Sample]
) -> dict[str, Any]:
    """The figures, and what is wanted of them."""
    # tbf's limit (tc-tbf(8)): what it lets wait.
    limit = options.rate * 1e6 / 8 * options.latency_ms / 1000 + options.burst_bytes
    total = sum(flow.length for flow in flows)
    share = {
        f"{flow.name}:{flow.port}": flow.length * len(flows) / total for flow in flows
    }
    sent = samples[-1].sent_packets - samples[0].sent_packets
    dropped = samples[-1].dropped_packets - samples[0].dropped_packets
    backlogs = sorted(sample.backlog_bytes for sample in samples)
    full = sum(backlog >= FULL * limit for backlog in backlogs) / len(backlogs)
    loss = dropped / max(1, sent + dropped)
    return {
        "seconds": samples[-1].at_seconds,
        "carried_mbit": total * 8 / 1e6 / options.seconds,
        # 1: as much as each of them should have.
        "part_of_share": share,
        "jain_index": total**2 / (len(flows) * sum(flow.length**2 for flow in flows)),
        "loss": loss,
        "queue_bytes": {
            "limit": limit,
            "median": backlogs[len(backlogs) // 2],
            "most": backlogs[-1],
        },
        "full_part_of_samples": full,
        "wanted": {
            f"no flow below {LEAST_PART_OF_SHARE} of its share": min(share.values())
            >= LEAST_PART_OF_SHARE,
            f"loss below {MOST_LOSS:.0%}": loss < MOST_LOSS,
            f"queue {FULL:.0%} full in less than {MOST_FULL:.0%} of the samples": full < MOST_FULL,
        },
    }


def main() -> int:
    """Runs, prints, writes."""
    options = read_options()
    if lack := network.missing():
        raise network.NetworkError(lack)
    names = goodput.chosen(options.flows, list(movers.MOVERS), [], "mover")
    troubles: list[str] = []
    options.out.mkdir(parents=True, exist_ok=True)
    able, words = movers.prepare(list(dict.fromkeys(names)), options.out, troubles)
    if troubles or not able:
        raise movers.MoverError("; ".join(troubles) or "there is no flow")
    words["path"] = movers.build_path(options.profile)
    flows = [Flow(n, movers.MOVERS[n], FIRST_PORT + at) for at, n in enumerate(names)]
    tbf = f"rate {options.rate}mbit burst {options.burst_bytes} latency {options.latency_ms}ms"
    shape = Shape("router", delay_ms=options.delay_ms, tbf=tbf)
    with tempfile.TemporaryDirectory(dir=options.memory) as folder:
        samples = run(options, flows, words, shape, Path(folder))
    found = verdict(options, flows, samples)
    print(
        f"{options.rate:g} Mbit/s, queue of {options.latency_ms:g} ms,"
        f" {2 * options.delay_ms:g} ms of round trip; {found['seconds']:.0f} s"
    )
    for name, part in found["part_of_share"].items():
        print(f"  {name:<20} {part:6.2f} of its share")
    print(f"  loss {found['loss']:.2%}, carried {found['carried_mbit']:.1f} Mbit/s")
    queue = found["queue_bytes"]
    print(
        f"  queue: median {queue['median']:,}, most {queue['most']:,} of {queue['limit']:,.0f} bytes;"
        f" {found['full_part_of_samples']:.0%} of the samples {FULL:.0%} full"
    )
    for wanted, is_so in found["wanted"].items():
        print(f"{'met' if is_so else 'MISSED'}: {wanted}")
    document = found | {"samples": [dataclasses.asdict(sample) for sample in samples]}
    (options.out / "fairness.json").write_text(json.dumps(document))
    return 0 if all(found["wanted"].values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (movers.MoverError, network.NetworkError) as error:
        sys.exit(f"fairness: {error}")
