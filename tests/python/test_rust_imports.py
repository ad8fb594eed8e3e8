"""The Rust files import one another in one direction: no circles."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def modules() -> dict[tuple[str, ...], Path]:
    """Each module's file, by its path from the crate's root."""
    found = {}
    for file in SOURCE.rglob("*.rs"):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        found[parts[:-1] if parts[-1] in ("mod", "lib") else parts] = file
    return found


# The word may begin a line of a text as well: "use an address of the other family".
USE = r"^\s*(pub(?:\([^)]*\))? )?use (?=\{|::|\w+(?:::|;| as ))([^;]+);"


def code(file: Path) -> str:
    """Without comments, and without tests at its end."""
    text = re.sub(r"//[^\n]*", "", file.read_text())
    return re.split(
        r"#\[cfg\((?:test|all\(any\(test|any\(test)[^\n]*\n(?:[^\n]*\n)?\s*(?:pub\S* )?mod \w+ \{",
        text,
    )[0]


def leaves(tree: str) -> list[tuple[str, ...]]:
    """The paths of a use tree: `a::{b, c::d as e}` is a::b and a::c::d."""
    tree = tree.strip()
    if "{" not in tree:
        return [tuple(tree.split(" as ")[0].strip().split("::"))] if tree else []
    head, rest = tree.split("{", 1)
    items, depth, item = [], 0, ""
    for char in rest[: rest.rindex("}")]:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += char
    prefix = tuple(part for part in head.strip().split("::") if part)
    return [prefix + leaf for one in [*items, item] for leaf in leaves(one)]


def resolve(path: tuple[str, ...], here: tuple[str, ...]) -> tuple[str, ...] | None:
    """A path from the crate's root; None: of another crate, or of this very module."""
    if path[0] == "crate":
        return path[1:]
    if path[0] == "self":
        return here + path[1:]
    if path[0] == "super":
        up = 0
        while path[up] == "super":
            up += 1
        return here[: len(here) - up] + path[up:]
    return None


def uses(here: tuple[str, ...], text: str) -> list[tuple[bool, str, tuple[str, ...]]]:
    """What a file names: whether it passes it on, under which name, and the path."""
    found = []
    for passes_on, tree in re.findall(USE, text, re.M):
        for leaf in leaves(tree):
            name = leaf[-1]
            if name == "self":
                leaf = leaf[:-1]
                name = leaf[-1]
            if (path := resolve(leaf, here)) is not None:
                found.append((bool(passes_on), name, path))
    body = re.sub(USE, "", text, flags=re.M)
    for inline in re.findall(r"\b((?:crate|super)(?:::\w+)+)", body):
        if (path := resolve(tuple(inline.split("::")), here)) is not None:
            found.append((False, path[-1], path))
    return found


def edges() -> dict[str, set[str]]:
    """Which file names something that is defined in which others."""
    files = modules()
    texts = {path: code(file) for path, file in files.items()}
    named = {path: uses(path, text) for path, text in texts.items()}
    exports = {
        (*path, name): target
        for path, all_ in named.items()
        for passes_on, name, target in all_
        if passes_on
    }

    def home(path: tuple[str, ...], depth: int = 0) -> tuple[str, ...]:
        for end in range(len(path), 0, -1):
            if path[:end] in exports and depth < 9:
                return home(exports[path[:end]] + path[end:], depth + 1)
            if path[:end] in files:
                return path[:end]
        return ()

    label = {path: str(file.relative_to(SOURCE)) for path, file in files.items()}
    graph: dict[str, set[str]] = {}
    for path, all_ in named.items():
        # What is only passed on is defined elsewhere, and makes nothing depend on it.
        targets = {home(target) for passes_on, _, target in all_ if not passes_on}
        graph[label[path]] = {label[to] for to in targets if to in label and to != path}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Files that name one another, directly or around others (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for to in sorted(graph.get(node, ())):
            if to not in index:
                visit(to)
            if to in stack:
                low[node] = min(low[node], low[to])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_no_file_imports_what_imports_it() -> None:
    graph = edges()
    assert len(graph) > 100
    assert "sys/control.rs" in graph["sys/message.rs"]
    assert circles(graph) == []
