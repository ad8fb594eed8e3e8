"""Compares `rsecho push` with what moves files today: goodput, and CPU time of both ends.

Every transfer has a network of its own (see network.py), and starts its server and its client
afresh. A repetition goes through the paths; on each, the movers follow each other in a new
order. What arrives is compared by SHA-256. Files come from memory and go to memory, so that no
disk decides.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import movers
import network
import once
from network import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
LOSSES = (0, 1, 5, 20)
# A round trip of 50 ms.
DELAY_MS = 25.0

PATHS = {
    "loopback": (Shape("loopback"), "loopback"),
    "veth": (Shape("veth"), "veth, MTU 1500"),
    **{f"loss{loss}": (Shape("path", loss=loss), f"{loss} % loss") for loss in LOSSES},
    **{
        f"rtt50_loss{loss}": (
            Shape("path", loss=loss, delay_ms=DELAY_MS),
            f"{loss} % loss, 50 ms",
        )
        for loss in LOSSES
    },
    "nft10": (Shape("router", drops_every=10), "a router drops every tenth"),
}
# Cores that others used while a file was moved: more disturbs it.
FOREIGN_CORES = 0.15
# Where short figures of the system's clock are too coarse for that.
LONG_SECONDS = 1.0


@dataclass
class Results:
    """All transfers, and what is said about them."""

    about: dict[str, str]
    movers: list[str]
    paths: list[str]
    cells: list[dict[str, Any]] = field(default_factory=list)

    def of(self, mover: str, path: str) -> list[dict[str, Any]]:
        """The transfers of one mover over one path."""
        return [cell for cell in self.cells if (cell["mover"], cell["path"]) == (mover, path)]

    def goodput(self, mover: str, path: str) -> str:
        """MiB each second, or why there is no such figure."""
        cells = self.of(mover, path)
        whole = [c["length"] / MIB / c["seconds"] for c in cells if c["status"] == "whole"]
        others = [cell for cell in cells if cell["status"] != "whole"]
        if not cells:
            return "-"
        if len(whole) <= len(others):
            late = [c["length"] / MIB / c["seconds"] for c in others if c["status"] == "late"]
            if len(late) * 2 > len(others):
                # How fast it was until it was given up.
                return f"> {others[0]['limit_seconds']:.0f} s at {spread(late)}"
            return f"{others[0]['status']}, {len(others)} of {len(cells)}"
        text = spread(whole)
        return text + (f"; {len(others)} of {len(cells)} not" if others else "")

    def cost(self, mover: str, path: str) -> str:
        """CPU time of sender and receiver, milliseconds each MiB."""
        whole = [cell for cell in self.of(mover, path) if cell["status"] == "whole"]
        if not whole:
            return "-"
        ends = []
        for end in ("sender_cpu_seconds", "receiver_cpu_seconds"):
            ends.append(statistics.median(c[end] * 1000 / (c["length"] / MIB) for c in whole))
        return " + ".join(map(number, ends))

    def wire(self, mover: str, path: str) -> str:
        """Bytes that left the client's device for each byte of the file."""
        whole = [cell for cell in self.of(mover, path) if cell["status"] == "whole"]
        if not whole:
            return "-"
        return number(statistics.median(c["wire_bytes"] / c["length"] for c in whole))

    def sections(self) -> list[tuple[str, list[list[str]]]]:
        """Tables with their headings: paths down, movers across."""
        shown: list[tuple[str, Callable[[str, str], str]]] = [
            ("Goodput, MiB/s", self.goodput),
            ("CPU time, ms/MiB: sender + receiver", self.cost),
            ("Bytes sent for each byte of the file", self.wire),
        ]
        return [
            (
                heading,
                [
                    ["", *self.movers],
                    *([PATHS[p][1], *(cell(m, p) for m in self.movers)] for p in self.paths),
                ],
            )
            for heading, cell in shown
        ]

    def troubles(self) -> list[str]:
        """What a reader of the figures has to know."""
        lines = []
        for cell in self.cells:
            if cell["status"] in ("failed", "differs"):
                said = f": {cell['said']}" if cell["said"] else ""
                lines.append(f"{cell['mover']}, {cell['path']}: {cell['status']}{said}")
            ways = cell["path_counts"]
            if cell["device_lost"] or any(way["overflowed"] or way["refused"] for way in ways):
                lines.append(
                    f"{cell['mover']}, {cell['path']}: the path lost more than it was told to"
                )
        disturbed = sum(
            c["foreign_cores"] > FOREIGN_CORES and c["seconds"] > LONG_SECONDS for c in self.cells
        )
        if disturbed:
            lines.append(f"{disturbed} of {len(self.cells)} were disturbed by other work")
        return lines

    def text(self) -> str:
        """For a terminal."""
        lines = []
        for heading, table in self.sections():
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines.append(heading)
            for first, *rest in table:
                cells = (f"{t:>{w}}" for t, w in zip(rest, widths[1:], strict=True))
                lines.append("  " + "  ".join((f"{first:<{widths[0]}}", *cells)))
            lines.append("")
        return "\n".join(lines)

    def markdown(self) -> str:
        """For docs/performance.md."""
        about = self.about
        lines = [
            f"Measured {about['date']}, {about['kernel']}, {about['cpu']}; {about['versions']}."
            f" {about['file']}. Medians of {about['repetitions']}, with the lowest and the"
            " highest; CPU time from the first packet on.",
            "",
            f"    {about['command']}",
            "",
            "| mover | |",
            "|---|---|",
            *(f"| {name} | {movers.MOVERS[name].meaning} |" for name in self.movers),
            "",
        ]
        for heading, (head, *rows) in self.sections():
            lines += [f"**{heading}**", ""]
            lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
            lines.append("")
        return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits or more."""
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    if len(values) == 1:
        return number(values[0])
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(middle)} ({number(low)}-{number(high)})"


def measure(
    options: argparse.Namespace, results: Results, words: dict[str, str], job: once.Job
) -> None:
    """Goes through all of it."""
    hopeless: set[tuple[str, str]] = set()
    for repetition in range(options.reps):
        for path in results.paths:
            for mover in random.sample(results.movers, len(results.movers)):
                if (mover, path) in hopeless and options.skip_late:
                    continue
                seed = repetition + 1
                with network.network(PATHS[path][0], words["path"], seed) as built:
                    outcome = once.move(built, movers.MOVERS[mover], words, job)
                if outcome.status == "late":
                    hopeless.add((mover, path))
                cell = outcome.document() | {
                    "mover": mover,
                    "path": path,
                    "repetition": repetition,
                    "limit_seconds": job.limit_seconds,
                    "path_counts": built.path_counts,
                }
                results.cells.append(cell)
                print(
                    f"{repetition + 1} {path} {mover}: {cell['status']} {cell['seconds']:.2f} s"
                    f" {cell['said']}",
                    file=sys.stderr,
                    flush=True,
                )


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """From these words, or the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ", ".join(movers.MOVERS)
    parser.add_argument("--reps", type=int, default=5, help="repetitions [5]")
    parser.add_argument("--size", type=float, default=100.0, help="of the file, MiB [100]")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a transfer [120]")
    parser.add_argument(
        "--prospect",
        type=float,
        default=20.0,
        help="seconds until what would take twice the limit is given up [20]",
    )
    parser.add_argument(
        "--skip-late", action="store_true", help="do not repeat what once took too long"
    )
    parser.add_argument("--movers", help=f"of {known}; all [{','.join(movers.DEFAULT_MOVERS)}]")
    parser.add_argument("--paths", help=f"of {', '.join(PATHS)}; all [all]")
    parser.add_argument(
        "--out",
        type=Path,
        default=movers.PROJECT / "target" / "transfer",
        help="folder for the results [target/transfer]",
    )
    parser.add_argument(
        "--memory", default="/dev/shm", help="folder in memory, for the files [/dev/shm]"
    )
    parser.add_argument("--profile", default="release", help="cargo's, for the path [release]")
    parser.add_argument("--list", action="store_true", help="explain the movers and paths")
    return parser.parse_args(words)


