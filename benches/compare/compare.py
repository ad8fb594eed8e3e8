"""Compares rsecho with what people use today: CPU time per echo, rate, latency.

Every repetition starts all servers afresh and goes through the workloads; within a workload
the servers follow each other in a new order, so that a machine that changes its pace does so
for all of them. Ratios are taken within a repetition. Every echo is verified (see load/). Of
what is started, one server works at a time: do not add one that never sleeps.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import random
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Workload:
    """What the load generator does."""

    protocol: str
    options: str
    meaning: str


WORKLOADS = {
    "ping_pong": Workload("udp", "--window 1", "one client, one datagram at a time"),
    "one_peer": Workload("udp", "--window 64", "one client, 64 datagrams on the way"),
    "peers64": Workload("udp", "--clients 64", "64 clients, one datagram on the way each"),
    "gso_source": Workload(
        "udp", "--window 64 --send-trains 64", "one client sends trains of 64, takes singles"
    ),
    "trains": Workload(
        "udp",
        "--window 64 --send-trains 64 --take-trains",
        "one client sends and takes trains of 64",
    ),
    "conns50": Workload("tcp", "--clients 50", "50 connections, one message on the way each"),
    "bulk": Workload(
        "tcp", "--length 65536 --window 8", "one connection, 512 KiB on the way, in 64 KiB"
    ),
    "ping_pong_sleep": Workload("udp", "--window 1 --sleep", "ping_pong by a client that sleeps"),
    "trains_1472": Workload(
        "udp",
        "--window 64 --send-trains 64 --take-trains --length 1472",
        "trains of full Ethernet datagrams",
    ),
    "tcp_ping_pong": Workload("tcp", "--window 1", "one connection, one message at a time"),
    "connect": Workload("tcp", "--connect --clients 32", "connect, echo, close; 32 at a time"),
}
DEFAULT_WORKLOADS = list(WORKLOADS)[:7]

# What grows, and how the load generator is told.
GROWTH = {
    "in_flight": ("udp", "--window {}", [1, 2, 4, 8, 16, 32, 64, 128]),
    "peers": ("udp", "--clients {}", [1, 10, 100, 1000]),
    "connections": ("tcp", "--clients {}", [1, 10, 100, 1000, 5000]),
}

# Every UDP server gets the same receive buffer, so that none loses by its queue.
RSECHO = {
    "udp": "{rsecho} serve --recv-buffer 4M --force-buffers --udp {host}:0",
    "tcp": "{rsecho} serve --tcp {host}:0",
}
SERVERS = {
    "rsecho": RSECHO,
    "rsecho_latency": {"udp": RSECHO["udp"] + " --wait latency"},
    "rsecho_portable": {name: command + " --engine portable" for name, command in RSECHO.items()},
    "asyncio": dict.fromkeys(("udp", "tcp"), "{python} {peers} asyncio {protocol}"),
    "uvloop": dict.fromkeys(("udp", "tcp"), "{python} {peers} uvloop {protocol}"),
    "plain_loop": dict.fromkeys(("udp", "tcp"), "{plain_loop} {protocol}"),
}
DEFAULT_SERVERS = ["rsecho", "asyncio", "uvloop", "plain_loop"]


@dataclass(frozen=True)
class Group:
    """Servers that do something else than those above, and what they are held to."""

    meaning: str
    workloads: dict[str, Workload]
    servers: dict[str, dict[str, str]]
    default_workloads: list[str]
    goals: list[report.Goal]


UPPER = "env PYTHONPATH={here} " + RSECHO["udp"] + " --responder python=peers:upper"
ANY_RATE = " --rate-limit 1000000000 --rate-limit-total 1000000000"
GROUPS = {
    "responders": Group(
        "answers from Python, `data.upper()`",
        {
            name: Workload("udp", f"--upper {WORKLOADS[name].options}", WORKLOADS[name].meaning)
            for name in ("one_peer", "peers64", "ping_pong", "ping_pong_sleep")
        },
        {
            "rsecho": {"udp": UPPER},
            "asyncio": {"udp": "{python} {peers} asyncio udp_upper"},
            "uvloop": {"udp": "{python} {peers} uvloop udp_upper"},
            # The same without Python: what is left is the price of the callable.
            "rsecho_native": {"udp": RSECHO["udp"] + " --responder upper"},
        },
        ["one_peer", "peers64", "ping_pong"],
        [
            report.Goal("rsecho", "uvloop", "one_peer", 2.0),
            report.Goal("rsecho", "asyncio", "one_peer", 8.0),
        ],
    ),
    "guards": Group(
        "what protections cost",
        {name: w for name, w in WORKLOADS.items() if w.protocol == "udp"},
        {
            "rsecho": {"udp": RSECHO["udp"]},
            "no_loop_guard": {"udp": RSECHO["udp"] + " --no-loop-guard"},
            "rate_limits": {"udp": RSECHO["udp"] + ANY_RATE},
        },
        ["one_peer", "peers64", "gso_source", "trains"],
        [
            report.Goal(server, peer, workload, at_least)
            for workload in ("one_peer", "peers64", "gso_source", "trains")
            # As much as can be told from noise; and "within 10 %".
            for server, peer, at_least in (
                ("rsecho", "no_loop_guard", 0.95),
                ("rate_limits", "rsecho", 1 / 1.1),
            )
        ],
    ),
}

START_SECONDS = 10.0
NICE = -10
# Descriptors of a server or a load beside those of its connections.
SPARE_DESCRIPTORS = 100


class CompareError(Exception):
    """Something a person has to know; printed without a traceback."""


# ---- the machine -----------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where servers and load run."""

    server: int | None
    load: int | None

    @classmethod
    def choose(cls, wanted: str | None) -> Place:
        """Two cores of one package where there are two; any CPU for both otherwise."""
        if wanted == "none":
            return cls(None, None)
        if wanted is not None:
            server, _, load = wanted.partition(",")
            return cls(int(server), int(load))
        first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            return cls(None, None)
        package, core = topology(first)
        alike = [cpu for cpu in others if topology(cpu)[0] == package]
        apart = [cpu for cpu in alike if topology(cpu)[1] != core]
        return cls(first, (apart or alike or others)[0])

    @property
    def is_shared(self) -> bool:
        """No CPU for each: a load that never sleeps could starve the server."""
        return self.load is None

    def __str__(self) -> str:
        if self.is_shared:
            return "servers and load on any CPU, and a load that sleeps"
        return f"servers on CPU {self.server}, load on CPU {self.load}"


