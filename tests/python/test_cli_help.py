"""What `--help` shows, completion, and how the command is called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import PATIENCE, clean_environment, rsecho
from rsecho.cli import command as group
from rsecho.cli.options import Option

ROOT = Path(__file__).parents[2]
COMMANDS = ("serve", "send", "push", "pull", "info", "unpack", "completion")


def page(*words: str) -> str:
    """Its help on a terminal of 80 columns."""
    done = rsecho(*words, "--help", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def sections(text: str) -> dict[str, str]:
    """The parts of a page by their headings."""
    parts = re.split(r"^(\S.*):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_ends_in_examples(command: str) -> None:
    text = page(command)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    found = sections(text)
    if command != "completion":
        assert list(found)[-1] == "Examples"
    for example in re.findall(
        r"^  (\S.*rsecho .*|rsecho .*)", found.get("Examples", ""), re.MULTILINE
    ):
        assert f"rsecho {command}" in example
    # Defaults as people write them.
    for default in re.findall(r"default: ([^\]]*)\]", " ".join(text.split())):
        assert not re.search(r"\d\.0\b|^\(|None|\d{5}", default), default


def test_serve_shows_its_options_in_groups_common_ones_first() -> None:
    found = sections(page("serve"))
    assert list(found) == [
        "Listen", "Sockets", "TCP", "Answers", "Impairments", "Guards", "Large messages (UDP)",
        "Workers", "Output", "General", "Environment and file", "Examples",
    ]  # fmt: skip
    assert found["Listen"].split()[0] == "--udp"
    for heading, option in (
        ("TCP", "--max-connections"),
        ("Answers", "--responder"),
        ("Guards", "--rate-limit"),
        ("Output", "--json"),
    ):
        assert found[heading].split()[0] == option
    # Each once, with its variable in one paragraph.
    everything = "".join(found[name] for name in list(found)[:-2])
    serve = group.get_command(click.Context(group), "serve")
    assert serve is not None
    for each in serve.params:
        assert isinstance(each, Option)
        flag = max(each.opts, key=len)
        shown = re.findall(rf"^  (?:-., )?{flag}(?![\w-])", everything, re.MULTILINE)
        assert len(shown) == 1, flag
        variables = found["Environment and file"].split()
        assert variables.count(str(each.envvar)) == 1


def test_the_page_in_the_docs_is_what_serve_shows() -> None:
    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("```console\n$ rsecho serve --help\n")
    assert rest.partition("```")[0] == page("serve")


def test_every_example_in_the_help_is_understood() -> None:
    for command in COMMANDS:
        for line in sections(page(command)).get("Examples", "").splitlines():
            for flag in re.findall(r" (--[a-z-]+)", line):
                assert flag in page(command), line


@pytest.mark.parametrize("words", [[], ["--config", "pyproject.toml"]])
def test_the_command_alone_shows_its_help(words: list[str], tmp_path: Path) -> None:
    done = rsecho(*(words and ["--config", str(ROOT / words[1])]))
    assert (done.returncode, done.stderr) == (0, b"")
    for command in COMMANDS:
        assert f"\n  {command} ".encode() in done.stdout


def test_python_runs_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rsecho", "unpack", "!H", "0007"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=clean_environment(),
        check=True,
    )
    assert (done.stdout, done.stderr) == ("field_0=7\n", "")


def test_what_goes_before_the_command_says_so() -> None:
    done = rsecho("serve", "--version")
    assert done.returncode == 2
    assert done.stderr == b"rsecho: --version goes before the command: rsecho --version\n"


def completed(line: str) -> set[str]:
    """What a shell would offer for the last word."""
    words = line.split(" ")
    env = {
        "_RSECHO_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return {each.partition(",")[2] for each in rsecho(env=env).stdout.decode().split()}


def test_completion_knows_values() -> None:
    assert completed("rsecho serve --responder d") == {"discard", "daytime"}
    assert "python=" in completed("rsecho serve --responder ")
    assert completed("rsecho serve --wait b") == {"balanced", "busy"}
    if sys.platform.startswith("linux"):
        kernel = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        assert completed("rsecho serve --congestion ") == set(kernel)
        assert "lo" in completed("rsecho send --bind-to-device l")
    assert "--rate-limit" in completed("rsecho serve --rate")
