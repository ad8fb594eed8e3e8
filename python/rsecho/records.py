"""Records that a server has received and decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsecho._brief import brief

if TYPE_CHECKING:
    from rsecho.layout import RecordLayout

__all__ = ["Record"]


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One record that a server has received."""

    time_ns: int
    """Time of arrival, in nanoseconds since 1970."""
    server: str
    """Address of the server, as in `udp://127.0.0.1:9999`."""
    peer: tuple[str, int]
    """Host and port of the sender."""
    data: bytes
    """The bytes of the record."""
    layout: RecordLayout
    """The layout that decoded it."""
    values: tuple[bool | int | float | bytes, ...]
    """The decoded values, in the layout's order."""

    __repr__ = brief

    @property
    def fields(self) -> dict[str, Any]:
        """The values by the names of the layout: bool, int, float or bytes."""
        return dict(zip(self.layout.names, self.values, strict=True))
