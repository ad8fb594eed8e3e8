"""Arguments held to their type, as `_options` writes it: a wrong one is a TypeError that names the
keyword, shows the value and says what is wanted. Ranges are the native half's, which has the rules.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    _Fits: TypeAlias = Callable[[object], bool]

# A value is shown up to here.
_SHOWN_CHARACTERS = 60

# Arguments whose numbers are seconds.
_TIMES = re.compile("timeout$|_seconds$|_delay$|_window$|^linger$|^keep_alive$")


def check(name: str, value: object, kind: str, choices: Mapping[str, Any] = {}) -> None:
    """Refuses a value that is not of this type.

    Args:
        name: The argument, as its caller writes it.
        value: What was given.
        kind: The type, as in "float | None".
        choices: `Literal` types by the names that `kind` may have for them.

    Raises:
        TypeError: it is of another type.
        ValueError: it is none of a few words or numbers.
    """
    parts = [_part(each, choices.get(each)) for each in _alternatives(kind)]
    if any(fits(value) for fits, _, _ in parts):
        return
    wanted = " or ".join(dict.fromkeys(words for _, words, _ in parts))
    if _TIMES.search(name):
        wanted = wanted.replace("a number", "a number of seconds")
    if type(value) is int and not {"int", "float"}.isdisjoint(_alternatives(kind)):
        raise refused(name, value, _range_of(name, kind), ValueError)
    # A word where other words are wanted is of the right type.
    is_other_word = any(type(value) in types for _, _, types in parts)
    raise refused(name, value, wanted, ValueError if is_other_word else TypeError)


def _range_of(name: str, kind: str) -> str:
    """What a number that is beyond all limits should have been."""
    if name == "port":
        return "a number from 0 to 65535"
    # 64 bits for a whole number, a double's range for others.
    digits = 308 if "float" in _alternatives(kind) else 18
    return f"a number of at most {digits} digits"


def refused(
    name: str, value: object, wanted: str, error: type[ValueError | TypeError]
) -> Exception:
    """The error for a value: "cannot set port='http': it takes a whole number, not a str"."""
    seen = "" if error is ValueError or value is None else f", not {_kind(value)}"
    return error(f"cannot set {name}={shown(value)}: it takes {wanted}{seen}")


def shown(value: object) -> str:
    """A value in one short line, also where its own `repr` fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeio" else f"a {name}"


@cache
def _alternatives(kind: str) -> tuple[str, ...]:
    """The members of a union, None last."""
    found: list[str] = []

    def walk(node: ast.expr) -> None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            walk(node.left)
            walk(node.right)
        else:
            found.append(ast.unparse(node))

    walk(ast.parse(kind, mode="eval").body)
    return tuple(found)


def _part(kind: str, literal: Any) -> tuple[_Fits, str, tuple[type, ...]]:
    """Whether a value is of this kind, what it is called, and the types of its words."""
    if literal is not None:
        return _words(literal.__args__)
    return _named(kind)


def _words(words: tuple[Any, ...]) -> tuple[_Fits, str, tuple[type, ...]]:
    types = tuple({type(word) for word in words})
    told = ", ".join(map(repr, words[:-1])) + f" or {words[-1]!r}"
    # Of the same type: True is 1, and neither a family of addresses.
    return (lambda value: type(value) in types and value in words), told, types


@cache
def _named(kind: str) -> tuple[_Fits, str, tuple[type, ...]]:
    node = ast.parse(kind, mode="eval").body
    if isinstance(node, ast.Subscript):
        base, inner = ast.unparse(node.value), node.slice
        if base == "Literal":
            return _words(_constants(inner))
        if base == "tuple" and isinstance(inner, ast.Tuple):
            return _tuple([ast.unparse(each) for each in inner.elts])
        if base == "Sequence":
            each = ast.unparse(inner)
            return (lambda value: _is_sequence_of(value, each)), "a list of whole numbers", ()
        return _KINDS[base]
    if kind in _KINDS:
        return _KINDS[kind]
    # A class of this package, which need not be imported for this: a value of it has done that.
    return (lambda value: _is_own(value, kind)), f"a rsecho.{_PUBLIC.get(kind, kind)}", ()


def _constants(node: ast.expr) -> tuple[Any, ...]:
    elements = node.elts if isinstance(node, ast.Tuple) else [node]
    return tuple(ast.literal_eval(each) for each in elements)


def _fits(value: object, kind: str) -> bool:
    return any(_named(each)[0](value) for each in _alternatives(kind))


def _tuple(kinds: list[str]) -> tuple[_Fits, str, tuple[type, ...]]:
    def fits(value: object) -> bool:
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(_fits(each, kind) for each, kind in zip(value, kinds, strict=True))
        )

    each = ", ".join(" or ".join(_named(part)[1] for part in _alternatives(kind)) for kind in kinds)
    return fits, f"a tuple ({each})", ()


def _is_sequence_of(value: object, kind: str) -> bool:
    if isinstance(value, str | bytes | bytearray | dict):
        return False
    if not (hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__")):
        return False
    items: Any = value
    return all(_fits(each, kind) for each in items)


def _is_own(value: object, name: str) -> bool:
    return any(
        one.__name__ == name and one.__module__.partition(".")[0] == "rsecho"
        for one in type(value).__mro__
    )


def _is_bool(value: object) -> bool:
    # numpy's as well, which is no bool.
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _is_whole(value: object) -> bool:
    if isinstance(value, int):
        # The native half has 64 bits, which no limit needs all of.
        return not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    return not _is_bool(value) and hasattr(type(value), "__index__")


def _is_number(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            float(value)
        except OverflowError:
            return False
        return True
    return not _is_bool(value) and (
        hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
    )


def _is_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    except BufferError:
        return True  # a buffer, if one that cannot be used: who reads it says why
    return True


_CALLABLE = (callable, "a callable", ())

# What types are called in messages. `callable` asks nothing of its arguments: that shows when
# it is called.
_KINDS: dict[str, tuple[_Fits, str, tuple[type, ...]]] = {
    "None": ((lambda value: value is None), "None", ()),
    "bool": (_is_bool, "True or False", ()),
    "int": (_is_whole, "a whole number", ()),
    "float": (_is_number, "a number", ()),
    "str": ((lambda value: isinstance(value, str)), "a str", ()),
    "bytes": ((lambda value: isinstance(value, bytes | bytearray)), "bytes", ()),
    "Buffer": (_is_buffer, "bytes or another buffer", ()),
    "PathLike": ((lambda value: hasattr(type(value), "__fspath__")), "a path", ()),
    "HasFileno": ((lambda value: callable(getattr(value, "fileno", None))), "a socket", ()),
    "Callable": _CALLABLE,
    "OnRecord": _CALLABLE,
    "OnRequest": _CALLABLE,
    "OnFields": _CALLABLE,
    "Progress": _CALLABLE,
}

# Where users find them.
_PUBLIC = {"Policy": "transfer.Policy"}
