"""Figures 2 and 3 of the paper, drawn for several runs, with one colour per strategy of negatives.

A point of a panel is a run. A run that lacks one of the two numbers of a panel is not shown there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.intervals import Interval
from eval.results.compare_runs import Run
from eval.results.figures import COLOURS, plain

MARKERS = "o", "s", "^", "D", "v", "P"
"""Markers of the points. When the colours are used up, they begin again with the next marker."""


def save_figure_2(path: Path, runs: Sequence[Run], column: str) -> None:
    """Write Figure 2 of the paper as PNG: occupied soft classes per run, and AUROC over them.

    Args:
        path: the PNG file to write.
        runs: the runs. At least one must have occupied soft classes.
        column: column whose AUROC is drawn.
    """
    known = [(run, found) for run in runs if (found := run.scoring.probes.occupied)]
    counts = [occupied.count for _, occupied in known]
    figure = _figure(11, 1.6 + max(2.9, 0.32 * len(known)))
    bars, over = figure.subplots(1, 2)
    styles = _styles(runs)
    places = np.arange(len(known))
    bars.barh(places, counts, color=[styles[run.strategy][0] for run, _ in known])
    bars.set_yticks(places, [plain(run.name) for run, _ in known])
    bars.invert_yaxis()  # the first run is on top, as in the table
    bars.bar_label(bars.containers[0], fmt="{:,.0f}", padding=3)
    bars.margins(x=0.12)
    bars.set_xlabel(f"occupied soft classes, of {known[0][1].of:,}")
    _draw(over, [run for run, _ in known], [*map(_exact, counts)], column, styles)
    over.set_xlabel("occupied soft classes")
    _finish(figure, runs, path)


def save_figure_3(path: Path, runs: Sequence[Run], columns: Sequence[str]) -> None:
    """Write Figure 3 of the paper as PNG: AUROC over k-NN accuracy, and over sensitivity.

    The sensitivity is the AUROC of in-distribution test images against training images.

    Args:
        path: the PNG file to write.
        runs: the runs. The upper row of panels, the k-NN accuracy, is left out if no run has a k-NN
            accuracy.
        columns: columns whose AUROC is drawn. Each has a column of panels.
    """
    rows = []
    labelled = [(run, run.knn_accuracy) for run in runs if run.knn_accuracy is not None]
    if labelled:
        accuracies = [_percent(_exact(accuracy)) for _, accuracy in labelled]
        rows.append(("k-NN accuracy in-distribution, %", [run for run, _ in labelled], accuracies))
    sensitivities = [_percent(run.scoring.probes.sensitivity) for run in runs]
    rows.append(("AUROC of in-distribution train vs. test, %", [*runs], sensitivities))
    figure = _figure(1.0 + 4.6 * len(columns), 1.2 + 3.5 * len(rows))
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    styles = _styles(runs)
    for row, (label, shown, across) in zip(panels, rows, strict=True):
        for axis, column in zip(row, columns, strict=True):
            _draw(axis, shown, across, column, styles)
            axis.set_xlabel(label)
    for axis, column in zip(panels[0], columns, strict=True):
        axis.set_title(plain(column))
    _finish(figure, runs, path)


def _draw(
    axis: Axes,
    runs: Sequence[Run],
    across: Sequence[Interval],
    column: str,
    styles: Mapping[str, tuple[str, str]],
) -> None:
    """Draw the AUROC of a column over the values `across`, one point per run.

    95 % intervals are drawn as error bars. The correlation r is printed if there are at least three
    points.
    """
    aurocs = [_percent(run.scoring.eq6_columns[column].auroc) for run in runs]
    for run, x, y in zip(runs, across, aurocs, strict=True):
        colour, marker = styles[run.strategy]
        axis.errorbar(
            x.value,
            y.value,
            xerr=_arms(x),
            yerr=_arms(y),
            color=colour,
            marker=marker,
            markersize=7,
            elinewidth=0.8,
        )
    axis.set_ylabel(f"AUROC {plain(column)}, %")
    axis.grid(alpha=0.3)
    values = [[one.value for one in each] for each in (across, aurocs)]
    if len(runs) > 2 and all(len(set(each)) > 1 for each in values):
        r = np.asarray(np.corrcoef(values))[0, 1]
        axis.set_title(f"r = {r:.2f}", loc="right", size="small", color="dimgray")


def _styles(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """Return the colour and the marker of each strategy of negatives."""
    strategies = dict.fromkeys(run.strategy for run in runs)
    return {
        strategy: (
            COLOURS[place % len(COLOURS)],
            MARKERS[place // len(COLOURS) % len(MARKERS)],
        )
        for place, strategy in enumerate(strategies)
    }


def _figure(width_inches: float, height_inches: float) -> Figure:
    return Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")


def _finish(figure: Figure, runs: Sequence[Run], path: Path) -> None:
    styles = _styles(runs)
    handles = [
        figure.axes[-1].scatter([], [], color=colour, marker=marker)
        for colour, marker in styles.values()
    ]
    figure.legend(
        handles,
        [plain(strategy) for strategy in styles],
        title="negatives",
        loc="outside upper center",
        ncols=min(len(styles), max(2, int(figure.get_figwidth() / 1.8))),
        frameon=False,
    )
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _percent(rate: Interval) -> Interval:
    return Interval(100 * rate.value, 100 * rate.low, 100 * rate.high)


def _arms(interval: Interval) -> list[list[float]]:
    """Return the lengths of an error bar as matplotlib expects them: [[below], [above]]."""
    return [[interval.value - interval.low], [interval.high - interval.value]]
