"""What servers write to `logging`, and how it looks.

Three loggers, silent until the program configures logging:

* `rsecho.server`: a server's life. Listening, options the kernel changed, drops, stopped.
* `rsecho.access`: at DEBUG, two lines for each datagram, or one if it was not answered, and
  one for each connection that opens or closes. The servers look about once a second whether
  it is enabled; while it is not, it costs nothing.
* `rsecho.records`: decoded records at INFO, data of the wrong length at WARNING.

`LogRecord.created` is when the event happened, not when it was written. Each record carries
its parts as attributes: `time_ns`, `event`, `server`, and, where it has them, `peer`,
`length`, `payload`, `reason`, `fields`.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

__all__ = ["JsonFormatter", "escape_payload", "flush_logs"]

logging.getLogger("rsecho").addHandler(logging.NullHandler())

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


def escape_payload(data: bytes, length: int | None = None) -> str:
    r"""One printable line for any bytes: `"ping\x1b\r\n"`.

    Bytes that are no UTF-8 appear as `\xff`, characters that print nothing or move the
    cursor as `\x1b` or `\u202e`. `length` says how many bytes there were, where `data` is
    only their beginning; the line then ends with `(128 of 1400 bytes)`.
    """
    text = data.decode("utf-8", "surrogateescape")
    if not text.isprintable() or "\\" in text or '"' in text:
        text = "".join(map(_escape, text))
    if length is None or length <= len(data):
        return f'"{text}"'
    return f'"{text}" ({len(data)} of {length} bytes)'


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # How surrogateescape carries a byte that is no UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def flush_logs(timeout: float = 5.0) -> bool:
    """Waits until what has happened so far in any server has been handed to `logging`.

    Events reach it a moment after they happen; this is for whoever looks for their lines.
    False when that took longer than `timeout` seconds, or when called by a handler or an
    `on_record`, which would wait for itself.
    """
    from rsecho import _pump

    return _pump.flush(timeout)


# What every record has; the rest was added by whoever logged it.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `time_ns` (an integer since 1970), `level`, `logger`, `message`, then whatever attributes
    the record was given; `exception` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        document: dict[str, Any] = {
            "time_ns": getattr(record, "time_ns", round(record.created * 1e9)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in document:
                document[name] = _plain(value)
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            document["exception"] = record.exc_text
        return json.dumps(document, default=str)


def _plain(value: object) -> object:
    """JSON has no bytes and no NaN."""
    match value:
        case bytes():
            return value.hex()
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
