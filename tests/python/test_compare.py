"""The comparison bench runs, and measures echoes that were right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
COMPARE = PROJECT / "benches" / "compare" / "compare.py"
CARGO = os.environ.get("CARGO", "cargo")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it measures through Linux's interfaces"),
    pytest.mark.skipif(shutil.which(CARGO) is None, reason=f"{CARGO} is not installed"),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CC", "gcc")) is None, reason="there is no C compiler"
    ),
    # The load generator is built here, unless `cargo test` did that before.
    pytest.mark.timeout(900),
]

SERVERS = ["rsecho", "plain_loop"]


def compare(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs it as briefly as it can be."""
    brief = ["--reps", "1", "--seconds", "0.1", "--warmup", "0.05", "--attempts", "1"]
    # Bound to no CPU, so that it also ends in time where others keep them all busy.
    given = ["--cpus", "none", "--profile", "dev", "--out", str(out), *words]
    command = [sys.executable, str(COMPARE), *brief, *given]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def document(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / name).read_text())
    return found


def test_every_server_has_its_figures_and_every_echo_was_right(tmp_path: Path) -> None:
    workloads = ["one_peer", "trains", "conns50"]
    names = ["--servers", ",".join(SERVERS), "--workloads", ",".join(workloads)]
    done = compare(tmp_path, *names)
    assert done.returncode == 0, done.stdout + done.stderr
    found = document(tmp_path, "compare.json")
    cells = {(cell["server"], cell["workload"]): cell for cell in found["cells"]}
    assert set(cells) == {(server, workload) for server in SERVERS for workload in workloads}
    for cell in cells.values():
        assert cell["echoes"] > 0
        assert cell["cpu_ns"] >= 0
        assert (cell["bad"], cell["twice"], cell["failed"]) == (0, 0, 0)
        assert 0 < cell["p50_us"] <= cell["p99_us"]
    assert {"date", "kernel", "cpu", "command"} <= set(found["about"])
    text = (tmp_path / "compare.md").read_text()
    assert "| one_peer | " in text
    assert str(tmp_path) not in text


def test_growth_is_a_table_with_its_steepest_rise(tmp_path: Path) -> None:
    done = compare(tmp_path, "--scale", "--servers", "rsecho", "--workloads", "peers")
    assert done.returncode == 0, done.stdout + done.stderr
    cells = document(tmp_path, "scale.json")["cells"]
    assert [cell["workload"] for cell in cells][:3] == [f"peers/{n}" for n in (1, 10, 100)]
    assert all(cell["bad"] == 0 for cell in cells)
    assert "rise" in (tmp_path / "scale.md").read_text()


def test_answers_from_python_are_held_to_their_goals(tmp_path: Path) -> None:
    names = ["--servers", "rsecho,asyncio,rsecho_native", "--workloads", "one_peer,peers64"]
    done = compare(tmp_path, "--responders", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = document(tmp_path, "responders.json")["cells"]
    assert len(cells) == 6
    assert all(cell["echoes"] > 0 and cell["bad"] == 0 for cell in cells)
    text = (tmp_path / "responders.md").read_text()
    goals = [line for line in (text + done.stdout).splitlines() if "goal " in line]
    assert len(goals) == 2, "one goal was measured, and is told in both"
    assert all("asyncio" in line and "at least 8.00" in line for line in goals)
    assert "--responders" in text
    assert "svg" not in text


def test_what_protections_cost_is_measured_beside_going_without(tmp_path: Path) -> None:
    done = compare(tmp_path, "--guards", "--workloads", "one_peer")
    assert done.returncode == 0, done.stdout + done.stderr
    cells = document(tmp_path, "guards.json")["cells"]
    assert {cell["server"] for cell in cells} == {"rsecho", "no_loop_guard", "rate_limits"}
    assert all(cell["echoes"] > 0 and cell["bad"] == 0 for cell in cells)
    goals = [line for line in (tmp_path / "guards.md").read_text().splitlines() if "goal " in line]
    assert [line.partition("at least ")[2][:4] for line in goals] == ["0.95", "0.91"]


def test_an_echo_is_no_answer_in_upper_case(tmp_path: Path) -> None:
    echo = f"echo={Path(sys.executable).with_name('rsecho')} serve --{{protocol}} 127.0.0.1:0"
    names = ["--servers", "", "--server", echo, "--workloads", "one_peer"]
    done = compare(tmp_path, "--responders", *names)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong echoes" in done.stdout


# A server that answers with something else, as `compare.py --server` starts one.
LIAR = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", 0))
    print(f"listening udp://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(data[:-1] + bytes([data[-1] ^ 1]), peer)
"""


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[str]:
    program = tmp_path / "liar.py"
    program.write_text(LIAR)
    yield f"liar={sys.executable} {program} {{protocol}}"


def test_a_wrong_echo_is_told_and_is_an_error(tmp_path: Path, liar: str) -> None:
    done = compare(tmp_path, "--servers", "", "--server", liar, "--workloads", "one_peer")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "liar, one_peer" in done.stdout
    assert "wrong echoes" in done.stdout
