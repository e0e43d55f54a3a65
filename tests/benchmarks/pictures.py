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


def bars(
    file: Path,
    groups: Sequence[str],
    figures: Mapping[str, Mapping[str, Sequence[float]]],
    axis: str,
) -> None:
    """Draw horizontal bars.

    Args:
        file: what to write.
        groups: from top to bottom.
        figures: by name and group; a bar is their median, its whisker goes from least to most.
        axis: what they are.
    """
    with mpl.rc_context(_STYLE):
        thick = 0.8 / max(len(figures), 1)
        figure, axes = plt.subplots(figsize=(8, 1 + 0.24 * len(groups) * max(len(figures), 2)))
        for number, (name, by_group) in enumerate(figures.items()):
            places, middles, low, high = [], [], [], []
            for place, group in enumerate(groups):
                if values := by_group.get(group):
                    middle = statistics.median(values)
                    places.append(place + number * thick)
                    middles.append(middle)
                    low.append(middle - min(values))
                    high.append(max(values) - middle)
            axes.barh(places, middles, thick * 0.9, xerr=[low, high], label=name, ecolor="#555")
        axes.set_yticks([n + 0.4 - thick / 2 for n in range(len(groups))], groups)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        _finish(file, figure, axes)


def lines(
    file: Path,
    figures: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    axis_names: tuple[str, str],
    *,
    log_x: bool = False,
    log_y: bool = False,
    zero_y: bool = False,
) -> None:
    """Draw lines through the medians, and shade from the least to the most.

    Args:
        file: what to write.
        figures: by name, the values at each place.
        axis_names: of x and y.
        log_x, log_y: logarithmic.
        zero_y: y begins at 0.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 4.5))
        for number, (name, points) in enumerate(figures.items()):
            x = [place for place, _ in points]
            middle = [statistics.median(values) for _, values in points]
            marker = _MARKERS[number % len(_MARKERS)] if len(points) < 20 else ""
            (line,) = axes.plot(x, middle, marker=marker, markersize=4, label=name)
            if any(len(values) > 1 for _, values in points):
                least = [min(values) for _, values in points]
                most = [max(values) for _, values in points]
                axes.fill_between(x, least, most, color=line.get_color(), alpha=0.15, linewidth=0)
        if log_x:
            axes.set_xscale("log")
            ticks = sorted({place for points in figures.values() for place, _ in points})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        if log_y:
            axes.set_yscale("log")
            for of in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                of(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        if zero_y:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(axis_names[0])
        axes.set_ylabel(axis_names[1])
        _finish(file, figure, axes)


def _finish(file: Path, figure: Any, axes: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    # What editors and git call trailing white space.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