def chosen(text: str | None, known: list[str], default: list[str], what: str) -> list[str]:
    """The names that an option gave."""
    if text is None:
        return default
    names = known if text == "all" else [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            raise movers.MoverError(f"there is no {what} {name}; there are {', '.join(known)}")
    return names


def about(options: argparse.Namespace, words: dict[str, str]) -> dict[str, str]:
    """What a figure cannot be read without; no name of a machine."""
    versions = [f"Python {platform.python_version()}"]
    if "rsecho" in words:
        done = subprocess.run([words["rsecho"], "--version"], capture_output=True, text=True)
        versions.insert(0, done.stdout.strip())
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    # Without what names a place on this machine.
    defaults = read_options([])
    given = [
        f"--{name} {value}"
        for name in ("reps", "size", "limit", "movers", "paths")
        if (value := getattr(options, name)) != getattr(defaults, name)
    ]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": f"Linux {platform.release()}",
        "cpu": f"{os.cpu_count()} CPUs, {model}",
        "versions": ", ".join(versions),
        "file": f"A file of {options.size:g} MiB, from memory to memory",
        "repetitions": f"{options.reps} repetitions",
        "command": "make bench-transfer" + (f" ARGS='{' '.join(given)}'" if given else ""),
    }


def make_file(path: Path, length: int) -> str:
    """Writes a file that cannot be compressed; its SHA-256."""
    digest = hashlib.sha256()
    source = random.Random(10)
    with path.open("wb") as file:
        for start in range(0, length, MIB):
            block = source.randbytes(min(MIB, length - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def main() -> int:
    """Compares, prints, writes."""
    options = read_options()
    if options.list:
        for name, mover in movers.MOVERS.items():
            print(f"{name:<16} {mover.meaning}")
        for name, (_, meaning) in PATHS.items():
            print(f"{name:<16} {meaning}")
        return 0
    if lack := network.missing():
        raise network.NetworkError(lack)
    names = chosen(options.movers, list(movers.MOVERS), movers.DEFAULT_MOVERS, "mover")
    paths = chosen(options.paths, list(PATHS), list(PATHS), "path")
    options.out.mkdir(parents=True, exist_ok=True)
    troubles: list[str] = []
    able, words = movers.prepare(names, options.out, troubles)
    words["path"] = movers.build_path(options.profile)
    results = Results(about(options, words), able, paths)
    for name, text in results.about.items():
        print(f"{name}: {text}")
    print(flush=True)
    with tempfile.TemporaryDirectory(dir=options.memory) as folder:
        file, arrivals = Path(folder) / "file", Path(folder) / "arrivals"
        length = int(options.size * MIB)
        job = once.Job(
            file=file,
            length=length,
            sha256=make_file(file, length),
            folder=arrivals,
            limit_seconds=options.limit,
            prospect_seconds=options.prospect,
        )
        try:
            measure(options, results, words, job)
        except KeyboardInterrupt:
            print("interrupted: what is there so far")
    troubles += results.troubles()
    print(results.text())
    for trouble in troubles:
        print(f"WARNING {trouble}")
    document = {"about": results.about, "cells": results.cells, "warnings": troubles}
    (options.out / "goodput.json").write_text(json.dumps(document))
    (options.out / "goodput.md").write_text(results.markdown())
    print(f"written to {options.out}: goodput.json, goodput.md")
    return 1 if any(cell["status"] == "differs" for cell in results.cells) else 0


def end(*_: object) -> None:
    """So that what was started is ended as well."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except (movers.MoverError, network.NetworkError) as error:
        sys.exit(f"goodput: {error}")
