"""Values on the command line: sizes, durations, addresses, code points."""

from __future__ import annotations

import math
import re

import click

from rsecho._rsecho import split_host_port

_SIZE = re.compile(r"(\d+)([KMG]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h)?", re.ASCII | re.IGNORECASE)
_DURATION_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


class Size(click.ParamType[int]):
    """Bytes, with K, M or G for 1024, 1024² or 1024³ of them."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write bytes, or 4K, 2M, 1G", param, ctx)
        return int(match[1]) * _SIZE_UNITS[match[2].upper()]


class Duration(click.ParamType[float]):
    """Seconds, or a number with ns, us, ms, s, m or h."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        # Defaults, and what a configuration file has as numbers.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            return float(value)
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write 1.5 (s), 200ms, 50us, 2m", param, ctx)
        return float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]


class HostPort(click.ParamType[tuple[str, int]]):
    """HOST:PORT, [IPv6]:PORT, or PORT alone where a default host is known."""

    name = "[host:]port"

    def __init__(self, default_host: str | None = None, default_port: int | None = None) -> None:
        self.default_host = default_host
        self.default_port = default_port

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        try:
            host, port = split_host_port(str(value), self.default_host or "")
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not host:
            self.fail(f"{value!r} names no host; write HOST:PORT", param, ctx)
        return host, port


class KeepAlive(click.ParamType[tuple[float | None, float | None, int | None]]):
    """IDLE[,INTERVAL[,COUNT]]: two durations and a number of probes."""

    name = "idle[,interval[,count]]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, float | None, int | None]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if len(parts) > 3 or (len(parts) == 3 and not parts[2].isdecimal()):
            self.fail(f"{value!r}: write IDLE[,INTERVAL[,COUNT]], as in 30s,5s,3", param, ctx)
        times = [Duration().convert(part, param, ctx) for part in parts[:2]]
        count = int(parts[2]) if len(parts) == 3 else None
        return times[0], times[1] if len(times) > 1 else None, count


class CpuList(click.ParamType[list[int]]):
    """Numbers and ranges, as in 0,2-3."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        # A configuration file may have a list of them.
        parts = value if isinstance(value, list) else str(value).split(",")
        cpus: list[int] = []
        for part in map(str, parts):
            first, dash, last = part.strip().partition("-")
            last = last if dash else first
            if (
                not (first.isdecimal() and last.isdecimal())
                or not int(first) <= int(last) < 1 << 16
            ):
                self.fail(f"{value!r} is no list of CPUs; write 0,2-3", param, ctx)
            cpus += range(int(first), int(last) + 1)
        return cpus


class Rate(click.ParamType[tuple[float, int | None]]):
    """RATE[:BURST]: so many a second, and so many at once."""

    name = "rate[:burst]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, int | None]:
        if isinstance(value, tuple):
            return value
        rate, colon, burst = str(value).strip().partition(":")
        if not re.fullmatch(r"\d+(\.\d*)?", rate, re.ASCII) or (colon and not burst.isdecimal()):
            self.fail(f"{value!r} is no rate; write 1000, or 1000:50 for 50 at once", param, ctx)
        return float(rate), int(burst) if colon else None


SIZE = Size()
DURATION = Duration()
RATE = Rate()
