"""`help()` and signatures of what takes keywords that are stated in `_options`, with all of them.

Their names, types and meanings are read from the source of that module, once.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from rsecho import _options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Explained = TypeVar("_Explained", bound="Callable[..., Any]")


class _Default:
    def __repr__(self) -> str:
        return "<default>"


# In a signature: what the keyword's text says, or the system's.
_DEFAULT = _Default()


def explained(options: type) -> Callable[[_Explained], _Explained]:
    """Has a class or function whose keywords are those of the typed dict `options` tell them."""

    def explain(one: _Explained) -> _Explained:
        one.__doc__ = _docstring(one.__doc__ or "", options)
        told: Any = None
        if not isinstance(one, type):
            told = _with_keywords(inspect.signature(one), options)
        elif one.__init__.__code__.co_flags & inspect.CO_VARKEYWORDS:  # type: ignore[misc]
            told = _Signature(one, options)
        if told is not None:
            one.__signature__ = told  # type: ignore[attr-defined]
        return one

    return explain


def _docstring(text: str, options: type) -> str:
    """With the keywords in the place of `**options`."""
    lines = text.split("\n")
    places = [number for number, line in enumerate(lines) if line.strip().startswith("**")]
    for place in places:
        indent = lines[place].partition("*")[0]
        told: list[str] = []
        for name, kind, meaning in _keywords(options):
            words = f"{name} ({kind}): {' '.join(meaning.split())}"
            told += textwrap.wrap(
                words, 95, initial_indent=indent, subsequent_indent=4 * " " + indent
            )
        # Without its source, the line stays, which says where they are.
        lines[place : place + 1] = told or [lines[place]]
    return "\n".join(lines)


class _Signature:
    """Of one class, not of those derived from it, which may take something else."""

    def __init__(self, owner: type, options: type) -> None:
        self._owner = owner
        self._options = options

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if owner is not self._owner:
            raise AttributeError
        own = inspect.signature(owner.__init__)  # type: ignore[misc]
        without_self = list(own.parameters.values())[1:]
        own = own.replace(parameters=without_self, return_annotation=own.empty)
        return _with_keywords(own, self._options)


def _with_keywords(own: inspect.Signature, options: type) -> inspect.Signature:
    """With the keywords for `**options`, which come last."""
    first = list(own.parameters.values())[:-1]
    given: list[Any] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=_DEFAULT)
        for name, kind, _ in _keywords(options)
    ]
    return own.replace(parameters=first + given)


def _keywords(options: type) -> list[tuple[str, str, str]]:
    """Name, type and meaning of each keyword, its bases' first."""
    classes = _classes()
    one = classes.get(options.__name__)
    return list(_of_class(one, classes)) if one else []


@cache
def _classes() -> dict[str, ast.ClassDef]:
    try:
        body = ast.parse(inspect.getsource(_options)).body
    except OSError:
        return {}
    return {one.name: one for one in body if isinstance(one, ast.ClassDef)}


def _of_class(
    one: ast.ClassDef, classes: dict[str, ast.ClassDef]
) -> Iterator[tuple[str, str, str]]:
    for base in one.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            yield from _of_class(classes[base.id], classes)
    for field, text in zip(one.body, [*one.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            meaning = text.value if isinstance(text, ast.Expr) else None
            told = str(meaning.value) if isinstance(meaning, ast.Constant) else ""
            yield field.target.id, ast.unparse(field.annotation), told
