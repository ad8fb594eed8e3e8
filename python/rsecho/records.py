"""Records that servers with a layout were sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsecho.layout import RecordLayout

__all__ = ["Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record that came to a server."""

    time_ns: int
    """When, in nanoseconds since 1970."""
    server: str
    """Which server, as in `udp://127.0.0.1:9999`."""
    peer: tuple[str, int]
    """Who sent it."""
    data: bytes
    """The record as it came."""
    layout: RecordLayout
    """The layout by which it was decoded."""
    values: tuple[bool | int | float | bytes, ...]
    """The decoded values, in the layout's order."""

    @property
    def fields(self) -> dict[str, Any]:
        """The values by the names of the layout: bool, int, float or bytes."""
        return dict(zip(self.layout.names, self.values, strict=True))
