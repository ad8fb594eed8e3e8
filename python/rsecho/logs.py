"""What servers write to `logging`, and how it looks.

Three loggers, silent until the program configures logging:

* `rsecho.server`: a server's life. Listening, options the kernel changed, drops, stopped.
* `rsecho.access`: at DEBUG, two lines for each datagram, or one if it was not answered, and
  one for each connection that opens or closes. The servers look about once a second whether
  it is enabled; while it is not, it costs nothing.
* `rsecho.records`: decoded records at INFO, data of the wrong length at WARNING.

`LogRecord.created` is when the event happened, not when it was written. Each record carries
its parts as attributes, which `JsonFormatter` writes as fields: `time_ns`, `event`, `server`, and,
where it has them, `peer`, `length_bytes` (of a datagram, record or message), `payload`, `reason`,
`fields` (of a record). Beside them:

* `listening`: `engine`. `buffer`, and `option` for one of which the kernel gave something else:
  `option`, `requested_bytes`, `effective_bytes`, `ceiling_bytes` (without `_bytes` where the option
  is not a buffer), `sysctl`.
* `stopped`: every counter of `UdpStats` or `TcpStats` under its name there, and `dropped` or
  `closed` by reason.
* `closed` (a connection): `received_bytes`, `sent_bytes`.
* `dropped` of `rsecho.server`, about all since the last such line: `packets`, and `dropped`
  by reason. `refused`: `connections`, and `denied_connections`, `refused_by_source`,
  `refused_by_rate`. Their `peer` is the last one.
* `guards`: the rules of a server that others can reach, by the keywords of `Guard`;
  `idle_timeout_ns` and `send_timeout_ns` of TCP. Limits that are off are left out.
* `impaired`: `impair`, the options in force. `echo_loop`: `hop_limit`, where that ended it.
* `transfer`: `file_name`, `length_bytes` (of a failed one: as far as it came), `duration_ns`.
* `unfit`: `expected_bytes`.
* Lines that are written once per second at most: `left_out_lines`, how many like it were not
  written since the last one. `lost`: `count`, events that came faster than logging took them.

Whatever is in a payload or in an exception's text, a record is one line, and none of its
characters steers a terminal: what does not print is escaped before a formatter sees it, in
messages and in tracebacks. Each line of a traceback has a mark before it (`    | `), so none
passes for a record. A formatter that formats exceptions itself (`formatException`) has to do
that itself; `TextFormatter` and `JsonFormatter` do so for the records of every logger.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from typing import Any

from rsecho import _options, _pump
from rsecho._lines import escape_payload, marked, printable, trace, unmarked

__all__ = ["JsonFormatter", "TextFormatter", "escape_payload", "flush_logs"]


def flush_logs(timeout: float = 5.0) -> bool:
    """Waits until what has happened so far in any server has been handed to `logging`.

    Events reach it a moment after they happen; call this before you look for their lines.
    False when that took longer than `timeout` seconds, or when called by a handler or an
    `on_record`, which would wait for itself.

    Raises:
        TypeError, ValueError: `timeout` is not a number of seconds, 0 or more.
    """
    _options.check_type("timeout", timeout, "float")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"cannot set timeout={timeout:g}: a time is a number of seconds, 0 or more"
        )
    return _pump.flush(timeout)


# What every record has; the rest was added by whoever logged it.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    r"""One line per record, for people.

    What does not print is escaped, in whatever the record's message is made of. The lines of a
    traceback follow, each behind `    | `.

    Args:
        fmt: As for `logging.Formatter`; by default time, level, logger and message.
        datefmt: Likewise; by default `2026-01-31 12:34:56`.
    """

    def __init__(
        self,
        fmt: str | None = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt: str | None = "%Y-%m-%d %H:%M:%S",
        *more: Any,
        **named: Any,
    ) -> None:
        super().__init__(fmt, datefmt, *more, **named)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, and as many more as its traceback has."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        parts = [printable(self.formatMessage(record))]
        if raised := _raised(record):
            parts.append(marked(raised))
        if record.stack_info:
            parts.append(marked(self.formatStack(record.stack_info)))
        return "\n".join(parts)


def _raised(record: logging.LogRecord) -> str:
    """The traceback that a record has; another formatter may have made a text of it."""
    if record.exc_info:
        return trace(record.exc_info)
    return record.exc_text or ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `time_ns` (an integer since 1970), `level`, `logger`, `message`, then whatever attributes
    the record was given; `exception` where there is one, and `stack`. Messages and tracebacks
    are escaped as by `TextFormatter`: they may be printed as they are.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        document: dict[str, Any] = {
            "time_ns": getattr(record, "time_ns", round(record.created * 1e9)),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in document:
                document[name] = _plain(value)
        if raised := _raised(record):
            document["exception"] = unmarked(raised)
        if record.stack_info:
            document["stack"] = unmarked(record.stack_info)
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
