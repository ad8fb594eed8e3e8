"""CPU time per echo by workload, as a picture."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

if TYPE_CHECKING:
    from pathlib import Path

    from report import Results

# Okabe and Ito's colours, which those who see few colours can tell apart as well.
COLOURS = ["#0072B2", "#E69F00", "#CC79A7", "#8C8C8C", "#009E73", "#D55E00", "#56B4E9"]
# A card of its own colour is read on light and dark pages alike.
PAPER, INK, FAINT = "#FFFFFF", "#1F2328", "#D0D7DE"
BAR_INCHES = 0.2


def draw(results: Results, meanings: dict[str, str], path: Path) -> None:
    """Grouped horizontal bars on a logarithmic scale: medians, with a line from the lowest
    to the highest."""
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rsecho"})
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", "sans-serif"]
    servers, workloads = results.servers, results.workloads
    group = len(servers) + 1
    height = BAR_INCHES * group * len(workloads) + 1.6
    figure = Figure(figsize=(9.5, height), facecolor=PAPER, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot(facecolor=PAPER)
    for index, server in enumerate(servers):
        places, middles, below, above = [], [], [], []
        for row, workload in enumerate(workloads):
            values = results.values(server, workload, "cpu_ns")
            if not values:
                continue
            middle = statistics.median(values)
            places.append(row * group + index)
            middles.append(middle)
            below.append(middle - min(values))
            above.append(max(values) - middle)
            axes.annotate(
                f"{middle:,.0f}" if middle >= 10 else f"{middle:.1f}",
                (max(values), places[-1]),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=INK,
                fontweight="bold" if index == 0 else "normal",
            )
        axes.barh(
            places,
            middles,
            height=0.86,
            color=COLOURS[index % len(COLOURS)],
            label=server,
            xerr=[below, above],
            error_kw={"ecolor": INK, "elinewidth": 0.8},
        )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 1.8)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_yticks(
        [row * group + (len(servers) - 1) / 2 for row in range(len(workloads))],
        [f"{name}\n{meanings[name]}" for name in workloads],
        fontsize=8,
    )
    axes.invert_yaxis()
    axes.set_xlabel("server CPU time per echo, nanoseconds (logarithmic; less is better)")
    axes.set_title("CPU time per echo", loc="left", color=INK, fontweight="bold", pad=26)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, which="both")
    axes.xaxis.label.set_color(INK)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "left")
        spine.set_color(FAINT)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(servers), frameon=False, labelcolor=INK
    )
    about = results.about
    note = f"{about['date']}, {about['kernel']}, {about['cpu']}; medians of {about['repetitions']}"
    figure.supxlabel(note, fontsize=7.5, color=INK, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Title": "CPU time per echo"})
