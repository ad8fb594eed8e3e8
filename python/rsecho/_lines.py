"""A line in a log: one line whatever is in it.

What comes from outside (a payload in an exception's text, say) must not end a line, begin one
that passes for another record, or steer a terminal. So what does not print is written as an
escape, before any formatter sees it, so it works with any configuration of logging.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable
    from types import TracebackType
    from typing import TypeAlias

    ExcInfo: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    )

# Before each line of a traceback. No record begins like that, so none of these lines passes
# for one: an exception's text may have as many lines as it likes.
MARK = "    | "

# Of a traceback: characters of a line, and lines at each end of it.
_LINE_CHARACTERS = 1000
_END_LINES = 100

# Of an exception's text in a message, which its traceback has as well.
_TEXT_CHARACTERS = 500

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""The same text, with escapes for what prints nothing, ends a line or moves the cursor.

    Control characters (C0, DEL, C1), line and paragraph separators, directional overrides and
    other format characters, lone surrogates: `\n`, `\x1b`, `\u202e`. A backslash stays one,
    so what was escaped before is not escaped again.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(character: str) -> str:
    """The escape of a character that does not print."""
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # How surrogateescape carries a byte that is no UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_payload(data: bytes, length: int | None = None) -> str:
    r"""One printable line for any bytes: `"ping\x1b\r\n"`.

    Bytes that are not UTF-8 appear as `\xff`, characters that print nothing or move the
    cursor as `\x1b` or `\u202e`. `length` says how many bytes there were, where `data` is
    only their beginning; the line then ends with `(128 of 1400 bytes)`.
    """
    text = data.decode("utf-8", "surrogateescape")
    text = printable(text.replace("\\", "\\\\").replace('"', '\\"'))
    if length is None or length <= len(data):
        return f'"{text}"'
    return f'"{text}" ({len(data)} of {length} bytes)'


def said(error: BaseException) -> str:
    """An exception's kind and text, as a part of a line; cut where it is long."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception as another:
        text = f"(its text could not be made: {type(another).__name__})"
    if len(text) > _TEXT_CHARACTERS:
        text = f"{text[:_TEXT_CHARACTERS]}… ({len(text)} characters)"
    return printable(f"{kind}: {text}")


def trace(exc_info: ExcInfo) -> str:
    """A traceback, as Python writes it."""
    return "".join(traceback.format_exception(*exc_info))


def unmarked(text: str) -> str:
    """A traceback's lines, none of which has anything in it that does not print."""
    return "\n".join(line.removeprefix(MARK) for line in _lines(text))


def marked(text: str) -> str:
    """The same, each behind the mark: lines that belong to the record before them."""
    return "\n".join(MARK + line.removeprefix(MARK) for line in _lines(text))


def _lines(text: str) -> Iterable[str]:
    lines = text.rstrip("\n").split("\n")
    if len(lines) > 2 * _END_LINES:
        left_out = f"… {len(lines) - 2 * _END_LINES} lines left out …"
        lines = [*lines[:_END_LINES], left_out, *lines[-_END_LINES:]]
    for line in lines:
        if len(line) > _LINE_CHARACTERS:
            line = f"{line[:_LINE_CHARACTERS]}… ({len(line)} characters)"
        yield printable(line)


def host_port(pair: tuple[str, int]) -> str:
    """As in `192.0.2.1:9999`, `[2001:db8::1]:9999`."""
    host, port = printable(pair[0]), pair[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def emit(
    logger: logging.Logger,
    level: int,
    time_ns: int,
    text: str,
    *,
    raised: BaseException | None = None,
    **parts: object,
) -> None:
    """Logs a line as of the time at which it happened."""
    if not logger.isEnabledFor(level):
        return
    extra = {"time_ns": time_ns, **parts}
    cause = None if raised is None else (type(raised), raised, raised.__traceback__)
    text = printable(text)
    # Without arguments, so a "%" in the text stays one.
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), cause, None, extra)
    if cause is not None:
        # Formatters take this, where it is set, rather than format the exception themselves.
        record.exc_text = marked(trace(cause))
    seconds = time_ns / 1e9
    record.relativeCreated += (seconds - record.created) * 1e3
    record.created = seconds
    record.msecs = float(time_ns // 1_000_000 % 1000)
    logger.handle(record)