def topology(cpu: int) -> tuple[str, str]:
    """The package and the core of a CPU; siblings share a core."""
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        package = (folder / "physical_package_id").read_text().strip()
        return package, (folder / "core_id").read_text().strip()
    except OSError:
        return "", str(cpu)


def settle(cpu: int | None) -> None:
    """Runs in a child before its program: its CPU, and priority where that is permitted."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def cpu_model() -> str:
    """As /proc/cpuinfo names it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def steady_congestion_control() -> str | None:
    """One that does not pace: BBR halves what loopback can carry."""
    for name in ("cubic", "reno"):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
            return name
    return None


def raise_descriptor_limit() -> int:
    """As far as it goes without privilege; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


# ---- programs --------------------------------------------------------------------------


def build_load(profile: str) -> str:
    """Builds the load generator unless it is there; its path."""
    cargo = os.environ.get("CARGO", "cargo")
    if shutil.which(cargo) is None:
        raise CompareError(f"{cargo} is not found: the load generator is built with it")
    words = [cargo, "build", "--locked", "--profile", profile, "--example", "load"]
    words += ["--message-format", "json-render-diagnostics"]
    done = subprocess.run(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CompareError("the load generator cannot be built")
    built = [json.loads(line) for line in done.stdout.splitlines()]
    paths = [str(found["executable"]) for found in built if found.get("executable")]
    return paths[-1]


def build_plain_loop(folder: Path) -> str:
    """Compiles the plain loop; its path."""
    compiler = os.environ.get("CC", "gcc")
    if shutil.which(compiler) is None:
        raise CompareError(f"{compiler} is not found: the plain loop is compiled with it (set CC)")
    program = folder / "plain_loop"
    words = [compiler, "-O2", "-Wall", "-pthread", "-o", str(program)]
    words.append(str(HERE / "plain_loop.c"))
    if subprocess.run(words, check=False).returncode != 0:
        raise CompareError("the plain loop cannot be compiled")
    return str(program)


def uvloop_version() -> str | None:
    """None: it is not installed."""
    try:
        return importlib.metadata.version("uvloop")
    except importlib.metadata.PackageNotFoundError:
        return None


class Running:
    """A server in a process of its own: `with Running(...) as server`."""

    def __init__(self, command: str, cpu: int | None) -> None:
        # Closed in __exit__; a pipe that nobody reads would fill.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            preexec_fn=lambda: settle(cpu),
        )
        self.address = ""

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        impatience = threading.Timer(START_SECONDS, self.process.kill)
        impatience.start()
        try:
            # All say where they listen, as in "… listening udp://127.0.0.1:9999".
            for line in self.process.stdout:
                _, found, address = line.partition(f"://{HOST}:")
                if found:
                    self.address = f"{HOST}:{int(address)}"
                    return self
        finally:
            impatience.cancel()
        self.stop()
        raise CompareError(f"did not say where it listens; {self.said()}")

    def said(self) -> str:
        """The end of its error output."""
        self.errors.seek(0)
        return self.errors.read()[-300:].decode(errors="replace").strip() or "it said nothing"

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.errors.close()

    def stop(self) -> None:
        """Ends it: it holds nothing that would need a farewell."""
        self.process.kill()
        self.process.communicate()


# ---- measuring -------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is measured, and with what."""

    workloads: dict[str, Workload]
    servers: dict[str, dict[str, str]]
    reps: int
    seconds: float
    warmup: float
    attempts: int
    place: Place
    load: str
    words: dict[str, str]
    congestion: str | None

    def run(self, troubles: list[str]) -> list[dict[str, Any]]:
        """All cells."""
        cells = []
        for repetition in range(self.reps):
            for protocol in ("udp", "tcp"):
                with contextlib.ExitStack() as stack:
                    running = dict(self.start(protocol, stack, troubles))
                    for cell in self.round(protocol, running, troubles):
                        cells.append({"repetition": repetition, **cell})
            print(f"repetition {repetition + 1} of {self.reps} done", file=sys.stderr, flush=True)
        return cells

    def start(
        self, protocol: str, stack: contextlib.ExitStack, troubles: list[str]
    ) -> Iterator[tuple[str, Running]]:
        """Starts every server for this protocol, where there is work for it."""
        if not any(workload.protocol == protocol for workload in self.workloads.values()):
            return
        for name, commands in self.servers.items():
            if protocol not in commands:
                continue
            command = commands[protocol].format(**self.words, protocol=protocol, host=HOST)
            try:
                yield name, stack.enter_context(Running(command, self.place.server))
            except (CompareError, OSError, ValueError) as error:
                troubles.append(f"{name} ({protocol}): {error}")

    def round(
        self, protocol: str, running: dict[str, Running], troubles: list[str]
    ) -> Iterator[dict[str, Any]]:
        """Each workload on each server once."""
        for name, workload in self.workloads.items():
            if workload.protocol != protocol:
                continue
            for server in random.sample(list(running), len(running)):
                try:
                    cell = self.cell(workload, running[server])
                except CompareError as error:
                    troubles.append(f"{server}, {name}: {error}")
                else:
                    yield {"server": server, "workload": name, **cell}

    def cell(self, workload: Workload, server: Running) -> dict[str, Any]:
        """One workload on one server; of several attempts the one least disturbed."""
        attempts: list[dict[str, Any]] = []
        for _ in range(self.attempts):
            attempts.append(self.measure(workload, server))
            if (attempts[-1]["foreign_cores"] or 0) <= report.FOREIGN_CORES:
                break
        return min(attempts, key=lambda cell: cell["foreign_cores"] or 0)

    def measure(self, workload: Workload, server: Running) -> dict[str, Any]:
        """Runs the load generator once."""
        words = [self.load, workload.protocol, "--json", "--server", server.address]
        words += ["--pid", str(server.process.pid), "--seconds", str(self.seconds)]
        words += ["--warmup", str(self.warmup), *shlex.split(workload.options)]
        if self.place.is_shared:
            words += ["--sleep"]
        else:
            words += ["--watch", f"{self.place.server},{self.place.load}"]
        if workload.protocol == "tcp" and self.congestion:
            words += ["--congestion", self.congestion]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                timeout=self.warmup + self.seconds + 60,
                preexec_fn=lambda: settle(self.place.load),
            )
        except subprocess.TimeoutExpired:
            raise CompareError("the load did not end") from None
        if not done.stdout:
            raise CompareError(f"{done.stderr.strip()[-300:]}; the server: {server.said()}")
        cell: dict[str, Any] = json.loads(done.stdout)
        return cell


