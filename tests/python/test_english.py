"""Habits of English that have to be read twice: none of them in what users read.

That is the documents, the docstrings and texts of the package, and what `cargo doc` shows. A
pattern cannot tell everything; it keeps out what was found before.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

# What to write instead, by habit. "there is no port" and "this is no longer so" are plain.
HABITS = {
    r"(?<!there\s)\b(?:is|are) no (?!longer\b|more\b|such\b)": '"is not a", or what it is instead',
    r"\bwhoever\b": "who it is: the peer, the caller, the sender",
    r"\bwhat is held\b": "what it is: delayed datagrams, queued bytes",
    r"(?<!,\s)\bso (?:many|long)\b(?! as\b)": "the number itself, or its name: N bytes, this time",
    r"(?:\d|\b(?:bytes|datagrams|connections|packets|requests|messages|lines|answers)) "
    r"a (?:second|minute|hour)\b(?! (?:before|later|ago|at most|after|more)\b)": "per second",
    r"\b(?:one|once|lines?|files?|threads?|calls?|batch|update|load|allocation|places?) "
    r"an? (?:batch|packet|datagram|worker|listener|connection|event|record|peer|source|command"
    r"|subcommand|column|protocol|part|way|reason|capability)\b": '"per", or "for each"',
    r"\bmay be anybody's\b": "whose: code of the user",
}

# (a part of the file's name, a phrase around the hit): right as it stands.
ALLOWED = {
    ("README.md", "no reply, or"),
    ("test_guard", "whoever"),
    # Names of tests, quoted.
    ("docs/guards.md", "f17_whoever"),
    ("docs/guards.md", "on_loopback_whoever"),
}

# Being rewritten; each goes from here once it is done.
NOT_YET: set[str] = set()


def texts() -> Iterator[tuple[str, int, str]]:
    """(file, line, text) of everything that users read."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
    for page in pages:
        text = re.sub(
            r"^```.*?^```",
            lambda code: re.sub(r"[^\n]", "", code[0]),
            page.read_text(encoding="utf-8"),
            flags=re.DOTALL | re.MULTILINE,
        )
        yield _name(page), 1, text
    for pattern in ("*.py", "*.pyi"):
        for module in (ROOT / "python" / "rsecho").rglob(pattern):
            tree = ast.parse(module.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                # Docstrings, help texts, errors: all are constants. F-strings come in parts.
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield _name(module), node.lineno, node.value
    for source in (ROOT / "src").rglob("*.rs"):
        yield from _public_docs(source)


def _public_docs(source: Path) -> Iterator[tuple[str, int, str]]:
    """The `//!` of a file, and the `///` of what is `pub` in it."""
    block: list[str] = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        doc = re.match(r"\s*//([/!]) ?(.*)", line)
        if doc and doc[1] == "!":
            yield _name(source), number, doc[2]
        elif doc:
            block.append(doc[2])
        elif not line.strip().startswith("#["):
            if block and line.strip().startswith("pub "):
                yield _name(source), number - len(block), "\n".join(block)
            block = []


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def hits(text: str) -> Iterator[tuple[int, str, str]]:
    """(lines into the text, the phrase, what to write instead)."""
    for pattern, instead in HABITS.items():
        for hit in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            around = " ".join(text[max(0, hit.start() - 30) : hit.end() + 20].split())
            yield text.count("\n", 0, hit.start()), around, instead


def is_allowed(name: str, phrase: str) -> bool:
    return any(part in name and words in phrase for part, words in ALLOWED)


def test_what_users_read_has_none_of_the_habits() -> None:
    found = [
        f"{name}:{line + offset}: …{phrase}…\n    write {instead}"
        for name, line, text in texts()
        if name not in NOT_YET
        for offset, phrase, instead in hits(text)
        if not is_allowed(name, phrase)
    ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "text",
    [
        "a tag is no number",
        "Whoever sends",
        "give up what is held",
        "takes so many bytes",
        "waits for so\nlong",
        "100 datagrams a second",
        "one system call a batch",
    ],
)
def test_each_habit_is_found(text: str) -> None:
    assert list(hits(text))


@pytest.mark.parametrize(
    "text",
    ["there is no port", "it is no longer used", "so long as", "waits a second", "per batch"],
)
def test_plain_english_is_not(text: str) -> None:
    assert not list(hits(text))
