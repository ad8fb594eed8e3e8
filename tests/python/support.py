"""What several test files need: processes, descriptors, waiting for events."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Ten times what anything here should take.
PATIENCE = 20.0


def until(is_true: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def run(
    code: str, *, timeout: float = PATIENCE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


@contextlib.contextmanager
def spawn(code: str) -> Iterator[subprocess.Popen[str]]:
    """Runs such a program with pipes to talk to it; it is gone when the block is left."""
    # Ctrl-C is ignored in what a shell runs in the background, and that is inherited.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-W", "error", "-u", "-c", heed + textwrap.dedent(code)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            # The listing's own.
            continue
    return found


def native_threads() -> int:
    """How many threads this process has, native ones included."""
    return len(list(Path("/proc/self/task").iterdir()))


def resident_bytes() -> int:
    """How much memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def why_no_namespace() -> str:
    """Why no veth pair can be made in a network namespace of its own; empty: it can."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "ip or unshare is not installed"
    add = "unshare --net ip link add va type veth peer name vb"
    probe = subprocess.run(add.split(), capture_output=True, check=False)
    return "" if probe.returncode == 0 else "no veth can be made here"


def run_in_namespace(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a network namespace of its own, where nothing is up yet."""
    command = ["unshare", "--net", sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


NO_NAMESPACE = why_no_namespace()
