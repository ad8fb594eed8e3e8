"""`rsecho ping`: round trips to a UDP echo server, and where they fail."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from rsecho.cli import options as shared
from rsecho.cli.failure import RUN_TIME, USAGE, CommandError, failing_with
from rsecho.cli.interrupts import Interrupts
from rsecho.cli.options import option, section
from rsecho.cli.shape import Command
from rsecho.cli.thresholds import Thresholds
from rsecho.cli.types import DURATION, SIZE, HostPort, Percentiles, Whole

if TYPE_CHECKING:
    from rsecho.meter import PingResult, Run, Sample
    from rsecho.sockets import UdpClientOptions

# Whose keywords the options of probes set: those of `rsecho.ping`.
PING = frozenset({"ping"})

# A threshold was crossed.
CROSSED = 4

# How long a first Ctrl-C waits for replies that are on their way.
_LAST_SECONDS = 0.2


@click.command(
    "ping",
    cls=Command,
    examples=[
        ("rsecho ping localhost:9999", "A probe per second, until Ctrl-C."),
        ("rsecho ping 192.0.2.1:7 -c 1000 -i 10ms -q", "A thousand probes, only the summary."),
        ("rsecho ping host:9999 -d 1m -i 1ms --schedule poisson --json", "For a program."),
        ("rsecho ping host:9999 -c 100 --fail-if 'loss>1%,rtt.p99>5ms'", "As a check: status 4."),
    ],
)
@click.argument("target", type=HostPort("udp", default_port=9999), metavar="HOST[:PORT]")
@section(
    "Probes",
    option(
        "-c",
        "--count",
        of=PING,
        type=Whole(1),
        show_default="no limit",
        has_own_variable=True,
        help="Number of probes.",
    ),
    option(
        "-i",
        "--interval",
        of=PING,
        type=DURATION,
        default=1.0,
        show_default="1s",
        has_own_variable=True,
        help="Time between probes, 100us or more.",
    ),
    option(
        "-d",
        "--duration",
        of=PING,
        type=DURATION,
        show_default="no limit",
        has_own_variable=True,
        help="Send probes for this long.",
    ),
    option(
        "-w",
        "--wait-reply",
        of=PING,
        sets="wait",
        type=DURATION,
        default=1.0,
        show_default="1s",
        help="A probe without a reply is lost after this time (Tmax, RFC 6673).",
    ),
    option(
        "-s",
        "--size",
        of=PING,
        type=SIZE,
        default=64,
        show_default=True,
        help="Bytes of each probe, 16 to 65507.",
    ),
    option(
        "--schedule",
        of=PING,
        metavar="periodic|poisson|file:PATH",
        default="periodic",
        show_default=True,
        help="When to send: evenly (RFC 3432), at random (RFC 2330), or at the times of a file: "
        "seconds from the start, one per line.",
    ),
    option(
        "--seed",
        of=PING,
        type=Whole(0),
        help="Of --schedule poisson: the same seed, the same times.",
    ),
    option(
        "-B",
        "--spin",
        of=PING,
        is_flag=True,
        help="Poll instead of sleeping: no wake-ups in the times, for one CPU core.",
    ),
    option(
        "--df",
        of=PING,
        sets="forbid_fragments",
        is_flag=True,
        help="Set DF: probes that are too long for the path are lost.",
    ),
    option(
        "--timestamps",
        of=PING,
        type=click.Choice(["auto", "kernel", "user"]),
        default="auto",
        show_default=True,
        help="Whose clock: the kernel's at the device where it tells (auto), the kernel's or an "
        "error, or this process's.",
    ),
)
@section(
    "Output",
    option("-q", "--quiet", is_flag=True, has_own_variable=True, help="Print the summary only."),
    option(
        "--percentiles",
        type=Percentiles(),
        default="50,90,99,99.9",
        show_default=True,
        help="Percentiles of the summary.",
    ),
    shared.json_option,
    shared.jsonl_option,
    option("--csv", "as_csv", is_flag=True, help="Print a line of CSV per probe."),
    option(
        "--hdr",
        type=click.Path(dir_okay=False, writable=True),
        metavar="FILE",
        help="Write the round-trip times as a log of HdrHistogram, in nanoseconds.",
    ),
    option(
        "--fail-if",
        metavar="LIMITS",
        help="End with status 4 if one of these holds, as in 'loss>1%,rtt.p99>5ms': loss, "
        "duplicates, reordered, late, corrupt (%); rtt.min, avg, max, stddev, pNN, jitter.",
    ),
)
@section("Sockets", shared.family_options, shared.buffer_options, shared.ip_options)
def command(target: tuple[str, int], **given: Any) -> None:
    """Measure round trips to a UDP echo server, of any make.

    Every reply is compared byte by byte. The summary has loss and its runs, late, duplicate and
    reordered replies, round-trip times with percentiles, jitter (RFC 3550) and delay variation
    (RFC 5481).

    Status 1: no reply at all. 4: a limit of --fail-if was crossed. Ctrl-C prints the summary.
    """
    from rsecho import meter

    if given["as_csv"] and (given["as_json"] or given["as_jsonl"]):
        raise click.UsageError("--csv excludes --json and --jsonl: they are three formats")
    options: UdpClientOptions = shared.keywords("client")  # type: ignore[assignment]
    thresholds = Thresholds.parse(given["fail_if"])
    with failing_with(RUN_TIME):
        asked = meter.DEFAULTS | shared.keywords("ping")
        asked["schedule"] = _schedule(given["schedule"])
        asked["family"] = shared.family(given["ipv4"], given["ipv6"])
        run = meter._start(
            *target,
            room=0 if given["quiet"] and not given["as_jsonl"] else meter._ROOM,
            options=options,
            **asked,
        )
    printer = _Printer(given, run.url)
    printer.begin(given)
    with failing_with(RUN_TIME), run, Interrupts() as interrupts:
        with contextlib.suppress(KeyboardInterrupt), interrupts.waiting():
            while not run.is_over:
                printer.samples(run)
        if interrupts.number is not None:
            run.stop()
            deadline = time.monotonic() + _LAST_SECONDS
            while not run.is_over and time.monotonic() < deadline:
                printer.samples(run)
            result = run.result()
        else:
            result = run.finish()
    printer.summary(result, is_interrupted=interrupts.number is not None)
    if given["hdr"]:
        _write_hdr(given["hdr"], result)
    crossed = thresholds.crossed(result)
    for each in crossed:
        click.echo(f"rsecho: {each}", err=True)
    if crossed:
        sys.exit(CROSSED)
    if not result.received:
        sys.exit(RUN_TIME)


def _schedule(text: str) -> Any:
    if not text.startswith("file:"):
        if text not in ("periodic", "poisson"):
            raise click.UsageError(
                f"--schedule {text} does not exist; write periodic, poisson or file:PATH"
            )
        return text
    from pathlib import Path

    path = text.removeprefix("file:")
    try:
        lines = Path(path).read_text(encoding="utf-8").split()
        return [float(each) for each in lines]
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot read --schedule {text}: {error}; write seconds, one per line", USAGE
        ) from None


class _Printer:
    """Samples as they come, and the summary, in the form that was asked for."""

    def __init__(self, given: dict[str, Any], url: str) -> None:
        self._url = url
        self._percentiles: list[float] = given["percentiles"]
        self._is_quiet = given["quiet"]
        self._as_json, self._as_jsonl = given["as_json"], given["as_jsonl"]
        self._csv = csv.writer(sys.stdout, lineterminator="\n") if given["as_csv"] else None

    def begin(self, given: dict[str, Any]) -> None:
        if self._csv is not None:
            self._csv.writerow(["kind", "sequence", "sent_ns", "rtt_ns", "source", "length_bytes"])
        elif not (self._as_json or self._as_jsonl):
            click.echo(f"PING {self._url} with {given['size']} bytes")

    def samples(self, run: Run) -> None:
        for sample in run.samples(0.1):
            self._sample(sample)
        sys.stdout.flush()

    def _sample(self, sample: Sample) -> None:
        if self._as_jsonl:
            from dataclasses import asdict

            from rsecho.cli.output import print_json

            found = {name: value for name, value in asdict(sample).items() if value is not None}
            print_json(found, schema="ping.sample/1")
        elif self._csv is not None:
            parts = (sample.sent_ns, sample.rtt_ns, sample.source, sample.length_bytes)
            self._csv.writerow([sample.kind, sample.sequence, *parts])
        elif not (self._is_quiet or self._as_json):
            click.echo(_line(self._url, sample))

    def summary(self, result: PingResult, *, is_interrupted: bool) -> None:
        document = result.to_dict(self._percentiles) | {"is_interrupted": is_interrupted}
        if self._as_json or self._as_jsonl:
            from rsecho.cli.output import print_json

            print_json(document, schema="ping/1", indent=2 if self._as_json else None)
        elif self._csv is None:
            for line in summary(result, self._percentiles):
                click.echo(line)


def _line(url: str, sample: Sample) -> str:
    number = f"seq={sample.sequence}"
    if sample.rtt_ns is not None:
        clock = "" if sample.source == "kernel" else " (user clock)"
        return (
            f"{sample.length_bytes} bytes from {url}: {number} rtt={_ms(sample.rtt_ns)} ms{clock}"
        )
    words = {
        "lost": "lost: no reply in time",
        "late": "late: its probe counts as lost",
        "duplicate": "another reply",
        "corrupt": "a reply with other bytes than were sent",
    }
    return f"{number} {words[sample.kind]}"


def summary(result: PingResult, percentiles: list[float]) -> list[str]:
    """What people read at the end."""
    loss, rtt = result.loss, result.rtt
    lines = ["", f"--- {result.target} ---"]
    counted = f"{result.sent} sent, {result.received} received, {loss.percent:.4g}% loss"
    if result.in_flight:
        counted += f", {result.in_flight} on their way at the end"
    lines.append(f"{counted}, {result.duration_ns / 1e9:.1f} s")
    if loss.lost:
        longest = f"the longest of {loss.longest_run}" if loss.longest_run > 1 else "all of 1"
        lines.append(f"losses in {loss.runs} {'run' if loss.runs == 1 else 'runs'}, {longest}")
    others = {
        "late": result.late,
        "duplicate": result.duplicates,
        "reordered": result.reordering.reordered,
        "corrupt": result.corrupt,
        "foreign": result.foreign,
    }
    if shown := ", ".join(f"{count} {name}" for name, count in others.items() if count):
        lines.append(shown)
    if result.network_errors:
        last = "" if result.last_errno is None else f", the last: {os.strerror(result.last_errno)}"
        lines.append(f"{result.network_errors} errors from the network{last}")
    if not rtt.count:
        return lines
    basic = (rtt.min_ns, rtt.mean_ns, rtt.max_ns, rtt.stddev_ns)
    lines.append(f"rtt min/avg/max/stddev = {'/'.join(map(_ms, basic))} ms")
    shown = "  ".join(f"p{each:g} {_ms(rtt.percentile_ns(each))}" for each in percentiles)
    lines.append(f"rtt {shown} ms")
    if result.jitter_mean_ns is not None:
        least = _ms(rtt.min_ns)
        lines.append(
            f"jitter {_ms(result.jitter_mean_ns)} ms mean (RFC 3550); p99 is "
            f"{_ms(result.pdv_ns(99))} ms above the minimum of {least}"
        )
    lines.append(_clock(result))
    return lines


def _clock(result: PingResult) -> str:
    if result.kernel_rtts == 0:
        return "clock: this process's; its wake-ups are part of the times"
    of = "" if result.kernel_rtts == result.rtt.count else f" ({result.kernel_rtts} of the replies)"
    overhead = _ms(result.host_overhead.p50_ns)
    return f"clock: the kernel's{of}; this process's would add {overhead} ms (median)"


def _ms(nanoseconds: float | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.3f}"


def _write_hdr(path: str, result: PingResult) -> None:
    import base64
    from pathlib import Path

    seconds = result.duration_ns / 1e9
    encoded = base64.b64encode(result.rtt.encoded()).decode()
    greatest = (result.rtt.max_ns or 0) / 1e6
    lines = [
        "#[Histogram log format version 1.3]",
        "#[round-trip times in nanoseconds, by rsecho ping]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        f"0.000,{seconds:.3f},{greatest:.3f},{encoded}",
    ]
    with failing_with(RUN_TIME):
        Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")
