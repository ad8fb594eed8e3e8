"""What a request is compared with, and how a report shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable
    from types import CodeType
    from typing import TypeAlias

    from rsecho.responders import Peer

    Predicate: TypeAlias = Callable[[bytes], object] | Callable[[bytes, Peer], object]
    Matcher: TypeAlias = bytes | re.Pattern[bytes] | Predicate

# How much of a payload, or of a lambda's source, a report shows.
_SHOWN_BYTES = 60
_SHOWN_CHARACTERS = 120


def shown(data: bytes) -> str:
    """A payload in a report, cut if it is long."""
    if len(data) <= _SHOWN_BYTES:
        return repr(data)
    return f"{data[:_SHOWN_BYTES]!r}… ({len(data)} bytes)"


def named(what: Matcher) -> str:
    """A matcher in a report: bytes and patterns as written, a function with its source line."""
    if isinstance(what, bytes):
        return shown(what)
    if isinstance(what, re.Pattern):
        return repr(what)
    return described(what)


def described(function: Any) -> str:
    """A function in a report: `is_query (test_dns.py:12)`, or a lambda's source."""
    from pathlib import PurePath

    from rsecho._lines import printable

    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", None) or repr(function)
    if code is None:
        return printable(name)
    if name == "<lambda>":
        name = _source_of_lambda(code) or name
    if len(name) > _SHOWN_CHARACTERS:
        name = f"{name[:_SHOWN_CHARACTERS]}…"
    return printable(f"{name} ({PurePath(code.co_filename).name}:{code.co_firstlineno})")


def checked(what: object, *, is_stream: bool = False) -> Matcher:
    """The matcher, if it can be compared with requests.

    Raises:
        TypeError: it is neither bytes, nor a pattern of bytes, nor a plain function of a request.
        ValueError: it is `b""`, and requests are pieces of a stream, which are never empty.
    """
    if isinstance(what, bytes | bytearray | memoryview):
        if is_stream and not len(what):
            raise ValueError("cannot expect b'' of a stream: nothing is sent for it; expect bytes")
        return bytes(what)
    if isinstance(what, re.Pattern):
        if isinstance(what.pattern, str):
            raise TypeError(
                f"cannot match {what!r} with bytes: compile a pattern of bytes, as in rb'…'"
            )
        return what
    if callable(what):
        with_peer(what, "expect")
        if is_async(what):
            raise TypeError(
                f"cannot expect {described(what)}: a predicate is called without an event loop; "
                "make it a plain function (a reply may be an async one)"
            )
        return what
    way_out = ": encode it" if isinstance(what, str) else ""
    raise TypeError(
        f"cannot expect {what!r}: give bytes, a compiled pattern of bytes, or a predicate{way_out}"
    )


def test_of(what: Matcher) -> Callable[[bytes, Peer], bool]:
    """A function that says whether a whole request is the expected one."""
    if isinstance(what, bytes):
        return lambda data, _: data == what
    if isinstance(what, re.Pattern):
        return lambda data, _: what.search(data) is not None
    call = with_peer(what, "expect")
    return lambda data, peer: bool(call(data, peer))


def with_peer(function: Callable[..., Any], verb: str) -> Callable[[bytes, Peer], Any]:
    """The function, called with the request and, only if it needs both, the peer.

    Raises:
        TypeError: it can be called with neither one argument nor two; says `verb`, what is
            wanted of it.
    """
    return function if _takes_peer(function, verb) else lambda data, _: function(data)


def _takes_peer(function: Callable[..., Any], verb: str) -> bool:
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some builtins have none.
        return False
    for arguments in ((b"",), (b"", None)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise TypeError(
        f"cannot {verb} {described(function)}: it is called with (request) or (request, peer), "
        f"and takes {signature}"
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    import inspect

    # An object that is called by its class's method counts as well.
    method = getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)


def _source_of_lambda(code: CodeType) -> str | None:
    """The text of a lambda, in one line; None if its file cannot be read."""
    import ast
    import linecache

    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    if len(found) > 1:
        # Several on one line: the instructions of this one know their columns.
        found = [node for node in found if _extent(node.body) in set(code.co_positions())]
    return ast.unparse(found[0]) if len(found) == 1 else None


def _extent(node: ast.expr) -> tuple[int | None, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
