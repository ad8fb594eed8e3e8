"""Bytes that a command is given: as text, as hex digits, from a file or from standard input."""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from rsecho.cli.failure import USAGE, CommandError, failing_with

if TYPE_CHECKING:
    from collections.abc import Mapping

# What fits into the longest datagram: over IPv6, without extension headers (RFC 8200).
MAX_DATAGRAM_BYTES = 65_527

# The bytes sent and those that come back are in memory at the same time. A pipe or a device may
# have no end, which shows only in what has been read.
_MAX_FILE_BYTES = 1 << 30
_MAX_PIPE_BYTES = 1 << 28

_STEP = 1 << 20

_ESCAPE = re.compile(
    rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|([abfnrtv\\'\"])|())"
)
_LETTERS = dict(zip(b"abfnrtv\\'\"", b"\a\b\f\n\r\t\v\\'\"", strict=True))


def from_hex(text: str, what: str) -> bytes:
    """The bytes of hex digits; spaces and colons between them are ignored. `what` is their name
    in errors."""
    digits = re.sub(r"[\s:]+|^\s*0[xX]", "", text)
    if wrong := re.search("[^0-9A-Fa-f]", digits):
        raise CommandError(
            f"cannot read {what}: {wrong[0]!r} is not a hex digit; write two per byte, as in 0aff",
            USAGE,
        )
    if len(digits) % 2:
        why = f"it has {len(digits)} digits, and each byte takes two"
        raise CommandError(f"cannot read {what}: {why}; write a leading 0", USAGE)
    return bytes.fromhex(digits)


def from_stdin(limit: int | None = None) -> bytes | bytearray:
    """All of standard input, or the first `limit` + 1 bytes of more."""
    if sys.stdin is None:
        raise CommandError("cannot read standard input: it is closed", USAGE)
    if sys.stdin.isatty():
        click.echo("rsecho: reading from the terminal; Ctrl-D ends the input", err=True)
    with failing_with(USAGE):
        return sys.stdin.buffer.read() if limit is None else _at_most(sys.stdin.buffer, limit)


def escaped(text: str, what: str) -> bytes:
    r"""The bytes of a text with escapes: \n, \x00, \u20ac and the like. `what` is its name in
    errors."""

    def byte_or_character(match: re.Match[bytes]) -> bytes:
        two, four, eight, octal, letter, wrong = match.groups()
        if wrong is not None:
            rest = match.string[match.start() : match.start() + 2].decode(errors="replace")
            why = f"{rest} is not an escape such as \\n or \\x00"
            raise CommandError(f"cannot read {what}: {why}; write \\\\ for a backslash", USAGE)
        if letter is not None:
            return bytes([_LETTERS[letter[0]]])
        if two is not None or octal is not None:
            return bytes([int(two, 16) if two else int(octal, 8) & 0xFF])
        try:
            return chr(int(four or eight, 16)).encode()
        except (ValueError, OverflowError):
            why = f"{match[0].decode()} is not a character"
            raise CommandError(f"cannot read {what}: {why}", USAGE) from None

    return _ESCAPE.sub(byte_or_character, text.encode("utf-8", "surrogateescape"))


def of_send(given: Mapping[str, Any], target: str) -> bytes | bytearray:
    """What `send` sends, of a length that its protocol can carry."""
    is_tcp: bool = given["tcp"]
    limits = (_MAX_FILE_BYTES, _MAX_PIPE_BYTES) if is_tcp else (MAX_DATAGRAM_BYTES,) * 2
    name, data = _read(given, *limits)
    if data is None:
        longest = "over TCP at most 1 GiB of a file are sent, and 256 MiB of a pipe or device"
        if not is_tcp:
            longest = "a datagram has at most 65,507 bytes over IPv4 and 65,527 over IPv6"
        source = "-" if given["stdin"] else "FILE" if given["file"] is None else given["file"]
        way_out = f"`rsecho push {source} {target}` sends a message of any length over UDP"
        raise CommandError(f"cannot send {name}: {longest}; {way_out}", USAGE)
    if given["line"]:
        return _one_line(name, data, is_typed=not (given["stdin"] or given["file"] is not None))
    if is_tcp:
        _refuse_nothing(given, name, data)
    return data


def _one_line(name: str, data: bytes | bytearray, *, is_typed: bool) -> bytes | bytearray:
    """Without the line end that files and pipes have; --line adds one."""
    line = data if is_typed else data.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line:
        why = "it has a line end, and --line sends one line per request, with its line end"
        raise CommandError(f"cannot send {name}: {why}; give one line without it", USAGE)
    return line


def _refuse_nothing(given: Mapping[str, Any], name: str, data: bytes | bytearray) -> None:
    """A stream does not carry empty messages: without bytes there is nothing to compare."""
    if given["expect"] == "":
        why = "over TCP no bytes are waited for, so any reply would pass"
        raise CommandError(f"cannot use an empty --expect: {why}; use --any", USAGE)
    if not data and given["expect"] is None and not given["takes_any"]:
        why = "TCP carries no empty messages, so nothing would be sent or compared"
        way_out = "use --line for an empty line, or --any to wait for what the server says first"
        raise CommandError(f"cannot send {name}: it is empty; {why}; {way_out}", USAGE)


def _read(
    given: Mapping[str, Any], file_limit: int, pipe_limit: int
) -> tuple[str, bytes | bytearray | None]:
    """The name of the source, for errors, and its bytes; None: they are more than a limit."""
    data: bytes | bytearray
    if given["stdin"]:
        data = from_stdin(pipe_limit)
        return "standard input", data if len(data) <= pipe_limit else None
    if given["hex_digits"] is not None:
        name, data = "--hex", from_hex(given["hex_digits"], "--hex")
    elif given["file"] is not None:
        from pathlib import Path

        with failing_with(USAGE), Path(given["file"]).open("rb") as file:
            status = os.fstat(file.fileno())
            is_file = stat.S_ISREG(status.st_mode)
            limit = file_limit if is_file else pipe_limit
            if is_file and status.st_size > limit:
                return given["file"], None
            data = _at_most(file, limit)
            return given["file"], data if len(data) <= limit else None
    else:
        text: str = "hello" if given["text"] is None else given["text"]
        # What the shell gave that is not UTF-8 goes out as it came in.
        name, data = "TEXT", text.encode("utf-8", "surrogateescape")
    return name, data if len(data) <= file_limit else None


def _at_most(file: IO[bytes], limit: int) -> bytearray:
    """Its bytes to the end, or `limit` + 1 of them: /dev/zero has no end."""
    data = bytearray()
    while len(data) <= limit and (part := file.read(min(_STEP, limit + 1 - len(data)))):
        data += part
    return data
