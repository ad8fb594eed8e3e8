"""Meters: round-trip times, losses and delay variation of an echo server over UDP.

Each figure follows the RFC that its documentation names. Times are integer nanoseconds.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rsecho import _arguments, _rsecho, sockets
from rsecho import _lifecycle as _lifecycle
from rsecho._explained import explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from typing import Self, TypeAlias, Unpack

    from rsecho.sockets import UdpClientOptions

    Schedule: TypeAlias = Literal["periodic", "poisson"] | Sequence[float]

__all__ = [
    "Distribution",
    "Loss",
    "PingResult",
    "Reordering",
    "Sample",
    "ping",
    "ping_async",
    "ping_stream",
]

# Samples that wait to be taken; more are counted and left out.
_ROOM = 65_536

# Of one take.
_BATCH = 1024

# Of a run that would have no end otherwise.
DEFAULT_COUNT = 10

# What a run is unless its caller says otherwise; as in the signature of `ping`.
DEFAULTS: dict[str, Any] = {
    "count": None,
    "interval": 1.0,
    "duration": None,
    "wait": 1.0,
    "size": 64,
    "schedule": "periodic",
    "seed": None,
    "timestamps": "auto",
    "spin": False,
    "forbid_fragments": False,
    "family": 0,
}

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Distribution:
    """How times are distributed: an HDR histogram of three digits, from 1 ns to an hour, with the
    exact minimum, maximum, mean and standard deviation. None of nothing."""

    __slots__ = ("_native",)

    def __init__(self, native: _rsecho.Distribution) -> None:
        self._native = native

    @property
    def count(self) -> int:
        """Number of values."""
        return self._native.count

    @property
    def min_ns(self) -> int | None:
        """The smallest value."""
        return self._native.min_ns

    @property
    def max_ns(self) -> int | None:
        """The largest value."""
        return self._native.max_ns

    @property
    def mean_ns(self) -> float | None:
        """The arithmetic mean."""
        return self._native.mean_ns

    @property
    def stddev_ns(self) -> float | None:
        """The standard deviation of all values, as ping(8) prints it."""
        return self._native.stddev_ns

    @property
    def p50_ns(self) -> int | None:
        """The median."""
        return self.percentile_ns(50)

    @property
    def p90_ns(self) -> int | None:
        """The 90th percentile."""
        return self.percentile_ns(90)

    @property
    def p99_ns(self) -> int | None:
        """The 99th percentile."""
        return self.percentile_ns(99)

    @property
    def p99_9_ns(self) -> int | None:
        """The 99.9th percentile."""
        return self.percentile_ns(99.9)

    def percentile_ns(self, percent: float) -> int | None:
        """The smallest value that `percent` of all values do not exceed (RFC 2330 §11.3), to three
        digits.

        Args:
            percent: From 0 to 100.

        Raises:
            ValueError: it is not.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"cannot find percentile {percent}: it is from 0 to 100")
        return self._native.percentile_ns(percent)

    def merged(self, other: Distribution) -> Distribution:
        """Both together, exactly: counts are added, percentiles are never averaged."""
        return Distribution(self._native.merged(other._native))

    def encoded(self) -> bytes:
        """The histogram in HdrHistogram's V2 format, compressed, as its log files have it in
        base64."""
        return self._native.encode()

    def to_dict(self, percentiles: Sequence[float] = _PERCENTILES) -> dict[str, Any]:
        """For JSON: `count`, `min_ns`, `mean_ns`, `max_ns`, `stddev_ns`, and each percentile."""
        found: dict[str, Any] = {
            "count": self.count,
            "min_ns": self.min_ns,
            "mean_ns": _whole(self.mean_ns),
            "max_ns": self.max_ns,
            "stddev_ns": _whole(self.stddev_ns),
        }
        return found | {percentile_key(each): self.percentile_ns(each) for each in percentiles}

    def __repr__(self) -> str:
        if not self.count:
            return "Distribution(count=0)"
        return (
            f"Distribution(count={self.count}, min_ns={self.min_ns}, p50_ns={self.p50_ns}, "
            f"p99_ns={self.p99_ns}, max_ns={self.max_ns})"
        )


