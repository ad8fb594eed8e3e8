"""The sample projects: one client's bug is found where the network misbehaves, and only there; two
clients from PyPI, whose messages have ids, are answered by scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# With it, datagrams are lost and duplicated before the last request of each test.
SEED = "1"

ROUGH = [
    "test_answers_that_come_twice",
    "test_answers_that_come_late",
    "test_requests_that_are_lost_and_answers_that_come_twice",
]


def run(*options: str, project: str = "retry_client") -> tuple[int, str]:
    """A project's own tests."""
    # Nothing of this project's configuration, no traces in the tree.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(
        [*command, *options],
        cwd=EXAMPLES / project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.returncode, done.stdout


def failed(output: str) -> list[str]:
    """The names of the tests that failed."""
    return re.findall(r"^FAILED tests/\w+\.py::(\w+)", output, re.MULTILINE)


def test_the_bug_does_not_show_on_a_quiet_network() -> None:
    status, output = run("--client", "hasty", "tests/test_quiet.py")
    assert status == 0, output
    assert "4 passed" in output


def test_impairments_find_it_and_the_same_seed_finds_the_same() -> None:
    options = ("--client", "hasty", "--rsecho-seed", SEED, "tests/test_rough.py")
    status, output = run(*options)
    assert status == 1
    assert failed(output) == ROUGH
    # The one of the four that the README says the hasty client passes.
    assert "1 passed" in output
    assert output.count(f"repeat with: pytest --rsecho-seed {SEED}") == len(ROUGH)
    again_status, again = run(*options)
    assert (again_status, failed(again)) == (status, ROUGH)
    # The very request at which it happens, where no clock has a say in it.
    wrong = re.compile(r"^E +AssertionError: assert (.*)$", re.MULTILINE)
    assert wrong.findall(again)[0] == wrong.findall(output)[0]


def test_the_client_without_it_passes_on_every_network() -> None:
    for seed in (SEED, "2"):
        status, output = run("--rsecho-seed", seed)
        assert status == 0, output
        assert "8 passed" in output


@pytest.mark.parametrize("project", ["dns_client", "coap_client"])
def test_clients_whose_messages_have_ids_are_answered_by_scripts(project: str) -> None:
    status, output = run(project=project)
    assert status == 0, output
    assert "7 passed" in output


def test_an_answer_with_a_constant_for_an_id_is_of_no_use(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "dns_client", tmp_path / "dns_client")
    tests = tmp_path / "dns_client/tests/test_addresses.py"
    text, made = tests.read_text(), "return response.to_wire()"
    assert made in text
    constant = 'return b"\\0\\0" + response.to_wire()[2:]'
    tests.write_text(text.replace(made, constant))
    status, output = run("-k", "lost", project=str(tmp_path / "dns_client"))
    assert status == 1, output
    assert failed(output)
    # The report says what came.
    assert re.search(r"^both at udp://.* came:$", output, re.MULTILINE)