# ---- the command -----------------------------------------------------------------------


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """From these words, or the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=5, help="repetitions [5]")
    parser.add_argument("--seconds", type=float, default=0.5, help="measured a cell [0.5]")
    parser.add_argument("--warmup", type=float, default=0.3, help="unmeasured before it [0.3]")
    parser.add_argument("--attempts", type=int, default=3, help="at a disturbed cell [3]")
    parser.add_argument("--workloads", help=f"of {', '.join(WORKLOADS)}; all (see --list)")
    parser.add_argument("--servers", help=f"of {', '.join(SERVERS)}; all; or ''")
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="NAME='COMMAND {protocol}'",
        help="one of your own, which prints …://127.0.0.1:PORT once it listens",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--scale", action="store_true", help="instead: CPU per echo as the work grows"
    )
    for name, group in GROUPS.items():
        help = f"instead: {group.meaning}; servers: {', '.join(group.servers)}"
        instead.add_argument(f"--{name}", action="store_const", dest="group", const=name, help=help)
    parser.add_argument("--cpus", metavar="SERVER,LOAD", help="CPUs to keep to; or none")
    parser.add_argument(
        "--out", type=Path, default=PROJECT / "target" / "compare", help="folder for the results"
    )
    parser.add_argument("--svg", type=Path, help="where the picture goes [OUT/cpu-per-echo.svg]")
    parser.add_argument(
        "--profile", default="release", help="cargo's, for the load generator [release]"
    )
    parser.add_argument("--list", action="store_true", help="explain the workloads")
    return parser.parse_args(words)


def chosen(text: str | None, known: list[str], default: list[str], what: str) -> list[str]:
    """The names that an option gave."""
    if text is None:
        return default
    names = known if text == "all" else [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            raise CompareError(f"there is no {what} {name}; there are {', '.join(known)}")
    return names


def choose_servers(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The servers to compare, by name; the first is the one the others are held against."""
    group = GROUPS.get(options.group)
    known = group.servers if group else SERVERS
    default = list(known) if group else DEFAULT_SERVERS
    names = chosen(options.servers, list(known), default, "server")
    if "uvloop" in names and uvloop_version() is None:
        remedy = "uvloop is not installed here; `make bench-compare` does that"
        if options.servers:
            raise CompareError(remedy)
        print(f"left out: {remedy}")
        names = [name for name in names if name != "uvloop"]
    servers = {name: known[name] for name in names}
    for text in options.server:
        name, equals, command = text.partition("=")
        if not equals or name in known or "{protocol}" not in command:
            raise CompareError(f"--server is NAME='COMMAND {{protocol}}' with a new name: {text}")
        servers[name] = dict.fromkeys(("udp", "tcp"), command)
    if not servers:
        raise CompareError("there is no server to measure")
    return servers