def percentile_key(percent: float) -> str:
    """As in `p99_9_ns`."""
    return f"p{percent:g}_ns".replace(".", "_")


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Probes without a reply in time (RFC 6673), and how they lie together (RFC 3357)."""

    lost: int
    """Probes that stayed without a reply for `wait`. A later reply counts as `late`; its probe
    stays lost."""
    percent: float
    """Of the probes whose fate is known."""
    runs: int
    """How often one or more probes in a row were lost."""
    longest_run: int
    """Probes in the longest of these runs."""
    run_lengths: tuple[int, ...]
    """How many runs had 1, 2, 3 … lost probes; the last number: that many or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reordering:
    """Replies that others overtook (RFC 4737). A reordered reply is not a lost one."""

    reordered: int
    """Replies that came after one to a later probe."""
    percent: float
    """Of all first replies."""
    max_extent: int
    """The largest number of arrivals between a reordered reply and the first that overtook it."""
    mean_extent: float | None
    """Their mean; None where none was reordered."""
    three_reordered: int
    """Replies that at least three overtook, one directly after the other (n-reordering, n = 3)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of one probe."""

    kind: Literal["reply", "lost", "late", "duplicate", "corrupt"]
    """`reply`: the first reply, in time. `lost`: none came within `wait`. `late`: one came after
    that. `duplicate`: another one. `corrupt`: an echo with other bytes than were sent."""
    sequence: int
    """The probe's number, from 0 on."""
    sent_ns: int | None = None
    """When it was sent, from the start of the run (`reply` and `lost`)."""
    rtt_ns: int | None = None
    """Its round-trip time (`reply`)."""
    source: Literal["kernel", "user"] | None = None
    """Whose clock: the kernel's stamps at the device, or this process's (`reply`)."""
    length_bytes: int | None = None
    """The length of the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """What a run has measured. `sent` is `received`, `loss.lost` and `in_flight` together."""

    target: str
    """As in `udp://192.0.2.1:9999`."""
    sent: int
    """Probes that were sent."""
    received: int
    """Probes with a reply in time. Duplicates and late replies never raise it."""
    in_flight: int
    """Probes whose fate was not known when the run was stopped."""
    late: int
    """Replies that came after their probe was given up."""
    duplicates: int
    """Further replies to probes that had one (RFC 5560)."""
    corrupt: int
    """Echoes with other bytes than their probe."""
    foreign: int
    """Datagrams other than echoes of the probes of this run; forged ones are among them."""
    network_errors: int
    """Errors that the network reported (ICMP), or the socket when it sent."""
    last_errno: int | None
    """The `errno` of the last of these."""
    loss: Loss
    """Round-trip loss."""
    rtt: Distribution
    """Round-trip times (RFC 2681): from send to receive, T4 - T1, the server's time included."""
    kernel_rtts: int
    """How many of them are by the kernel's stamps at the device; the others by this process's
    clock."""
    host_overhead: Distribution
    """How much longer the round trips with kernel stamps are by this process's clock."""
    slip: Distribution
    """How long after their time probes were sent."""
    jitter_ns: float | None
    """RFC 3550's estimate after the last reply."""
    jitter_mean_ns: float | None
    """The mean of the estimates after each reply."""
    jitter_max_ns: float | None
    """The largest of them."""
    ipdv: Distribution
    """|IPDV| (RFC 3393): the difference of the round-trip times of neighbours, without its sign."""
    ipdv_min_ns: int | None
    """The smallest IPDV, with its sign."""
    ipdv_max_ns: int | None
    """The largest."""
    reordering: Reordering
    """Replies that others overtook."""
    duration_ns: int
    """From the first probe to the end."""
    left_out_samples: int
    """Samples that were not taken in time. No figure here depends on them."""

    def pdv_ns(self, percent: float) -> int | None:
        """Delay variation by RFC 5481 §4.2: the percentile of the round-trip times minus their
        minimum."""
        value, least = self.rtt.percentile_ns(percent), self.rtt.min_ns
        return None if value is None or least is None else value - least

    def to_dict(self, percentiles: Sequence[float] = _PERCENTILES) -> dict[str, Any]:
        """For JSON."""
        loss, reordering = self.loss, self.reordering
        return {
            "target": self.target,
            "duration_ns": self.duration_ns,
            "sent": self.sent,
            "received": self.received,
            "in_flight": self.in_flight,
            "late": self.late,
            "duplicates": self.duplicates,
            "corrupt": self.corrupt,
            "foreign": self.foreign,
            "network_errors": self.network_errors,
            "last_errno": self.last_errno,
            "loss": {
                "lost": loss.lost,
                "percent": loss.percent,
                "runs": loss.runs,
                "longest_run": loss.longest_run,
                "run_lengths": list(loss.run_lengths),
            },
            "rtt": self.rtt.to_dict(percentiles),
            "kernel_rtts": self.kernel_rtts,
            "pdv": {percentile_key(each): self.pdv_ns(each) for each in percentiles},
            "jitter_rfc3550": {
                "last_ns": _whole(self.jitter_ns),
                "mean_ns": _whole(self.jitter_mean_ns),
                "max_ns": _whole(self.jitter_max_ns),
            },
            "ipdv": {
                "min_ns": self.ipdv_min_ns,
                "max_ns": self.ipdv_max_ns,
                "absolute": self.ipdv.to_dict(percentiles),
            },
            "reordering": {
                "reordered": reordering.reordered,
                "percent": reordering.percent,
                "max_extent": reordering.max_extent,
                "mean_extent": reordering.mean_extent,
                "three_reordered": reordering.three_reordered,
            },
            "host_overhead": self.host_overhead.to_dict(percentiles),
            "slip": self.slip.to_dict(percentiles),
        }


