"""One file moved once: how long that took, and what it cost both ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from movers import Mover
    from network import Namespace, Network

START_SECONDS = 10.0
# For a program to end by itself after the file is there.
END_SECONDS = 10.0
# Between two looks at the clock, while the first packet or the end is awaited.
LOOK_SECONDS = 0.0003
PORT = 6969


@dataclass(frozen=True)
class Job:
    """What is to be moved, and how long that may take."""

    file: Path
    length: int
    sha256: str
    # Where it arrives; made anew before.
    folder: Path
    limit_seconds: float
    # After so long it is given up as well if at its pace it would take twice the limit.
    prospect_seconds: float


@dataclass
class Outcome:
    """What came of it."""

    # `whole`; `late`: not within the limit; `failed`: an end gave up; `differs`: other contents.
    status: str
    # From the first packet that the client sent until the file was whole under its name, or
    # until it was given up.
    seconds: float = 0.0
    # As far as the file had come.
    length: int = 0
    # User and system time of each end: from then on, and of its start.
    sender_cpu_seconds: float = 0.0
    receiver_cpu_seconds: float = 0.0
    sender_start_cpu_seconds: float = 0.0
    receiver_start_cpu_seconds: float = 0.0
    # Bytes that the client's device sent, all headers included, and packets (trains as one).
    wire_bytes: int = 0
    wire_packets: int = 0
    # What its queue had no room for.
    device_lost: int = 0
    # Cores that were busy with something else.
    foreign_cores: float = 0.0
    said: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


class Running:
    """A program in a namespace, and its own output; in a group of its own, for its children."""

    def __init__(self, namespace: Namespace, command: str) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115, closed in stop()
        self.process = subprocess.Popen(
            [*namespace.within(), *shlex.split(command)],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.status: int | None = None
        # Of all it did; once it has ended.
        self.cpu_seconds = 0.0
        self.start_cpu_seconds = 0.0
        # The end of its output, likewise.
        self.said = ""

    def has_started(self) -> None:
        """What it used until now was for its start."""
        # What clock_getcpuclockid(3) gives, which Python lacks: CPUCLOCK_SCHED of a process
        # (<linux/posix-timers.h>).
        with contextlib.suppress(OSError):
            self.start_cpu_seconds = time.clock_gettime(~self.process.pid << 3 | 2)

    def children_cpu_seconds(self) -> float:
        """Of those that live: in.tftpd(8) never waits for its own, so nothing else tells."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, _, rest = path.read_text().partition(" ")
                words = rest.rpartition(")")[2].split()
                if int(words[3]) == self.process.pid != int(pid):
                    ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def has_ended(self, flags: int = os.WNOHANG) -> bool:
        """Whether it has; then its status and its CPU time are known."""
        if self.status is None:
            pid, status, used = os.wait4(self.process.pid, flags)
            if pid:
                self.status = self.process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = used.ru_utime + used.ru_stime
        return self.status is not None

    def await_end(self, seconds: float) -> bool:
        """Whether it ended by itself in this time."""
        until = time.monotonic() + seconds
        while not self.has_ended() and time.monotonic() < until:
            time.sleep(0.002)
        return self.has_ended()

    def end(self) -> None:
        """As a person would; by force where that is not enough."""
        if self.output.closed:
            return
        children = self.children_cpu_seconds()
        if not self.has_ended():
            self.process.terminate()
            if not self.await_end(END_SECONDS):
                self.process.kill()
                self.has_ended(0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.cpu_seconds += children
        self.output.seek(0)
        self.said = self.output.read()[-300:].decode(errors="replace").strip()
        self.output.close()


def busy_seconds() -> float:
    """Of all CPUs since the start, idle and stolen time left out."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(word) for word in words[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def move(network: Network, mover: Mover, words: dict[str, str], job: Job) -> Outcome:
    """Moves the file once."""
    arrives = job.folder / "arrived"
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir()
    words = {
        **words,
        "host": network.host,
        "port": str(PORT),
        "file": str(job.file),
        "folder": str(job.folder),
        "name": arrives.name,
    }
    busy = busy_seconds() - network.path_cpu_seconds() - sum(os.times()[:2])
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        server = Running(network.server, mover.server.format(**words))
        stack.callback(server.end)
        until = time.monotonic() + START_SECONDS
        while not network.server.listens(mover.protocol, PORT):
            if server.has_ended() or time.monotonic() > until:
                server.end()
                return Outcome("failed", said=f"the server did not start: {server.said}")
            time.sleep(0.01)
        before = network.client.sent(network.device)
        client = Running(network.client, mover.client.format(**words))
        stack.callback(client.end)
        outcome = watch(network, client, server, before, arrives, job)
        if outcome.status == "whole":
            client.await_end(END_SECONDS)
            if mover.ends:
                server.await_end(END_SECONDS)
        client.end()
        server.end()
        sent = network.client.sent(network.device)
        outcome.wire_packets, outcome.wire_bytes, outcome.device_lost = (
            now - then for now, then in zip(sent, before, strict=True)
        )
    outcome.sender_start_cpu_seconds = client.start_cpu_seconds
    outcome.receiver_start_cpu_seconds = server.start_cpu_seconds
    outcome.sender_cpu_seconds = client.cpu_seconds - client.start_cpu_seconds
    outcome.receiver_cpu_seconds = server.cpu_seconds - server.start_cpu_seconds
    busy = busy_seconds() - network.path_cpu_seconds() - sum(os.times()[:2]) - busy
    foreign = busy - client.cpu_seconds - server.cpu_seconds
    outcome.foreign_cores = max(0.0, foreign / (time.monotonic() - started))
    if outcome.status == "failed":
        outcome.said = f"client: {client.said}; server: {server.said}"
    elif outcome.status == "whole":
        with arrives.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != job.sha256:
                outcome.status = "differs"
    return outcome


def arrived_bytes(folder: Path) -> int:
    """What is there so far, also where a part is kept under another name."""
    total = 0
    for path in folder.iterdir():
        # One that is renamed meanwhile is looked at next time.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


def watch(
    network: Network,
    client: Running,
    server: Running,
    before: tuple[int, int, int],
    arrives: Path,
    job: Job,
) -> Outcome:
    """Until the file is whole, or will not be."""
    until = time.monotonic() + START_SECONDS
    while network.client.sent(network.device) == before:
        if client.has_ended() or time.monotonic() > until:
            return Outcome("failed")
        time.sleep(LOOK_SECONDS)
    first = time.monotonic()
    for end in (client, server):
        end.has_started()
    looks = 0
    while True:
        # One that ended before this look at the file has done what it could.
        looks += 1
        has_failed = looks % 100 == 0 and client.has_ended() and client.status != 0
        try:
            length = arrives.stat().st_size
        except FileNotFoundError:
            length = 0
        took = time.monotonic() - first
        if length == job.length:
            return Outcome("whole", took, length)
        if has_failed or server.status:
            return Outcome("failed", took, length)
        late = took > job.limit_seconds
        if not late and took > job.prospect_seconds and looks % 100 == 0:
            late = took * job.length > 2 * job.limit_seconds * arrived_bytes(job.folder)
        if late:
            return Outcome("late", took, min(job.length, arrived_bytes(job.folder)))
        time.sleep(LOOK_SECONDS if took < 1 else 10 * LOOK_SECONDS)
