"""The newcomer's way in: a fresh environment, its own pip, `maturin develop`, `rsecho serve`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBUG_BUILD = "debug build"

# An unoptimised build of the crate and of what it depends on takes a minute on two cores.
BUILD_SECONDS = 600


def run(*words: str | Path, timeout: float = 60, **environment: str) -> str:
    """Runs a command in the copied tree; returns both of its outputs."""
    done = subprocess.run(
        words,
        cwd=TREE,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0 and "pip" in words and "connection" in done.stdout.lower():
        pytest.skip(f"no package index can be reached: {done.stdout.splitlines()[0]}")
    assert done.returncode == 0, done.stdout
    return done.stdout


# maturin develop puts the native module into the tree, where it must not take the place of the
# optimised one. The copy has a fixed place, so that a second run only builds what has changed.
TREE = ROOT / "target" / "way-in"


def copy_tree() -> None:
    """Copies what git tracks; times of change are kept, for cargo to see what is new."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for old in TREE.glob("src/**/*.rs"):
        if str(old.relative_to(TREE)) not in names:
            old.unlink()
    for name in names:
        if name.startswith(("src/", "python/", "benches/", "tests/rust/")) or "/" not in name:
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)


@pytest.mark.timeout(BUILD_SECONDS + 120)
def test_a_fresh_environment_with_its_own_pip_gets_a_server(tmp_path: Path) -> None:
    copy_tree()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    programs = tmp_path / "venv" / "bin"
    python, rsecho = programs / "python", programs / "rsecho"
    pip = ("-m", "pip", "--disable-pip-version-check")
    its_own = run(python, *pip, "--version")

    run(python, *pip, "install", "--quiet", "maturin>=1.14,<2", timeout=300)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    target = str(ROOT / "target")  # shared with cargo test, for the dependencies
    environment = {"VIRTUAL_ENV": str(tmp_path / "venv"), "PATH": path, "CARGO_TARGET_DIR": target}
    run("maturin", "develop", timeout=BUILD_SECONDS, **environment)
    assert run(python, *pip, "--version") == its_own

    _serves(rsecho)
    _tells_once_of_the_debug_build(python, rsecho)


def _serves(rsecho: Path) -> None:
    with ExitStack() as stack:
        pipe = subprocess.PIPE
        words = [str(rsecho), "serve", "--udp", "127.0.0.1:0"]
        server = stack.enter_context(
            subprocess.Popen(words, cwd=TREE, stdout=pipe, stderr=pipe, text=True)
        )
        stack.callback(server.kill)
        assert server.stdout is not None
        listening = re.search(r"udp://127\.0\.0\.1:(\d+)", server.stdout.readline())
        assert listening is not None
        client = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        client.settimeout(20)
        client.sendto(b"data", ("127.0.0.1", int(listening[1])))
        assert client.recv(100) == b"data"
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=20)
        assert server.returncode == 0, errors
        assert errors.count(DEBUG_BUILD) == 1, errors


def _tells_once_of_the_debug_build(python: Path, rsecho: Path) -> None:
    assert DEBUG_BUILD not in run(rsecho, "--version")
    assert DEBUG_BUILD not in run(rsecho, "unpack", "!B", "07")
    program = "\n".join(
        [
            "import rsecho",
            "from rsecho import UdpServer",
            "from rsecho import TcpServer",
            "with rsecho.UdpServer('127.0.0.1', 0):",
            "    rsecho.kernel_limits()",
        ]
    )
    warned = run(python, "-W", "always", "-c", program)
    assert (warned.count(DEBUG_BUILD), warned.count("DebugBuildWarning")) == (1, 1), warned
    assert run(python, "-c", "import rsecho") == ""


def test_no_group_is_one_that_maturin_develop_installs_by_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["dependency-groups"]) == {"bench", "checks"}
