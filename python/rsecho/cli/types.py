"""Values on the command line: numbers, sizes, durations, addresses.

Each type says in `toml` what a configuration file may have for it, and in words in `wanted`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

import click

from rsecho._rsecho import split_host_port

if TYPE_CHECKING:
    from typing import Self

_SIZE = re.compile(r"(\d{1,20})([KMG]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MAX_SIZE = (1 << 63) - 1

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
# 114 years: below what the kernel's and Python's clocks can count, above any use.
_MAX_HOURS = 1_000_000

_RATE = re.compile(r"(\d+(?:\.\d*)?)(?::(\d{1,9}))?", re.ASCII)

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
_PORTS = re.compile(r"(.*:)?(\d+)-(\d+)", re.ASCII | re.DOTALL)
# Each port of a range is a listener with a thread of its own.
_MAX_PORTS = 1024


class Size(click.ParamType[int]):
    """Bytes, with K, M or G for 1024, 1024² or 1024³ of them."""

    name = "size"
    toml: ClassVar = (int, str)
    wanted = 'a number of bytes, or a text such as "64K"'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write bytes, or 4K, 2M, 1G", param, ctx)
        size = int(match[1]) * _SIZE_UNITS[match[2].upper()]
        if size > _MAX_SIZE:
            self.fail(f"{value!r} is too large; a size is less than 8589934592G", param, ctx)
        return size


class Duration(click.ParamType[float]):
    """Seconds, or a number with ns, us, ms, s, m or h."""

    name = "duration"
    toml: ClassVar = (int, float, str)
    wanted = 'seconds, or a text such as "200ms"'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            seconds = float(value)  # a default, or what a configuration file has as a number
        elif match := _DURATION.fullmatch(str(value).strip()):
            seconds = float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]
        else:
            self.fail(f"{value!r} is not a duration; write 1.5 (s), 200ms, 50us, 2m", param, ctx)
        if seconds > _MAX_HOURS * 3600:
            self.fail(f"{value!r} is too long; a duration is at most {_MAX_HOURS}h", param, ctx)
        return seconds


class Flag(click.types.BoolParamType):
    """True or false, where a variable or a file sets a flag."""

    toml: ClassVar = (bool,)
    wanted = "true or false"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        found = value if isinstance(value, bool) else self.str_to_bool(str(value))
        if found is None:
            self.fail(f"{value!r} is neither true nor false; write 1 or 0", param, ctx)
        return found


class Whole(click.ParamType[int]):
    """A whole number within limits."""

    name = "n"
    toml: ClassVar = (int,)
    wanted = "a whole number"

    def __init__(self, minimum: int, maximum: int = (1 << 31) - 1) -> None:
        self.minimum, self.maximum = minimum, maximum

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).strip()
        if re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
            number = int(text)
            if self.minimum <= number <= self.maximum:
                return number
        rule = f"a whole number from {self.minimum} to {self.maximum}"
        return self.fail(f"{value!r} is not {rule}", param, ctx)


class Number(click.ParamType[float]):
    """A number within limits, never nan."""

    name = "x"
    toml: ClassVar = (int, float)
    wanted = "a number"

    def __init__(self, minimum: float, maximum: float, *, is_open: bool = False) -> None:
        self.minimum, self.maximum, self.is_open = minimum, maximum, is_open

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if self.minimum <= number <= self.maximum and not (self.is_open and number == self.minimum):
            return number
        lowest = f"more than {self.minimum:g}" if self.is_open else f"{self.minimum:g} or more"
        rule = f"a number, {lowest}, at most {self.maximum:.0f}"
        return self.fail(f"{value!r} is not {rule}", param, ctx)


class Address(tuple[str, int]):
    """Host and port; an empty host is all interfaces."""

    __slots__ = ()

    def __new__(cls, host: str, port: int) -> Self:
        return super().__new__(cls, (host, port))


class TcpAddress(Address):
    """One that was written as tcp://…"""

    __slots__ = ()


class UdpAddress(Address):
    """One that was written as udp://…"""

    __slots__ = ()


def over_tcp(target: Address, is_flagged: bool) -> bool:
    """What the address says, else what the flag says."""
    return isinstance(target, TcpAddress) or (is_flagged and not isinstance(target, UdpAddress))


_SCHEMES = {"udp": UdpAddress, "tcp": TcpAddress}


class HostPort(click.ParamType[Address]):
    """[udp://|tcp://]HOST:PORT: whom to send to."""

    name = "host:port"
    toml: ClassVar = (str,)
    wanted = 'a text such as "localhost:9999"'

    def __init__(self, *schemes: str, default_port: int | None = None) -> None:
        self.schemes = schemes
        self.default_port = default_port

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        text = str(value)
        if self.default_port is not None and _names_no_port(text):
            text = f"{text}:{self.default_port}"
        try:
            scheme, hosts, ports = _parsed(text, "")
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if scheme and scheme not in self.schemes:
            other = " or ".join(f"{each}://" for each in self.schemes)
            self.fail(f"{value!r}: this works over {other} only", param, ctx)
        if len(ports) > 1:
            self.fail(f"{value!r} names {len(ports)} ports; write one", param, ctx)
        if not hosts:
            way_out = f"write HOST:PORT, as in localhost:{ports[0]}"
            self.fail(f"{value!r} names no host to send to; {way_out}", param, ctx)
        return _SCHEMES.get(scheme, Address)(hosts, ports[0])


