"""Where messages go: standard error, or whatever a file configures."""

from __future__ import annotations

import copy
import json
import logging
import logging.config
import sys
import tomllib
from configparser import Error as IniError
from pathlib import Path

from rsecho._errors import DEBUG_BUILD
from rsecho._rsecho import is_debug_build
from rsecho.cli.failure import USAGE, CommandError, reason
from rsecho.logs import JsonFormatter, TextFormatter


def configure_logging(level: str, format: str, config_path: str | None) -> None:
    """Sets logging up for a command; a configuration file takes the place of the rest."""
    if config_path is not None:
        _from_file(config_path)
    else:
        _to_standard_error(level, format)
    if is_debug_build:
        logging.getLogger("rsecho").warning(DEBUG_BUILD)


def _to_standard_error(level: str, format: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(_Formatter())
        handler.addFilter(_is_news)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())


def _is_news(record: logging.LogRecord) -> bool:
    """False for what the command prints itself: where it listens, and the totals.

    A listener that ends by itself is news: the others may serve on, and totals come at the end.
    """
    event = getattr(record, "event", None)
    was_asked_to_stop = event == "stopped" and getattr(record, "reason", None) == "stopped"
    is_printed = event == "listening" or was_asked_to_stop
    return not (is_printed and record.levelno <= logging.INFO)


class _Formatter(TextFormatter):
    def format(self, record: logging.LogRecord) -> str:
        """Says why a listener has ended, without its counters: the totals have them."""
        if getattr(record, "event", None) == "stopped":
            record = copy.copy(record)
            record.msg = record.msg.rpartition("; ")[0]
        return super().format(record)


def _from_file(path: str) -> None:
    try:
        suffix = Path(path).suffix.lower()
        if suffix in (".ini", ".conf", ".cfg"):
            logging.config.fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
            return
        text = Path(path).read_text(encoding="utf-8")
        table = json.loads(text) if suffix == ".json" else tomllib.loads(text)
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **table})
    except (
        OSError,
        ValueError,  # also what is no UTF-8, TOML or JSON
        TypeError,
        AttributeError,
        ImportError,
        KeyError,
        IniError,
    ) as error:
        cause = f"{reason(error)}: {error.__cause__}" if error.__cause__ else reason(error)
        raise CommandError(f"cannot configure logging by {path}: {cause}", USAGE) from None