def choose_workloads(options: argparse.Namespace) -> dict[str, Workload]:
    """The workloads to run, by name; with --scale `series/number`."""
    if group := GROUPS.get(options.group):
        known = list(group.workloads)
        names = chosen(options.workloads, known, group.default_workloads, "workload")
        return {name: group.workloads[name] for name in names}
    if not options.scale:
        names = chosen(options.workloads, list(WORKLOADS), DEFAULT_WORKLOADS, "workload")
        return {name: WORKLOADS[name] for name in names}
    most = raise_descriptor_limit() - SPARE_DESCRIPTORS
    found = {}
    for series in chosen(options.workloads, list(GROWTH), list(GROWTH), "series"):
        protocol, template, numbers = GROWTH[series]
        for number in numbers:
            if series != "in_flight" and number > most:
                print(
                    f"left out: {number} {series}, as RLIMIT_NOFILE leaves room for {most}"
                    " (ulimit -Hn)"
                )
                continue
            name = report.SERIES_SEPARATOR.join((series, str(number)))
            found[name] = Workload(protocol, template.format(number), series)
    return found


def about(options: argparse.Namespace, plan: Plan) -> dict[str, str]:
    """What a figure cannot be read without; no name of a machine."""
    version = subprocess.run([plan.words["rsecho"], "--version"], capture_output=True, text=True)
    uvloop = f", uvloop {uvloop_version()}" if "uvloop" in plan.servers else ""
    # Without what names a place on this machine.
    defaults = read_options([])
    given = ["--scale"] if options.scale else []
    given += [f"--{options.group}"] if options.group else []
    for name in ("reps", "seconds", "workloads", "servers", "cpus"):
        value = getattr(options, name)
        if value != getattr(defaults, name):
            given.append(f"--{name} {value}")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": f"Linux {platform.release()}",
        "cpu": f"{os.cpu_count()} CPUs, {cpu_model()}",
        "place": str(plan.place),
        "versions": f"{version.stdout.strip()}, Python {platform.python_version()}{uvloop}",
        "congestion control": f"{plan.congestion or 'the system default'} on the load's side",
        "repetitions": f"{options.reps} repetitions of {options.seconds} s",
        "command": f"make bench-compare ARGS='{' '.join(given)}'"
        if given
        else "make bench-compare",
    }


