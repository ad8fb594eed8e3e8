"""The difference between two readings of a server's counters."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from rsecho.stats import LEVEL, TcpStats, UdpStats

_Stats = TypeVar("_Stats", UdpStats, TcpStats)


def since(now: _Stats, before: _Stats) -> _Stats:
    """The counters of `now` less those of `before`; levels, such as active connections, stay."""
    changed: dict[str, Any] = {}
    for field in fields(now):
        value, old = getattr(now, field.name), getattr(before, field.name)
        if isinstance(value, dict):
            changed[field.name] = {key: count - old.get(key, 0) for key, count in value.items()}
        elif isinstance(value, int) and not field.metadata.get(LEVEL):
            changed[field.name] = value - (old or 0)
    return replace(now, **changed)
