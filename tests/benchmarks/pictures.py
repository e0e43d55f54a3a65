"""Pictures for docs/performance.md, as SVG with the same bytes for the same figures."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib import ticker

_STYLE: Final = {
    "svg.hashsalt": "bench",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
_MARKERS: Final = "os^Dvx*P"
_ACROSS: Final = 3
"""Panels beside each other."""


def dots(
    file: Path,
    groups: Sequence[str],
    figures: Mapping[str, Mapping[str, Sequence[float]]],
    axis: str,
) -> None:
    """Draw a row for each group, with a dot for each name, on a logarithmic axis.

    Args:
        file: what to write.
        groups: from top to bottom.
        figures: by name and group; a dot is their median, its whisker goes from least to most.
        axis: what they are.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 1 + 0.36 * len(groups)))
        step = 0.6 / max(len(figures), 1)
        for number, (name, by_group) in enumerate(figures.items()):
            there = [(place, by_group[group]) for place, group in enumerate(groups)
                     if by_group.get(group)]  # fmt: skip
            middles = [statistics.median(values) for _, values in there]
            low = [middle - min(values) for middle, (_, values) in zip(middles, there, strict=True)]
            high = [
                max(values) - middle for middle, (_, values) in zip(middles, there, strict=True)
            ]
            axes.errorbar(
                middles, [place - 0.3 + (number + 0.5) * step for place, _ in there],
                xerr=[low, high], label=name, fmt=_MARKERS[number % len(_MARKERS)], markersize=4,
                ecolor="#999", elinewidth=1,
            )  # fmt: skip
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.set_xscale("log")
        _label(axes.xaxis)
        axes.set_xlabel(axis)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        _finish(file, figure)


Points = Sequence[tuple[float, Sequence[float]]]
"""Places from left to right, and the values at each."""


def lines(
    file: Path,
    panels: Mapping[str, Mapping[str, Points]],
    axis_names: tuple[str, str],
    *,
    log_x: bool = False,
    log_y: bool = False,
    zero_y: bool = False,
) -> None:
    """Draw lines through the medians, and shade from the least to the most.

    Args:
        file: what to write.
        panels: by title, figures by name; a name looks the same in all panels.
        axis_names: of x and y.
        log_x, log_y: logarithmic.
        zero_y: y begins at 0.
    """
    names = list(dict.fromkeys(name for figures in panels.values() for name in figures))
    across = min(len(panels), _ACROSS)
    down = -(-len(panels) // across)
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(
            down, across, figsize=(8, 4.5 if len(panels) == 1 else 0.6 + 2.2 * down),
            sharex=True, sharey=True, squeeze=False, layout="constrained",
        )  # fmt: skip
        for axes, (title, figures) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(title, fontsize=9)
            for name, points in figures.items():
                _line(axes, name, points, names.index(name))
            if log_x:
                axes.set_xscale("log")
                ticks = sorted({place for points in figures.values() for place, _ in points})
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.minorticks_off()
            if log_y:
                axes.set_yscale("log")
                _label(axes.yaxis)
            if zero_y:
                axes.set_ylim(bottom=0)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel(axis_names[0], fontsize=9)
        figure.supylabel(axis_names[1], fontsize=9)
        shown = dict(
            pair for axes in grid.flat
            for pair in zip(*reversed(axes.get_legend_handles_labels()), strict=True)
        )  # fmt: skip
        figure.legend(
            [shown[name] for name in names], names, loc="outside upper center", ncols=len(names)
        )
        _finish(file, figure)


def _line(axes: Any, name: str, points: Points, number: int) -> None:
    x = [place for place, _ in points]
    middle = [statistics.median(values) for _, values in points]
    marker = _MARKERS[number % len(_MARKERS)] if len(points) < 20 else ""
    axes.plot(x, middle, marker=marker, markersize=4, label=name, color=f"C{number}")
    if any(len(values) > 1 for _, values in points):
        least = [min(values) for _, values in points]
        most = [max(values) for _, values in points]
        axes.fill_between(x, least, most, color=f"C{number}", alpha=0.15, linewidth=0)


def _label(axis: Any) -> None:
    """Name 1, 2 and 5 of each power of ten of a logarithmic axis."""
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _finish(file: Path, figure: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    # What editors and git call trailing white space.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