def main() -> int:
    """Compares, prints, writes."""
    options = read_options()
    if options.list:
        known = GROUPS[options.group].workloads if options.group else WORKLOADS
        for name, workload in known.items():
            print(f"{name:<16} {workload.protocol}  {workload.meaning}")
        return 0
    rsecho = Path(sys.executable).with_name("rsecho")
    if not rsecho.exists():
        raise CompareError(f"rsecho is not installed beside {sys.executable}: make build")
    servers = choose_servers(options)
    workloads = choose_workloads(options)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        workloads=workloads,
        servers=servers,
        reps=options.reps,
        seconds=options.seconds,
        warmup=options.warmup,
        attempts=options.attempts,
        place=Place.choose(options.cpus),
        load=build_load(options.profile),
        words={
            "rsecho": str(rsecho),
            "python": sys.executable,
            "here": str(HERE),
            "peers": str(HERE / "peers.py"),
            "plain_loop": build_plain_loop(options.out) if "plain_loop" in servers else "",
        },
        congestion=steady_congestion_control(),
    )
    setting = about(options, plan)
    for name, text in setting.items():
        print(f"{name}: {text}")
    print(flush=True)
    troubles: list[str] = []
    cells = plan.run(troubles)
    stem = options.group or ("scale" if options.scale else "compare")
    results = report.Results(
        setting,
        list(servers),
        list(workloads),
        cells,
        goals=GROUPS[options.group].goals if options.group else [],
        has_picture=stem == "compare" and bool(cells),
    )
    has_failed = bool(troubles)
    troubles += results.troubles()
    print(results.text(scale=options.scale))
    for trouble in troubles:
        print(f"WARNING {trouble}")
    meanings = {name: f"{w.protocol.upper()}: {w.meaning}" for name, w in workloads.items()}
    document = {"about": setting, "servers": servers, "workloads": meanings, "cells": cells}
    (options.out / f"{stem}.json").write_text(json.dumps({**document, "warnings": troubles}))
    (options.out / f"{stem}.md").write_text(results.markdown(meanings, scale=options.scale))
    written = [f"{stem}.json", f"{stem}.md"]
    if results.has_picture:
        written += draw(results, meanings, options.svg or options.out / "cpu-per-echo.svg")
    print(f"written to {options.out}: {', '.join(written)}")
    return 1 if has_failed or results.wrong_echoes() else 0


def draw(results: report.Results, meanings: dict[str, str], path: Path) -> list[str]:
    """Draws the picture where that can be done, and says so where not."""
    try:
        import picture
    except ImportError as error:
        print(f"no picture: {error}; `make bench-compare` installs what draws it")
        return []
    picture.draw(results, meanings, path)
    return [path.name]


def end(*_: object) -> None:
    """So that what was started is ended as well."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except CompareError as error:
        sys.exit(f"compare: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
