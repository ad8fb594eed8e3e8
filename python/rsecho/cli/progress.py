"""How far a transfer is: a bar on a terminal, else a line now and then, on standard error."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import click

from rsecho._lines import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

# The rate is that of the last so many seconds.
_RATE_SECONDS = 5.0

# Where there is no terminal: a line after so many seconds or percent, but not more often than
# the least.
_LINE_SECONDS = 5.0
_LINE_PERCENT = 10
_LEAST_SECONDS = 1.0

# Of a line with a bar: the most of a name, the bar, and what the figures take.
_NAME_CHARACTERS = 30
_BAR_CHARACTERS = 24
_NARROW_BAR_CHARACTERS = 10
_FIGURES_CHARACTERS = 60

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """As in `812 bytes`, `49.0 MiB`."""
    unit = 0
    while count >= 1024 and unit + 1 < len(_UNITS):
        count /= 1024
        unit += 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """As in `3 s`, `2 min 5 s`, `1 h 3 min`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Meter:
    """What is done, how fast, and what is left. The time is handed in."""

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int, total: int | None, now: float) -> None:
        """Records what is done by now. The rate leaves out what was there at the first call."""
        self.done, self.total = done, total
        if self._seen and done < self._seen[-1][1]:
            self.skip_to(done)  # begun again
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RATE_SECONDS:
            self._seen.popleft()

    def skip_to(self, done: int) -> None:
        """So much is done, but what is new here was there before: no part of the rate."""
        if self._seen:
            skipped = done - self._seen[-1][1]
            self._seen = deque((when, before + skipped) for when, before in self._seen)

    @property
    def bytes_per_second(self) -> float | None:
        """None: not known yet."""
        if not self._seen:
            return None
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        if done == before and last - first < _LEAST_SECONDS:
            return None  # nothing has come yet, which is no standstill
        return (done - before) / (last - first) if last > first else None

    @property
    def percent(self) -> int | None:
        """None: nobody knows of how much."""
        if self.total is None:
            return None
        return 100 * self.done // self.total if self.total else 100

    @property
    def seconds_left(self) -> float | None:
        """None: not known."""
        rate = self.bytes_per_second
        return (self.total - self.done) / rate if self.total is not None and rate else None

    def __str__(self) -> str:
        words = [size(self.done)]
        if self.total is not None:
            words = [f"{self.percent} %", f"{size(self.done)} of {size(self.total)}"]
        if (rate := self.bytes_per_second) is not None:
            words.append(f"{size(rate)}/s")
        if (left := self.seconds_left) is not None:
            words.append(f"{duration(left)} left")
        return ", ".join(words)


class Shown(Protocol):
    """Where it is shown."""

    def show(self, name: str, meter: Meter, now: float) -> None:
        """So far it is."""

    def hide(self) -> None:
        """Something else is to be written."""


class Lines:
    """A line now and then."""

    def __init__(self, start: float) -> None:
        self._last = start
        self._percent = 0

    def show(self, name: str, meter: Meter, now: float) -> None:
        """A line, if it is time for one."""
        waited = now - self._last
        percent = meter.percent
        is_further = percent is not None and percent >= self._percent + _LINE_PERCENT
        if waited < _LINE_SECONDS and not (waited >= _LEAST_SECONDS and is_further):
            return
        self._last, self._percent = now, percent or 0
        told = f"{printable(name)}: {meter}" if name else str(meter)
        click.echo(f"rsecho: {told}", err=True)

    def hide(self) -> None:
        """Lines stay."""


class Bar:
    """A bar, which is gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True, highlight=False)
        room = console.width - _FIGURES_CHARACTERS
        is_narrow = room < _NAME_CHARACTERS + _BAR_CHARACTERS
        bar = _NARROW_BAR_CHARACTERS if is_narrow else _BAR_CHARACTERS
        self._name_characters = min(max(room - bar, 8), _NAME_CHARACTERS)
        # Nobody's output but this goes through it: that of the command goes elsewhere.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[state]}", markup=False),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, state="")

    def show(self, name: str, meter: Meter, now: float) -> None:
        """Draws it."""
        name = printable(name)
        if len(name) > self._name_characters:
            name = "…" + name[1 - self._name_characters :]
        self._progress.update(
            self._task,
            description=name,
            completed=meter.done,
            total=meter.total,
            state=str(meter),
        )
        if not self._progress.live.is_started:
            self._progress.start()
        self._progress.refresh()

    def hide(self) -> None:
        """Erases it."""
        self._progress.stop()


class Nothing:
    """Nowhere."""

    def show(self, name: str, meter: Meter, now: float) -> None:
        """Nothing."""

    def hide(self) -> None:
        """Nothing."""


class Display:
    """The progress of one transfer after the other, as one whole.

    Args:
        total: Bytes of them all; None: not known.
        is_quiet: Shows nothing.
    """

    def __init__(
        self,
        total: int | None,
        is_quiet: bool,
        *,
        shown: Shown | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        if shown is None:
            shown = Nothing() if is_quiet else Bar() if _is_terminal() else Lines(clock())
        self._shown = shown
        self._meter = Meter()
        self._total = total
        self._before = 0
        self._name = ""
        self._is_new = True

    def begin(self, name: str) -> None:
        """The next one, of this name."""
        self._name = name
        self._is_new = True

    def __call__(self, done: int, total: int | None) -> None:
        """As the transfer tells it."""
        now = self._clock()
        if self._is_new:
            self._is_new = False
            self._meter.skip_to(self._before + done)
        self._meter.update(self._before + done, self._total or total, now)
        self._shown.show(self._name, self._meter, now)

    def end(self, length: int) -> None:
        """One of `length` bytes has ended, and a line is to be written."""
        self._before += length
        self._shown.hide()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._shown.hide()


def _is_terminal() -> bool:
    from os import environ

    return sys.stderr.isatty() and environ.get("TERM") != "dumb"
