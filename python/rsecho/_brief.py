"""A `repr` that a person can read: defaults, and counters that are zero, are left out; long data is
shown by its length and its first bytes."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

# Up to here, data is shown as it is.
_SHOWN_BYTES = 64


def brief(one: Any) -> str:
    """The `repr` of a dataclass: `UdpStats(received_packets=3, dropped={'denied': 1})`."""
    parts = []
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, dict) and all(isinstance(each, int) for each in value.values()):
            value = {name: count for name, count in value.items() if count}
        if field.repr and not _is_default(field, value):
            parts.append(f"{field.name}={_shown(value)}")
    return f"{type(one).__qualname__}({', '.join(parts)})"


def _shown(value: object) -> str:
    if isinstance(value, bytes) and len(value) > _SHOWN_BYTES:
        return f"<{len(value)} bytes: {value[:16]!r}…>"
    return repr(value)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    else:
        return False
    # A counter that the kernel could not tell is None, and 0 is no news either.
    is_nothing = value == 0 and not isinstance(value, bool) and default is None
    return is_nothing or (type(value) is type(default) and value == default)
