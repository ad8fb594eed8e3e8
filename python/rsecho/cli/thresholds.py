"""`--fail-if 'loss>1%,rtt.p99>5ms'`: limits that a result must not cross."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsecho.cli.failure import USAGE, CommandError

if TYPE_CHECKING:
    from rsecho.meter import PingResult

_LIMIT = re.compile(
    r"\s*([a-z_]+(?:\.[a-z0-9.]+)?)\s*(>=|>|<=|<)\s*(\d+(?:\.\d+)?)\s*(%|ns|us|ms|s)?\s*"
)
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_SHARES = ("loss", "late", "duplicates", "reordered", "corrupt")
_TIMES = ("min", "avg", "max", "stddev", "jitter")
_WAY_OUT = "write, for example, loss>1% or rtt.p99>5ms, with commas between several"


@dataclass(frozen=True, slots=True)
class _Limit:
    text: str
    figure: str
    sign: str
    value: float

    def is_crossed(self, found: float) -> bool:
        match self.sign:
            case ">":
                return found > self.value
            case ">=":
                return found >= self.value
            case "<":
                return found < self.value
            case _:
                return found <= self.value


class Thresholds:
    """All limits of one `--fail-if`."""

    def __init__(self, limits: list[_Limit]) -> None:
        self._limits = limits

    @classmethod
    def parse(cls, text: str | None) -> Thresholds:
        """From the text; a CommandError says what is wrong with it."""
        return cls([_parse(each) for each in text.split(",")] if text else [])

    def crossed(self, result: PingResult) -> list[str]:
        """A line for each limit that the result crosses. Without a reply there are no times, which
        crosses each limit on one."""
        lines = []
        for limit in self._limits:
            found = _figure(result, limit.figure)
            if found is None:
                lines.append(f"{limit.text}: there was no reply")
            elif limit.is_crossed(found):
                is_time = limit.figure.startswith("rtt.")
                shown = f"{found / 1e6:.3f} ms" if is_time else f"{found:.4g}%"
                lines.append(f"{limit.text}: it is {shown}")
        return lines


def _parse(text: str) -> _Limit:
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise CommandError(f"cannot read --fail-if {text.strip()!r}; {_WAY_OUT}", USAGE)
    figure, sign, number, unit = match.groups()
    head, _, tail = figure.partition(".")
    is_time = head == "rtt" and (tail in _TIMES or _percentile(tail) is not None)
    if not is_time and figure not in _SHARES:
        known = ", ".join([*_SHARES, *(f"rtt.{each}" for each in _TIMES), "rtt.p99"])
        raise CommandError(
            f"cannot use {figure!r} in --fail-if: there is no such figure; there are {known}", USAGE
        )
    if is_time and unit not in _UNITS:
        raise CommandError(f"cannot read --fail-if {text.strip()!r}: {figure} is a time; write its "
                           f"unit, as in {figure}{sign}5ms", USAGE)  # fmt: skip
    if not is_time and unit not in ("%", None):
        raise CommandError(f"cannot read --fail-if {text.strip()!r}: {figure} is a share; write "
                           f"{figure}{sign}1%", USAGE)  # fmt: skip
    return _Limit(text.strip(), figure, sign, float(number) * _UNITS.get(unit, 1))


def _percentile(text: str) -> float | None:
    if not re.fullmatch(r"p\d+(\.\d+)?", text):
        return None
    percent = float(text[1:])
    return percent if percent <= 100 else None


def _figure(result: PingResult, name: str) -> float | None:
    """A share in percent, or a time in nanoseconds; None: there is none."""
    if name == "loss":
        return result.loss.percent
    if name == "reordered":
        return result.reordering.percent
    if name in _SHARES:
        return 100 * float(getattr(result, name)) / max(result.sent, 1)
    rtt, figure = result.rtt, name.removeprefix("rtt.")
    if (percent := _percentile(figure)) is not None:
        return rtt.percentile_ns(percent)
    return {
        "min": rtt.min_ns,
        "avg": rtt.mean_ns,
        "max": rtt.max_ns,
        "stddev": rtt.stddev_ns,
        "jitter": result.jitter_mean_ns,
    }[figure]
