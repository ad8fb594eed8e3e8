"""Figures of a comparison: medians and ranges, as text and as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SERIES_SEPARATOR = "/"

# The part of the datagrams that may be lost before it is worth a warning.
LOSS = 0.001

# Cores that others used on the two CPUs while a cell was measured: more disturb it.
FOREIGN_CORES = 0.15

# (figure, heading), in the order in which they are of interest.
FIGURES = [
    ("cpu_ns", "Server CPU time per echo, ns"),
    ("echoes_per_s", "Echoes per second"),
    ("p50_us", "Median latency, µs"),
    ("p99_us", "99th percentile of latency, µs"),
]
# Ratios of these say how many times better the first server is.
BETTER_WHEN_LESS = {"cpu_ns": "CPU time per echo", "p50_us": "median latency"}


@dataclass(frozen=True)
class Goal:
    """A server takes so many times less CPU time than a peer, by the median of ratios."""

    server: str
    peer: str
    workload: str
    at_least: float


Cell = dict[str, Any]
Table = list[list[str]]


def number(value: float) -> str:
    """Three significant digits or more."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    if not values:
        return "-"
    if len(values) == 1:
        return number(values[0])
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(middle)} ({number(low)}-{number(high)})"


@dataclass(frozen=True)
class Results:
    """All cells of a comparison."""

    about: dict[str, str]
    servers: list[str]
    workloads: list[str]
    cells: list[Cell]
    goals: Sequence[Goal] = ()
    has_picture: bool = False

    def of(self, server: str, workload: str) -> list[Cell]:
        """The cells of one server under one workload."""
        return [c for c in self.cells if (c["server"], c["workload"]) == (server, workload)]

    def values(self, server: str, workload: str, figure: str) -> list[float]:
        """One figure, of each repetition that has it."""
        found = (cell[figure] for cell in self.of(server, workload))
        return [value for value in found if value]

    def ratios(self, server: str, peer: str, workload: str, figure: str) -> list[float]:
        """How many times more the peer has, repetition by repetition."""
        theirs = {c["repetition"]: c[figure] for c in self.of(peer, workload)}
        pairs = [(theirs.get(c["repetition"]), c[figure]) for c in self.of(server, workload)]
        return [peers / own for peers, own in pairs if peers and own]

    # ---- what is wrong ----

    def wrong_echoes(self) -> int:
        """Echoes that should not have been."""
        return sum(cell["bad"] + cell["twice"] for cell in self.cells)

    def troubles(self) -> list[str]:
        """What a reader of the figures has to know."""
        lines = []
        for server in self.servers:
            for workload in self.workloads:
                cells = self.of(server, workload)
                for name, what in (
                    ("bad", "wrong echoes"),
                    ("twice", "echoes twice"),
                    ("failed", "connections failed"),
                ):
                    if count := sum(cell[name] for cell in cells):
                        lines.append(f"{server}, {workload}: {count} {what}")
                lost = sum(cell["lost"] for cell in cells)
                if lost > LOSS * (lost + sum(cell["echoes"] for cell in cells)):
                    lines.append(f"{server}, {workload}: {lost} datagrams lost")
        disturbed = sum((cell["foreign_cores"] or 0) > FOREIGN_CORES for cell in self.cells)
        if disturbed:
            lines.append(f"{disturbed} of {len(self.cells)} cells were disturbed by other work")
        return lines

    # ---- tables ----

    def table(self, rows: Sequence[str], cell: Callable[[str, str], str]) -> Table:
        """Workloads down, servers across."""
        return [["", *self.servers], *([r, *(cell(s, r) for s in self.servers)] for r in rows)]

    def figure_table(self, rows: Sequence[str], figure: str) -> Table:
        """Medians and ranges of a figure."""
        return self.table(rows, lambda s, w: spread(self.values(s, w, figure)))

    def ratio_table(self, figure: str) -> Table:
        """How many times better the first server is than each other."""
        first, *peers = self.servers
        rows = [
            [w, *(spread(self.ratios(first, peer, w, figure)) for peer in peers)]
            for w in self.workloads
        ]
        return [["", *peers], *rows]

    def sections(self) -> list[tuple[str, Table]]:
        """Tables with their headings."""
        found = []
        for figure, heading in FIGURES:
            found.append((heading, self.figure_table(self.workloads, figure)))
            if figure in BETTER_WHEN_LESS and len(self.servers) > 1:
                what = f"Times less {BETTER_WHEN_LESS[figure]}: {self.servers[0]} against"
                found.append((what, self.ratio_table(figure)))
        return found

    def scale_sections(self) -> list[tuple[str, Table]]:
        """CPU time per echo as each kind of work grows, and by how much it rises."""
        found = []
        for series in dict.fromkeys(w.partition(SERIES_SEPARATOR)[0] for w in self.workloads):
            rows = [w for w in self.workloads if w.partition(SERIES_SEPARATOR)[0] == series]
            table = self.figure_table(rows, "cpu_ns")
            for line in table[1:]:
                line[0] = line[0].partition(SERIES_SEPARATOR)[2]
            rises = [
                self.rise([(w, self.values(s, w, "cpu_ns")) for w in rows]) for s in self.servers
            ]
            table[0][0] = series
            found.append((f"Server CPU time per echo, ns, by {series}", [*table, ["rise", *rises]]))
        return found

    def goal_lines(self) -> list[str]:
        """What was held to, where it was measured, and what came of it."""
        lines = []
        for goal in self.goals:
            ratios = self.ratios(goal.server, goal.peer, goal.workload, "cpu_ns")
            if ratios:
                outcome = "met" if statistics.median(ratios) >= goal.at_least else "MISSED"
                lines.append(
                    f"goal {outcome}: {goal.workload}, CPU time of {goal.peer} by that of "
                    f"{goal.server} at least {number(goal.at_least)}: {spread(ratios)}"
                )
        return lines

    @staticmethod
    def rise(points: list[tuple[str, list[float]]]) -> str:
        """The most that a later median is above an earlier one; 1: flat or falling."""
        most, low, at = 1.0, None, ""
        for name, values in points:
            if not values:
                continue
            middle = statistics.median(values)
            if low is None or middle < low[0]:
                low = (middle, name)
            elif middle / low[0] > most:
                names = [n.partition(SERIES_SEPARATOR)[2] for n in (low[1], name)]
                most, at = middle / low[0], f" ({names[0]} to {names[1]})"
        return f"{number(most)} times{at}"

    def text(self, *, scale: bool) -> str:
        """For a terminal."""
        lines = []
        for heading, table in self.scale_sections() if scale else self.sections():
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines.append(heading)
            for first, *rest in table:
                cells = (f"{t:>{w}}" for t, w in zip(rest, widths[1:], strict=True))
                lines.append("  " + "  ".join((f"{first:<{widths[0]}}", *cells)))
            lines.append("")
        if goals := self.goal_lines():
            lines += [*goals, ""]
        return "\n".join(lines)

    def markdown(self, meanings: dict[str, str], *, scale: bool) -> str:
        """For docs/performance.md."""
        about = self.about
        lines = [
            f"Measured {about['date']}, {about['kernel']}, {about['cpu']}; {about['place']};"
            f" {about['versions']}. Medians of {about['repetitions']}, with the lowest and the"
            " highest; ratios are taken within a repetition.",
            "",
            f"    {about['command']}",
            "",
        ]
        if not scale:
            if self.has_picture:
                lines += ["![CPU time per echo by workload](cpu-per-echo.svg)", ""]
            lines += ["| workload | what the load does |", "|---|---|"]
            lines += [f"| {name} | {meaning} |" for name, meaning in meanings.items()]
            lines.append("")
        for heading, (head, *rows) in self.scale_sections() if scale else self.sections():
            lines += [f"**{heading}**", ""]
            lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
            lines.append("")
        if goals := self.goal_lines():
            lines += [*(f"- {line}" for line in goals), ""]
        return "\n".join(lines)
