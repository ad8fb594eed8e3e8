"""What the README says works as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_each_program_runs(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[number]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_tests_in_it_pass(tmp_path: Path) -> None:
    program = "\n".join(program for program in PROGRAMS if "def test_" in program)
    (tmp_path / "test_readme_sample.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--strict-markers", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (Path(__file__).parents[2] / target).exists(), target


def test_every_flag_in_it_exists() -> None:
    from click.testing import CliRunner
    from rsecho.cli import command

    names = ("serve", "send", "push", "pull", "info", "unpack")
    pages = [CliRunner().invoke(command, [name, "--help"]).output for name in names]
    known = set(re.findall(r"--[a-z0-9-]+", "".join(pages))) | {"--config", "--help", "--release"}
    known.add("--rsecho-seed")  # pytest's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) <= known
