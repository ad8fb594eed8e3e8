"""How far a transfer is, as it is told on a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
from typing import TYPE_CHECKING

import pytest
from rsecho.cli.progress import Display, Lines, Meter, duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (5 * MIB, "5.0 MiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    assert meter.bytes_per_second is None
    meter.update(0, 100 * MIB, 0.0)
    assert str(meter) == "0 %, 0 bytes of 100.0 MiB"
    for second in range(1, 11):
        meter.update(second * MIB, 100 * MIB, float(second))
    for second in range(11, 17):
        meter.update((10 + 2 * (second - 10)) * MIB, 100 * MIB, float(second))
    assert str(meter) == "22 %, 22.0 MiB of 100.0 MiB, 2.0 MiB/s, 39 s left"


def test_what_was_there_before_is_no_part_of_the_rate() -> None:
    meter = Meter()
    meter.update(50 * MIB, 100 * MIB, 0.0)
    meter.update(51 * MIB, 100 * MIB, 1.0)
    assert meter.bytes_per_second == MIB
    meter.skip_to(90 * MIB)
    meter.update(90 * MIB, 100 * MIB, 1.0)
    meter.update(91 * MIB, 100 * MIB, 2.0)
    assert meter.bytes_per_second == MIB


def test_nothing_yet_is_no_standstill() -> None:
    meter = Meter()
    meter.update(10 * MIB, 100 * MIB, 0.0)
    meter.update(10 * MIB, 100 * MIB, 0.5)
    assert str(meter) == "10 %, 10.0 MiB of 100.0 MiB"
    meter.update(10 * MIB, 100 * MIB, 2.0)
    assert str(meter) == "10 %, 10.0 MiB of 100.0 MiB, 0 bytes/s"


def test_of_a_pipe_nobody_knows_how_much_is_left() -> None:
    meter = Meter()
    meter.update(0, None, 0.0)
    meter.update(MIB, None, 2.0)
    assert str(meter) == "1.0 MiB, 512.0 KiB/s"
    meter.update(0, 0, 3.0)
    assert meter.percent == 100


@pytest.fixture
def clock() -> Iterator[Callable[[], float]]:
    times = iter(number / 10 for number in range(10_000))
    yield lambda: next(times)


def test_lines_come_now_and_then(
    clock: Callable[[], float], capsys: pytest.CaptureFixture[str]
) -> None:
    # A call each 0.1 s: ten percent take 2 s, and in the end a hundredth of that.
    with Display(None, False, shown=Lines(0.0), clock=clock) as display:
        display.begin("a\nb")
        for done in range(0, 61, 1):
            display(done * MIB // 2, 100 * MIB)
        for done in range(300, 1000, 10):
            display(done * MIB // 10, 100 * MIB)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rsecho: a\\nb: 10 %, 10.0 MiB of 100.0 MiB, 5.0 MiB/s, 18 s left"
    percents = [int(line.split()[2]) for line in lines]
    assert percents == [10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_several_files_are_one_whole(
    clock: Callable[[], float], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    class Shown:
        def show(self, name: str, meter: Meter, now: float) -> None:
            seen.append(f"{name} {meter.done}/{meter.total}")

        def hide(self) -> None:
            seen.append("hidden")

    with Display(30, False, shown=Shown(), clock=clock) as display:
        for name, length in (("a", 10), ("b", 20)):
            display.begin(name)
            display(length, length)
            display.end(length)
    assert seen == ["a 10/30", "hidden", "b 30/30", "hidden", "hidden"]


def test_a_quiet_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(None, True)
    for done in range(100):
        display(done, 100)
    assert capsys.readouterr().err == ""


def read_to_the_end(leader: int) -> str:
    """What was written to a terminal that nobody has open any more."""
    drawn = b""
    with contextlib.suppress(OSError):  # EIO: the end
        while some := os.read(leader, 1 << 16):
            drawn += some
    os.close(leader)
    return drawn.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_on_a_terminal_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    leader, follower = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Display(None, False) as display:
            display.begin("[red]" + 40 * "x" + ".raw")
            display(MIB, 4 * MIB)
            display(2 * MIB, 4 * MIB)
            # As long as the figures get.
            display(1023 * MIB, 1100 * MIB)
        monkeypatch.undo()
    drawn = read_to_the_end(leader)
    assert "…" + (5 if columns == 80 else 25) * "x" + ".raw" in drawn
    assert "50 %, 2.0 MiB of 4.0 MiB" in drawn
    assert "93 %, 1023.0 MiB of 1.1 GiB, " in drawn and "0 s left" in drawn
    assert "━" in drawn
    # The cursor goes up, and the line is erased.
    assert drawn.rstrip().endswith("\x1b[2K")
