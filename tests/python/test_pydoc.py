"""What `help()` says is complete, and leads nowhere that an installed package has not."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import rsecho
from rsecho import layout, limits, records, responders, sockets, stats, transfer

PACKAGE = Path(rsecho.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES: list[ModuleType] = [rsecho, transfer, sockets]
MODULES += [layout, limits, records, responders, stats]


def docstrings() -> Iterator[tuple[Path, str]]:
    """Those of all modules in the wheel, with those of fields."""
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield path, text


def test_docstrings_name_only_files_that_are_in_the_wheel() -> None:
    named = 0
    for path, text in docstrings():
        for name in re.findall(r"(?:[\w-]+/)+[\w-]+\.(?:md|py|rs|toml|c)\b|\b[A-Z]+\.md\b", text):
            assert (PACKAGE / name).is_file(), f"{path.relative_to(PACKAGE)} points to {name}"
            named += 1
    assert named > 2


def test_the_documents_are_in_the_package() -> None:
    here = {path.name for path in (PACKAGE / "docs").iterdir()}
    assert here == {path.name for path in (ROOT / "docs").iterdir()} and "guards.md" in here
    # What puts them into the wheel: maturin leaves out what lies behind a link unless told.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"python/rsecho/docs/*", format = ["sdist", "wheel"]' in project
    assert "`docs/`" in (rsecho.__doc__ or "")


def test_the_source_distribution_takes_files_of_the_project_only() -> None:
    package = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["package"]
    # Others match in every directory, a virtual environment's too.
    assert all(pattern.startswith("/") for pattern in package["include"])
    assert all(any(ROOT.glob(pattern[1:])) for pattern in package["include"])


def public() -> Iterator[tuple[str, Any]]:
    for module in MODULES:
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isclass(one) or inspect.isroutine(one):
                yield f"{module.__name__}.{name}", one


PUBLIC = dict(public())


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_says_what_it_is(name: str) -> None:
    one = PUBLIC[name]
    text = inspect.getdoc(one) or ""
    first = text.split("\n\n")[0]
    assert len(first) > 15 and first.rstrip()[-1] in ".:)", f"{name}: {first!r}"
    assert not text.startswith(f"{name.rpartition('.')[2]}("), "a dataclass without a docstring"
    if not inspect.isclass(one) or one.__module__ == "rsecho._rsecho":
        return
    for attribute, value in vars(one).items():
        is_public = not attribute.startswith("_")
        if is_public and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{attribute}"


ARGUMENTS = [name for name, one in PUBLIC.items() if "Args:" in (inspect.getdoc(one) or "")]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_explained(name: str) -> None:
    text = inspect.getdoc(PUBLIC[name]) or ""
    for argument in inspect.signature(PUBLIC[name]).parameters:
        assert re.search(rf"^ +{argument}(?: \(.*\))?: \S", text, re.MULTILINE), argument