def _names_no_port(text: str) -> bool:
    """A host alone: a name, an IPv4 address, or an IPv6 address in brackets."""
    host = text.rpartition("://")[2]
    return bool(host) and not host.isdecimal() and (":" not in host or host.endswith("]"))


class Percentiles(click.ParamType[list[float]]):
    """Percentiles, as in 50,90,99.9."""

    name = "list"
    toml: ClassVar = (list, str)
    wanted = 'a text such as "50,99", or a list of numbers'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[float]:
        parts = value if isinstance(value, list) else str(value).split(",")
        try:
            found = [float(each) for each in parts]
        except ValueError:
            found = []
        if not found or not all(0 <= each <= 100 for each in found):
            self.fail(f"{value!r} is not a list of percentiles; write 50,90,99.9", param, ctx)
        return found


class Listen(click.ParamType[tuple[Address, ...]]):
    """[HOST:]PORT[-PORT], also as udp://… or tcp://…: where to listen, one address per port."""

    name = "[host:]port"
    toml: ClassVar = (int, str)
    wanted = 'a port, or a text such as "0.0.0.0:7000"'

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Address, ...]:
        if isinstance(value, tuple):
            return value
        try:
            scheme, host, ports = _parsed(str(value), "localhost")
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if scheme and scheme != self.protocol:
            other = f"write --{scheme}" if scheme in _SCHEMES else f"write {self.protocol}://"
            what = f"listens on {self.protocol}://, not on {scheme}://"
            self.fail(f"{value!r}: this option {what}; {other}", param, ctx)
        return tuple(Address(host, port) for port in ports)


def _parsed(text: str, default_host: str) -> tuple[str, str, range]:
    """Scheme (or ""), host ("": all interfaces, or none) and ports."""
    scheme, rest = "", text.strip()
    if match := _SCHEME.fullmatch(rest):
        # As a URL may be written, and as browsers copy it.
        scheme, rest = match[1].lower(), match[2].removesuffix("/")
    last = ""
    if match := _PORTS.fullmatch(rest):
        rest, last = f"{match[1] or ''}{match[2]}", match[3]
    if rest.startswith((":", "*:")) and not rest.startswith("::"):
        # As elsewhere: no host is all of them (Go, ss), and so is an asterisk (nginx, Apache).
        host, port = "", split_host_port(rest.partition(":")[2], "")[1]
    else:
        host, port = split_host_port(rest, default_host)
    if not last:
        return scheme, host, range(port, port + 1)
    end = split_host_port(last, "")[1]
    if not 0 < port <= end:
        raise ValueError(f"{text!r} is not a range of ports; write the smaller first: 7000-7010")
    if end - port >= _MAX_PORTS:
        raise ValueError(
            f"{text!r} is a range of {end - port + 1} ports, each a listener with a thread; "
            f"at most {_MAX_PORTS} may stand in one"
        )
    return scheme, host, range(port, end + 1)


class KeepAlive(click.ParamType[tuple[float | None, float | None, int | None]]):
    """IDLE[,INTERVAL[,COUNT]]: two durations and a number of probes."""

    name = "idle[,interval[,count]]"
    toml: ClassVar = (int, float, str)
    wanted = 'seconds, or a text such as "30s,5s,3"'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float | None, float | None, int | None]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if (
            not all(_DURATION.fullmatch(part.strip()) for part in parts[:2])
            or (len(parts) > 3)
            or (len(parts) == 3 and not re.fullmatch(r"\s*\d{1,9}\s*", parts[2], re.ASCII))
        ):
            self.fail(f"{value!r}: write IDLE[,INTERVAL[,COUNT]], as in 30s,5s,3", param, ctx)
        times = [Duration().convert(part, param, ctx) for part in parts[:2]]
        count = int(parts[2]) if len(parts) == 3 else None
        # MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT of Linux.
        is_count = count is None or 1 <= count <= 127
        if not (is_count and all(1 <= time <= 32767 for time in times)):
            rule = "IDLE and INTERVAL are 1s to 32767s, COUNT is 1 to 127"
            self.fail(f"{value!r} is more or less than the kernel takes: {rule}", param, ctx)
        return times[0], times[1] if len(times) > 1 else None, count


class CpuList(click.ParamType[list[int]]):
    """Numbers and ranges, as in 0,2-3."""

    name = "list"
    toml: ClassVar = (int, str, list)
    wanted = 'a list of numbers, or a text such as "0,2-3"'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        # A configuration file may have a list of them.
        parts = value if isinstance(value, list) else str(value).split(",")
        cpus: list[int] = []
        for part in map(str, parts):
            match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part, re.ASCII)
            if match is None or not int(match[1]) <= int(match[2] or match[1]) < 1 << 16:
                self.fail(f"{value!r} is not a list of CPUs; write 0,2-3", param, ctx)
            cpus += range(int(match[1]), int(match[2] or match[1]) + 1)
        return cpus


class Rate(click.ParamType[tuple[float, int | None]]):
    """RATE[:BURST]: how many per second on average, and how many at once."""

    name = "rate[:burst]"
    toml: ClassVar = (int, float, str)
    wanted = 'a number per second, or a text such as "1000:50"'

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, int | None]:
        if isinstance(value, tuple):
            return value
        match = _RATE.fullmatch(str(value).strip())
        if match is None:
            why = "is not a rate; write 1000 (per second), or 1000:50 for 50 at once"
            self.fail(f"{value!r} {why}", param, ctx)
        return float(match[1]), int(match[2]) if match[2] else None


SIZE = Size()
DURATION = Duration()
RATE = Rate()
