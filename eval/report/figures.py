"""Figures of the report: matplotlib drawings as SVG in the page, in the colours of the style sheet.

matplotlib draws with the colours of the light page. In the SVG, each colour is replaced with a
variable of page.css. A drawing therefore has the colours of the page, which may be light, dark or
printed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from eval.results.collect import Scores
from eval.results.figures import draw_histogram, draw_roc

LINE_COLOURS = (
    *("#0072b2", "#c44e00", "#00805c", "#a6428a"),
    *("#8a6d00", "#5b3fb5", "#5f6b76", "#b3123b"),
)
"""Colours of lines, used in turn. They are `--c0` to `--c7` in the style sheet."""
LINES = "-", "--"
"""Line styles. When the colours are used up, they begin again with the next line style."""
WARNING, MUTED, GRID = LINE_COLOURS[7], "#565e66", "#d9dde1"
VARIABLES = {
    **{colour: f"var(--c{number})" for number, colour in enumerate(LINE_COLOURS)},
    MUTED: "var(--muted)",
    GRID: "var(--line)",
}
"""Colour in a drawing -> the variable of the style sheet that replaces it."""
BINS = 48
"""Number of bins in a histogram."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 11,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": MUTED,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "lines.dotted_pattern": (2, 4),
    "lines.linewidth": 1.8,
}
"""Settings of matplotlib. Sizes are in CSS pixels of a drawing at its full width."""
PX_PER_INCH = 72


def line_class(number: int) -> str:
    """Return the CSS class of a line, for a legend. Lines are numbered from 0."""
    colours = len(LINE_COLOURS)
    return f"c{number % colours}" + (" dashed" if number // colours % len(LINES) else "")


@matplotlib.rc_context(STYLE)
def roc_chart(scores: Scores, part: float = 1.0) -> Markup:
    """Draw the ROC curves of all OOD sets as SVG. See `eval.results.figures.draw_roc`.

    Args:
        scores: scores of each set.
        part: side of the upper left part that is drawn, in (0, 1]. 1 means the whole curves.
    """
    figure = _figure(400, 380)
    axis = figure.axes[0]
    draw_roc(axis, scores, LINE_COLOURS, LINES, MUTED)
    axis.set(xlim=(0, part), ylim=(1 - part, 1))
    axis.set(xlabel="in-distribution images called OOD, %", ylabel="OOD images found, %")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}"))
    return _svg(
        figure,
        f"ROC curves of {len(scores) - 1} OOD sets, upper left {100 * part:g} %; the table has "
        "their areas",
    )


def histogram_edges(scores: Scores) -> NDArray[np.float64]:
    """Return the edges of histogram bins that all sets share, float64 [BINS + 1]."""
    return np.histogram_bin_edges(np.concatenate(list(scores.values())), BINS)


@matplotlib.rc_context(STYLE)
def histogram(
    title: str,
    edges: NDArray[np.float64],
    in_dist: NDArray[np.float64],
    ood: NDArray[np.float64],
) -> Markup:
    """Draw histograms of the scores of an OOD set and of the in-distribution test set, as SVG.

    The height of a bar is in % of the images of its set.

    Args:
        title: text for screen readers.
        edges: edges of the bins.
        in_dist: scores of in-distribution test images.
        ood: scores of the images of the OOD set.
    """
    figure = _figure(360, 190)
    axis = figure.axes[0]
    draw_histogram(axis, edges, in_dist, ood, LINE_COLOURS)
    axis.set(xlabel="score (higher = more OOD)", xlim=(edges[0], edges[-1]))
    return _svg(figure, title)


@matplotlib.rc_context(STYLE)
def training_chart(
    label: str,
    lines: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    marks: Sequence[float],
    level: float | None,
) -> Markup:
    """Draw values over training steps, as SVG.

    Args:
        label: name of the values, as a text for screen readers.
        lines: steps and values of each line, two arrays [R]. All values are finite.
        marks: steps of warnings. A vertical line is drawn at each step.
        level: height of a dotted horizontal line. None means that there is no such line.
    """
    figure = _figure(360, 220)
    axis = figure.axes[0]
    for step in marks:
        axis.axvline(step, color=WARNING, linewidth=1, alpha=0.55)
    if level is not None:
        axis.axhline(level, color=MUTED, linewidth=1.2, linestyle=":")
    for number, (steps, values) in enumerate(lines):
        # A single point makes no line.
        marker = "." if len(steps) == 1 else ""
        axis.plot(steps, values, color=LINE_COLOURS[number % len(LINE_COLOURS)], marker=marker)
    last_step = max(float(steps[-1]) for steps, _ in lines)
    heights = np.concatenate([[0.0, level or 0.0], *(values for _, values in lines)])
    axis.set(xlabel="step", xlim=(0, max(last_step, 1)))
    if np.ptp(heights) > 0:
        axis.set_ylim(1.05 * heights.min(), 1.05 * heights.max())
    return _svg(figure, label)


def _figure(width_px: int, height_px: int) -> Figure:
    """Return a figure with one pair of axes, and margins that leave room for labels."""
    figure = Figure(figsize=(width_px / PX_PER_INCH, height_px / PX_PER_INCH), dpi=PX_PER_INCH)
    left, bottom, right, top = 54 / width_px, 40 / height_px, 12 / width_px, 10 / height_px
    axis = figure.add_axes((left, bottom, 1 - left - right, 1 - bottom - top))
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return figure


def _svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG element of the page.

    Args:
        figure: the figure.
        title: text for screen readers. No two figures of a page may have the same title, because
            the ids in the SVG are computed from it.
    """
    file = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    drawing = file.getvalue().split("</defs>", 1)[1]  # without the header and its style sheet
    drawing = re.sub('<g id="[^"]*"', "<g", drawing)  # ids that are equal in all drawings
    drawing = drawing.replace("font-family: 'DejaVu Sans'; ", "")
    for colour, variable in VARIABLES.items():
        drawing = drawing.replace(colour, variable)
    width, height = figure.get_size_inches() * PX_PER_INCH
    head = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">')
    return head.format(width, height, title) + Markup(drawing)
