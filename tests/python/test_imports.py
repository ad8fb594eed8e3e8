"""The modules of the package form layers: none imports what imports it, function-level imports
included."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import rsecho

PACKAGE = Path(rsecho.__file__).parent
MODULES = {
    ".".join(("rsecho", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}


def _imports(node: ast.AST, module: str) -> Iterator[str]:
    """The names of the package that are imported when the code below `node` runs."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for other in child.orelse:
                    yield from _imports(ast.Module([other], []), module)
            case ast.Import():
                yield from (alias.name for alias in child.names)
            case ast.ImportFrom():
                assert child.level == 0, f"{module} has a relative import"
                for alias in child.names:
                    # A module of a package, or else a name in a module.
                    whole = f"{child.module}.{alias.name}"
                    yield whole if whole in MODULES else str(child.module)
            case _:
                yield from _imports(child, module)


def test_no_modules_import_each_other() -> None:
    graph = {
        module: set(_imports(ast.parse(path.read_text(encoding="utf-8")), module)) & set(MODULES)
        for module, path in MODULES.items()
    }
    # The package's own names are imported when they are asked for, from modules below it.
    for imported in graph.values():
        imported.discard("rsecho")
    assert graph["rsecho.server"] > {"rsecho._lifecycle", "rsecho._servers"}
    TopologicalSorter(graph).prepare()