class Run:
    """A run that goes on, on a thread of its own. Used by `ping`, `ping_stream` and the command."""

    def __init__(
        self,
        host: str,
        port: int,
        given: dict[str, Any],
        family: int,
        options: UdpClientOptions,
    ) -> None:
        native_options = sockets.options(options, sockets.UdpClientOptions, ping)
        self._native = _rsecho.PingClient(host, port, native_options, given, family=family)
        self.url = self._native.name
        self.has_kernel_times = self._native.has_kernel_times
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rsecho-ping", daemon=True)

    def _run(self) -> None:
        try:
            self._native.run()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Ends its wait as well.
        self._native.close()
        self._thread.join()

    def samples(self, timeout: float) -> Iterator[Sample]:
        """What came meanwhile; waits for it, for `timeout` seconds at most."""
        for each in self._native.take(_BATCH, timeout):
            yield Sample(*each[:6])

    @property
    def is_over(self) -> bool:
        """The fate of each probe is known, and all samples are taken."""
        return not self._thread.is_alive() and self._native.is_over

    def stop(self) -> None:
        """Sends no more probes."""
        self._native.stop()

    def finish(self) -> PingResult:
        """The result; raises what ended the run."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.result()

    def result(self) -> PingResult:
        """What was measured so far."""
        found = self._native.report()
        known = found["received"] + found["lost"]
        loss = Loss(
            lost=found.pop("lost"),
            percent=100 * (known - found["received"]) / known if known else 0.0,
            runs=found.pop("loss_runs"),
            longest_run=found.pop("longest_loss_run"),
            run_lengths=tuple(found.pop("loss_run_lengths")),
        )
        reordered = found.pop("reordered")
        reordering = Reordering(
            reordered=reordered,
            percent=100 * reordered / found["received"] if found["received"] else 0.0,
            max_extent=found.pop("greatest_extent"),
            mean_extent=found.pop("mean_extent"),
            three_reordered=found.pop("three_reordered"),
        )
        found |= {name: Distribution(found[name]) for name in _DISTRIBUTIONS}
        found["duration_ns"] = found.pop("elapsed_ns")
        return PingResult(target=self.url, loss=loss, reordering=reordering, **found)


_DISTRIBUTIONS = ("rtt", "host_overhead", "slip", "ipdv")


def _start(
    host: str,
    port: int,
    *,
    room: int,
    count: int | None,
    interval: float,
    duration: float | None,
    wait: float,
    size: int,
    schedule: Schedule,
    seed: int | None,
    timestamps: Literal["auto", "kernel", "user"],
    spin: bool,
    forbid_fragments: bool,
    family: Literal[0, 4, 6],
    options: UdpClientOptions,
) -> Run:
    from rsecho._errors import StateError

    for name, value, kind in (
        ("host", host, "str"),
        ("port", port, "int"),
        ("count", count, "int | None"),
        ("interval", interval, "float"),
        ("duration", duration, "float | None"),
        ("wait", wait, "float"),
        ("size", size, "int"),
        ("seed", seed, "int | None"),
        ("timestamps", timestamps, "Literal['auto', 'kernel', 'user']"),
        ("spin", spin, "bool"),
        ("forbid_fragments", forbid_fragments, "bool"),
        ("family", family, "Literal[0, 4, 6]"),
    ):
        _arguments.check(name, value, kind)
    given: dict[str, Any] = {
        "room": room,
        "interval_ns": _ns("interval", interval, least_ns=100_000),
        "wait_ns": _ns("wait", wait, least_ns=1_000),
        "length_bytes": size,
        "kernel_times": timestamps != "user",
        "spin": spin,
        "forbid_fragments": forbid_fragments,
    }
    if count is not None:
        if count < 1:
            raise ValueError(f"cannot set count={count}: it is 1 or more; None is without a limit")
        given["count"] = count
    if duration is not None:
        given["duration_ns"] = _ns("duration", duration, least_ns=1_000)
    if schedule == "poisson":
        given |= {"poisson": True, "seed": secrets.randbits(63) if seed is None else seed}
    elif seed is not None:
        raise ValueError(f'cannot set seed={seed}: only schedule="poisson" draws at random')
    elif schedule != "periodic":
        if isinstance(schedule, str):
            raise ValueError(
                f"cannot set schedule={schedule!r}: it is 'periodic', 'poisson', or a sequence of "
                "seconds"
            )
        given["times_ns"] = _times(schedule)
    run = Run(host, port, given, family, options)
    if timestamps == "kernel" and not run.has_kernel_times:
        raise StateError(
            f"cannot use the kernel's timestamps for {run.url}: this system does not report them; "
            'use timestamps="user"'
        )
    return run


def _times(schedule: Sequence[float]) -> list[int]:
    times = [_ns("schedule", each, least_ns=0) for each in schedule]
    if not times or sorted(times) != times:
        raise ValueError("cannot set schedule: it is one or more times in ascending order")
    return times


def _ns(name: str, seconds: float, *, least_ns: int) -> int:
    _arguments.check(name, seconds, "float")
    # Nanoseconds of 64 bits: 292 years. Also nan is refused.
    if not (0 <= seconds < 9e9 and round(seconds * 1e9) >= least_ns):
        wanted = f"{least_ns / 1e9:g} or more" if least_ns else "0 or more"
        raise ValueError(f"cannot set {name}={seconds}: it takes seconds, {wanted}")
    return round(seconds * 1e9)


@explained(sockets.UdpClientOptions)
def ping(
    host: str,
    port: int = 9999,
    *,
    count: int | None = None,
    interval: float = 1.0,
    duration: float | None = None,
    wait: float = 1.0,
    size: int = 64,
    schedule: Schedule = "periodic",
    seed: int | None = None,
    timestamps: Literal["auto", "kernel", "user"] = "auto",
    spin: bool = False,
    forbid_fragments: bool = False,
    family: Literal[0, 4, 6] = 0,
    on_sample: Callable[[Sample], object] | None = None,
    **options: Unpack[UdpClientOptions],
) -> PingResult:
    """Measures round trips to a UDP echo server, of any make.

    Each probe carries its number and a mark that only this run knows, and every byte of its echo is
    compared. Ctrl-C ends the run and is raised.

    Args:
        host: Name or address of the server; IPv4 first.
        port: Its UDP port.
        count: Number of probes. Default: 10, or no limit with `duration`.
        interval: Seconds between probes, 100 us or more. For "poisson": their mean.
        duration: Seconds in which probes are sent. Default: no limit.
        wait: Seconds after which a probe without a reply is lost (Tmax of RFC 6673).
        size: Bytes of each probe, 16 to 65,507.
        schedule: "periodic" (RFC 3432), "poisson" (RFC 2330 §11.1.1), or the times in seconds from
            the start, ascending.
        seed: Of "poisson": equal seeds give equal times. Default: a random one.
        timestamps: "auto": the kernel's times at the device, where it tells them. "kernel": the
            same, or an error. "user": this process's clock.
        spin: Poll instead of sleeping, for one CPU core: wake-ups do not count.
        forbid_fragments: Set DF; longer probes than the path takes are lost.
        family: 4 or 6 for that family only; 0: either.
        on_sample: Called with each `Sample` as it comes, on the calling thread.
        **options: as for `UdpClient`.

    Raises:
        OSError: a name that does not resolve, a refused option, no route.
        TypeError, ValueError: an argument that cannot be used.
    """
    run = _start(
        host,
        port,
        room=_ROOM if on_sample else 0,
        count=DEFAULT_COUNT if count is None and duration is None else count,
        interval=interval,
        duration=duration,
        wait=wait,
        size=size,
        schedule=schedule,
        seed=seed,
        timestamps=timestamps,
        spin=spin,
        forbid_fragments=forbid_fragments,
        family=family,
        options=options,
    )
    with run:
        while not run.is_over:
            for sample in run.samples(0.1):
                if on_sample:
                    on_sample(sample)
        return run.finish()


async def ping_async(host: str, port: int = 9999, **given: Any) -> PingResult:
    """`ping` for asyncio. Cancelling ends the run."""
    result: PingResult | None = None
    if given.get("count") is None and given.get("duration") is None:
        given["count"] = DEFAULT_COUNT
    async for each in _stream(host, port, given):
        if isinstance(each, PingResult):
            result = each
    assert result is not None
    return result


async def ping_stream(host: str, port: int = 9999, **given: Any) -> AsyncIterator[Sample]:
    """The samples of a `ping` as they come, for asyncio; takes the same arguments, and goes on
    without end where neither `count` nor `duration` is given.

    Leaving the loop ends the run.
    """
    async for each in _stream(host, port, given):
        if isinstance(each, Sample):
            yield each


async def _stream(
    host: str, port: int, given: dict[str, Any]
) -> AsyncIterator[Sample | PingResult]:
    import asyncio

    own = dict(DEFAULTS)
    for name in list(given):
        if name in own:
            own[name] = given.pop(name)
    run = _start(host, port, room=_ROOM, options=given, **own)  # type: ignore[arg-type]
    with run:
        while not run.is_over:
            for sample in await asyncio.to_thread(list, run.samples(0.05)):
                yield sample
        yield run.finish()
