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
from typing import TYPE_CHECKING

import goodput
import movers
import network
import once
from network import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PORT = 7001
# What is wanted.
LEAST_PART_OF_SHARE = 0.25
MOST_LOSS = 0.02
# A queue this full is full. CUBIC fills it too, so what is asked is that others do not keep it
# full in much more of the samples than TCP by itself does.
FULL = 0.9
FULLER_THAN_TCP = 0.1


@dataclass
class Flow:
    """One transfer, or the TCP flow."""

    name: str
    mover: movers.Mover
    port: int
    client: once.Running | None = None
    # As the server's packet filter counted them, headers included.
    length: int = 0


@dataclass(frozen=True)
class Sample:
    """The router's queue at a moment."""

    at_seconds: float
    backlog_bytes: int
    sent_packets: int
    dropped_packets: int


@dataclass(frozen=True)
class Figures:
    """Of one run."""

    # 1: as much as each of them should have.
    part_of_share: dict[str, float]
    carried_mbit: float
    loss: float
    queue_limit_bytes: float
    queue_median_bytes: int
    queue_most_bytes: int
    full_part_of_samples: float
    samples: list[Sample]


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
    parser.add_argument("--no-baseline", action="store_true", help="skip the run with TCP alone")
    parser.add_argument(
        "--out", type=Path, default=movers.PROJECT / "target" / "transfer", help="for the results"
    )
    parser.add_argument("--memory", default="/dev/shm", help="folder in memory, for the files")
    parser.add_argument("--profile", default="release", help="cargo's, for the path [release]")
    return parser.parse_args(words)


def count_rules(flows: Sequence[Flow]) -> str:
    """A counter of the packet filter for each flow."""
    rules = [
        "add table ip shares",
        "add chain ip shares input { type filter hook input priority 0; }",
    ]
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
            server = once.Running(built.server, flow.mover.server.format(**filled))
            stack.callback(server.end)
            until = time.monotonic() + once.START_SECONDS
            while not built.server.listens(flow.mover.protocol, flow.port):
                if server.has_ended() or time.monotonic() > until:
                    server.end()
                    raise movers.MoverError(f"{flow.name} did not start: {server.said}")
                time.sleep(0.01)
        for flow in flows:
            filled = known | {"port": str(flow.port), "name": "arrived"}
            flow.client = once.Running(built.client, flow.mover.client.format(**filled))
            stack.callback(flow.client.end)
        until = time.monotonic() + once.START_SECONDS
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


def verdict(options: argparse.Namespace, flows: list[Flow], samples: list[Sample]) -> Figures:
    """What the flows did to each other, and to the queue."""
    # tbf's limit (tc-tbf(8)): what it lets wait.
    limit = options.rate * 1e6 / 8 * options.latency_ms / 1000 + options.burst_bytes
    total = sum(flow.length for flow in flows)
    sent = samples[-1].sent_packets - samples[0].sent_packets
    dropped = samples[-1].dropped_packets - samples[0].dropped_packets
    backlogs = [sample.backlog_bytes for sample in samples]
    return Figures(
        part_of_share={f"{f.name}:{f.port}": f.length * len(flows) / total for f in flows},
        carried_mbit=total * 8 / 1e6 / options.seconds,
        loss=dropped / max(1, sent + dropped),
        queue_limit_bytes=limit,
        queue_median_bytes=sorted(backlogs)[len(backlogs) // 2],
        queue_most_bytes=max(backlogs),
        full_part_of_samples=sum(b >= FULL * limit for b in backlogs) / len(backlogs),
        samples=samples,
    )


def wanted(found: Figures, with_tcp_alone: Figures | None) -> dict[str, bool]:
    """What is asked of them."""
    lines = {
        f"no flow below {LEAST_PART_OF_SHARE} of its share": min(found.part_of_share.values())
        >= LEAST_PART_OF_SHARE,
        f"loss below {MOST_LOSS:.0%}": found.loss < MOST_LOSS,
    }
    if with_tcp_alone is not None:
        most = with_tcp_alone.full_part_of_samples + FULLER_THAN_TCP
        lines[f"the queue full in {most:.0%} of the samples at most, as with TCP alone"] = (
            found.full_part_of_samples <= most
        )
    return lines


def measure(options: argparse.Namespace, names: list[str], words: dict[str, str]) -> Figures:
    """One run with these movers; prints its figures."""
    flows = [Flow(n, movers.MOVERS[n], FIRST_PORT + at) for at, n in enumerate(names)]
    tbf = f"rate {options.rate}mbit burst {options.burst_bytes} latency {options.latency_ms}ms"
    shape = Shape("router", delay_ms=options.delay_ms, tbf=tbf)
    with tempfile.TemporaryDirectory(dir=options.memory) as folder:
        samples = run(options, flows, words, shape, Path(folder))
    found = verdict(options, flows, samples)
    print(", ".join(names))
    for name, part in found.part_of_share.items():
        print(f"  {name:<20} {part:6.2f} of its share")
    print(
        f"  loss {found.loss:.2%}, carried {found.carried_mbit:.1f} Mbit/s\n"
        f"  queue: median {found.queue_median_bytes:,}, most {found.queue_most_bytes:,} of"
        f" {found.queue_limit_bytes:,.0f} bytes; {FULL:.0%} full in"
        f" {found.full_part_of_samples:.0%} of the samples",
        flush=True,
    )
    return found


def main() -> int:
    """Runs, prints, writes."""
    options = read_options()
    if lack := network.missing():
        raise network.NetworkError(lack)
    names = goodput.chosen(options.flows, list(movers.MOVERS), [], "mover")
    troubles: list[str] = []
    options.out.mkdir(parents=True, exist_ok=True)
    able, words = movers.prepare(list(dict.fromkeys([*names, "tcp"])), options.out, troubles)
    if troubles or not able:
        raise movers.MoverError("; ".join(troubles) or "there is no flow")
    words["path"] = movers.build_path(options.profile)
    print(
        f"{options.rate:g} Mbit/s, a queue of {options.latency_ms:g} ms,"
        f" {2 * options.delay_ms:g} ms of round trip, {options.seconds:g} s"
    )
    baseline = None
    if not options.no_baseline:
        baseline = measure(options, ["tcp"] * len(names), words)
    found = measure(options, names, words)
    lines = wanted(found, baseline)
    for what, is_so in lines.items():
        print(f"{'met' if is_so else 'MISSED'}: {what}")
    document = {"found": dataclasses.asdict(found), "wanted": lines}
    if baseline is not None:
        document["with_tcp_alone"] = dataclasses.asdict(baseline)
    (options.out / "fairness.json").write_text(json.dumps(document))
    return 0 if all(lines.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (movers.MoverError, network.NetworkError) as error:
        sys.exit(f"fairness: {error}")
