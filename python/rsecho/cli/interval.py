"""What servers did between two moments: rates, and what was dropped, by reason."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from rsecho.stats import LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rsecho.server import Server
    from rsecho.stats import TcpStats, UdpStats

# What a person reads of each, in this order: the counter, and the word for it.
_RATES = {
    "accepted_connections": "accepted {} connections/s",
    "received_packets": "received {} packets/s",
    "received_bytes": "{} in",
    "sent_packets": "sent {} packets/s",
    "sent_bytes": "{} out",
}

# TCP: connections that were closed at once, which are not among those accepted.
_REFUSED = ("refused_connections", "denied_connections", "refused_by_source", "refused_by_rate")

_BYTE_UNITS = ["B/s", "KiB/s", "MiB/s", "GiB/s"]


class Interval(NamedTuple):
    """What one server counted in some time."""

    duration_ns: int
    counts: dict[str, int]
    """How much each counter grew, by the name of its field in the statistics."""
    levels: dict[str, int]
    """Current numbers: open connections, delayed datagrams."""
    reasons: dict[str, int]
    """Datagrams that were not answered, or connections that ended, by reason."""
    reasons_name: str
    """`dropped` or `closed`."""

    def document(self) -> dict[str, Any]:
        """For programs: all of it, zeros left out of the reasons."""
        counts = self.counts | self.levels
        return {"interval_ns": self.duration_ns, **counts, self.reasons_name: self.reasons}

    def __str__(self) -> str:
        """For people: rates per second, zeros left out where that says the same."""
        seconds = self.duration_ns / 1e9
        if not (any(self.counts.values()) or any(self.levels.values()) or self.reasons):
            return f"in {seconds:.1f} s: nothing happened"
        parts = []
        for name, text in _RATES.items():
            if name in self.counts:
                rate = self.counts[name] / seconds
                shown = _bytes(rate) if name.endswith("_bytes") else _short(rate)
                parts.append(text.format(shown))
        if connections := self.levels.get("active_connections"):
            parts.append(f"{connections} open")
        if pending := self.levels.get("pending_packets"):
            parts.append(f"{pending} held back")
        if lost := self.counts.get("kernel_drops"):
            parts.append(f"{lost} dropped by the kernel")
        if refused := {name: self.counts[name] for name in _REFUSED if self.counts.get(name)}:
            by_rule = ", ".join(f"{name} {count}" for name, count in refused.items())
            parts.append(f"closed at once {sum(refused.values())} ({by_rule})")
        if self.reasons:
            by_reason = ", ".join(f"{name} {count}" for name, count in self.reasons.items())
            parts.append(f"{self.reasons_name} {sum(self.reasons.values())} ({by_reason})")
        return f"in {seconds:.1f} s: {', '.join(parts)}"


def between(before: UdpStats | TcpStats, after: UdpStats | TcpStats, duration_ns: int) -> Interval:
    """What was counted between two moments."""
    counts: dict[str, int] = {}
    levels: dict[str, int] = {}
    reasons: dict[str, int] = {}
    reasons_name = ""
    for field in fields(after):
        then, now = getattr(before, field.name), getattr(after, field.name)
        if LEVEL in field.metadata:
            levels[field.name] = now
        elif isinstance(now, int):
            counts[field.name] = now - (then or 0)
        elif isinstance(now, dict) and field.name != "more":
            grown = {reason: count - then.get(reason, 0) for reason, count in now.items()}
            reasons = {reason: count for reason, count in grown.items() if count}
            reasons_name = field.name
    return Interval(max(duration_ns, 1), counts, levels, reasons, reasons_name)


class Meter:
    """Tells what each server does, at an interval and when asked. Used on one thread."""

    def __init__(
        self,
        servers: Sequence[Server],
        tell: Callable[[Server, Interval], None],
        interval: float | None,
    ) -> None:
        self._servers = servers
        self._tell = tell
        self._interval = interval or math.inf
        self._is_asked = False
        self._last: list[UdpStats | TcpStats] = []
        self._last_ns = 0
        self._due = math.inf

    def start(self) -> None:
        """The first interval begins."""
        self._last = [server.stats() for server in self._servers]
        self._last_ns = time.monotonic_ns()
        self._due = self._last_ns / 1e9 + self._interval

    def ask(self) -> None:
        """Has it told at the next look, in the midst of an interval. From a signal handler."""
        self._is_asked = True

    def time_to_due(self) -> float:
        """Seconds until the interval is over."""
        return max(self._due - time.monotonic(), 0.0)

    def tell_if_due(self) -> None:
        """Tells what was done since the last time, where the interval is over or somebody asked."""
        is_due = self.time_to_due() <= 0
        if not (is_due or self._is_asked):
            return
        self._is_asked = False
        now_ns = time.monotonic_ns()
        for place, server in enumerate(self._servers):
            stats = server.stats()
            self._tell(server, between(self._last[place], stats, now_ns - self._last_ns))
            self._last[place] = stats
        self._last_ns = now_ns
        if is_due:
            # In step with the first, however long a look took.
            late = (now_ns / 1e9 - self._due) // self._interval
            self._due += (late + 1) * self._interval


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 or rate == int(rate) else f"{rate:.1f}"


def _bytes(rate: float) -> str:
    place = 0
    while rate >= 1024 and place + 1 < len(_BYTE_UNITS):
        rate /= 1024
        place += 1
    return f"{_short(rate)} {_BYTE_UNITS[place]}"
