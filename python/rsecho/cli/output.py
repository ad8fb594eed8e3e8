"""What goes to standard output: JSON that says what it is, flushed line by line."""

from __future__ import annotations

import json
import math
from typing import Any

import click


def print_json(document: dict[str, Any], *, schema: str, indent: int | None = None) -> None:
    """One JSON document, its `schema` first."""
    click.echo(json.dumps({"schema": f"rsecho.{schema}", **plain(document)}, indent=indent))


def plain(value: Any) -> Any:
    """The value as JSON has it: bytes in hex, infinity and NaN by name."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
