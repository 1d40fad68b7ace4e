"""The drawings of the report, as SVG: ROC curves, histograms, intervals and training curves.

Nothing is drawn with a colour of its own: lines and areas have the classes `c0`, `c1`, ... and
`in-dist`, `ood`, `warning`, which the style sheet colours for light and dark pages. Texts are HTML
beside the drawing where they are long. All drawings scale with the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

COLOURS = 8
"""Classes `c0` to `c7` of the style sheet; after them they come again, dashed."""
BINS = 48
CURVE_POINTS = 300
"""Most points of a line; more could not be told apart."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
EDGE = 1
"""Half the width of a line, which may lie on an axis."""
TICK_PX = 11


@dataclass(frozen=True)
class Axis:
    """One axis: from where to where, and where its ticks are."""

    low: float
    high: float
    ticks: Sequence[float]
    label: str = ""

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """0 at the low end, 1 at the high end."""
        return (np.asarray(values, np.float64) - self.low) / (self.high - self.low)


def axis_over(low: float, high: float, label: str = "", ticks: int = 5) -> Axis:
    """An axis with about so many ticks at round numbers."""
    if not high > low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / ticks
    power = 10.0 ** np.floor(np.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda candidate: abs(candidate - raw))
    first = np.ceil(low / step - 1e-9)
    count = int(np.floor(high / step + 1e-9) - first) + 1
    return Axis(low, high, [float((first + i) * step) for i in range(count)], label)


class Plot:
    """A drawing of `width` x `height` units with two axes, to which lines are added.

    What lies beyond an axis is cut off.
    """

    def __init__(self, title: str, x: Axis, y: Axis, width: int = 360, height: int = 220) -> None:
        """`title` is for those who cannot see it."""
        self._title, self._x, self._y = title, x, y
        self._width, self._height = width, height
        self._parts: list[Markup] = []

    def line(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        """Through points in order; `kind` is the class."""
        points = self._points(x, y)
        self._parts.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, points))

    def dot(self, x: float, y: float, kind: str) -> None:
        """One point, where there is no second for a line."""
        (across,), (down,) = self._across([x]), self._down([y])
        mark = Markup('<circle class="line {}" cx="{:.1f}" cy="{:.1f}" r="2"/>')
        self._parts.append(mark.format(kind, across, down))

    def area(self, edges: ArrayLike, heights: ArrayLike, kind: str) -> None:
        """Steps of `heights` [B] between `edges` [B + 1], filled down to the axis."""
        sides = np.repeat(np.asarray(edges, np.float64), 2)
        tops = np.concatenate([[self._y.low], np.repeat(heights, 2), [self._y.low]])
        points = self._points(sides, tops)
        self._parts.append(Markup('<polygon class="area {}" points="{}"/>').format(kind, points))

    def level(self, y: float, kind: str = "guide") -> None:
        """A line across."""
        self.line([self._x.low, self._x.high], [y, y], kind)

    def mark(self, x: float, kind: str) -> None:
        """A line from top to bottom."""
        self.line([x, x], [self._y.low, self._y.high], kind)

    def svg(self) -> Markup:
        """The drawing."""
        right, bottom = self._width - RIGHT, self._height - BOTTOM
        frame: list[Markup] = []
        for tick in self._x.ticks:
            (at,) = self._across([tick])
            frame.append(
                Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
                    at, TOP, bottom
                )
            )
            frame.append(_text(at, bottom + TICK_PX + 4, "middle", _number(tick)))
        for tick in self._y.ticks:
            (at,) = self._down([tick])
            frame.append(
                Markup('<line class="grid" x1="{1}" x2="{2}" y1="{0:.1f}" y2="{0:.1f}"/>').format(
                    at, LEFT, right
                )
            )
            frame.append(_text(LEFT - 6, at + 4, "end", _number(tick)))
        middle = (LEFT + right) / 2
        frame.append(_text(middle, self._height - 6, "middle", self._x.label))
        if self._y.label:
            turn = f"rotate(-90 12 {(TOP + bottom) / 2:.1f})"
            frame.append(_text(12, (TOP + bottom) / 2, "middle", self._y.label, turn))
        inside = Markup(
            '<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">'
        ).format(LEFT - EDGE, TOP - EDGE, right - LEFT + 2 * EDGE, bottom - TOP + 2 * EDGE)
        return Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg></svg>'
        ).format(
            self._width,
            self._height,
            self._title,
            Markup("").join(frame),
            inside,
            Markup("").join(self._parts),
        )

    def _across(self, x: ArrayLike) -> NDArray[np.float64]:
        return LEFT + self._x.place(x) * (self._width - LEFT - RIGHT)

    def _down(self, y: ArrayLike) -> NDArray[np.float64]:
        return TOP + (1 - self._y.place(y)) * (self._height - TOP - BOTTOM)

    def _points(self, x: ArrayLike, y: ArrayLike) -> str:
        places = zip(self._across(x), self._down(y), strict=True)
        return " ".join(f"{across:.1f},{down:.1f}" for across, down in places)


def kind_of(number: int) -> str:
    """The class of line `number`, from 0."""
    return f"c{number % COLOURS}" + (" dashed" if number // COLOURS % 2 else "")


def swatch(kind: str) -> Markup:
    """A piece of a line, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 24 10" aria-hidden="true">'
        '<line class="line {}" x1="0" x2="24" y1="5" y2="5"/></svg>'
    ).format(kind)


def roc_points(in_dist: ArrayLike, ood: ArrayLike) -> tuple[NDArray, NDArray]:
    """The ROC curve: false-positive and true-positive rates over falling thresholds, from 0 to 1.

    Images of equal score pass a threshold together. Of long curves `CURVE_POINTS` are kept.
    """
    negative, positive = (np.sort(np.asarray(scores, np.float64)) for scores in (in_dist, ood))
    thresholds = np.unique(np.concatenate([negative, positive]))[::-1]
    rates = [
        np.concatenate([[0.0], 1 - np.searchsorted(scores, thresholds, side="left") / len(scores)])
        for scores in (negative, positive)
    ]
    # Evenly along the curve, not along the thresholds: most of them are in its flat parts.
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(rates)).sum(0))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
    return rates[0][kept], rates[1][kept]


def roc_chart(in_dist: ArrayLike, ood: Sequence[ArrayLike], part: float = 100) -> Markup:
    """ROC curves of OOD sets, in the order of `kind_of`; the line across is a TPR of 95 %.

    Args:
        in_dist: scores of in-distribution test images, float64 [N].
        ood: scores of each OOD set, float64 [M].
        part: side of the part that is drawn, the upper left one, in %.
    """
    ticks = np.linspace(0, part, 6)
    plot = Plot(
        f"ROC curves of {len(ood)} OOD sets, upper left {part:g} %; the table has their areas",
        Axis(0, part, ticks.tolist(), "in-distribution images called OOD, %"),
        Axis(100 - part, 100, (100 - part + ticks).tolist(), "OOD images found, %"),
        width=400,
        height=380,
    )
    plot.line([0, 100], [0, 100], "guide")
    plot.level(95)
    for number, scores in enumerate(ood):
        false_positive, true_positive = roc_points(in_dist, scores)
        plot.line(100 * false_positive, 100 * true_positive, kind_of(number))
    return plot.svg()


def histogram_edges(sets: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Edges of bins that all sets share: float64 [BINS + 1]."""
    return np.histogram_bin_edges(np.concatenate([np.asarray(s) for s in sets]), BINS)


def histogram(title: str, edges: NDArray, in_dist: ArrayLike, ood: ArrayLike | None) -> Markup:
    """Scores of a set before those of the in-distribution test set, each in % of its images."""
    drawn = [(in_dist, "in-dist"), *([(ood, "ood")] if ood is not None else [])]
    shares = [
        (100 * np.histogram(scores, edges)[0] / np.size(scores), kind) for scores, kind in drawn
    ]
    highest = max(float(heights.max()) for heights, _ in shares)
    plot = Plot(
        title,
        axis_over(edges[0], edges[-1], "score (higher = more OOD)"),
        axis_over(0, highest, "images, %", ticks=4),
        height=190,
    )
    for heights, kind in shares:
        plot.area(edges, heights, kind)
    return plot.svg()


def interval_bar(low: float, value: float, high: float, start: float) -> Markup:
    """A value and its interval on a scale from `start` to 1."""
    at = 4 + 112 * (np.array([low, value, high]) - start) / (1 - start)
    return Markup(
        '<svg class="interval" viewBox="0 0 120 14" aria-hidden="true">'
        '<line class="grid" x1="4" x2="116" y1="7" y2="7"/>'
        '<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="7" y2="7"/>'
        '<circle class="dot" cx="{:.1f}" cy="7" r="3.2"/></svg>'
    ).format(at[0], at[2], at[1])


def training_chart(
    label: str,
    lines: Sequence[tuple[NDArray, NDArray]],
    marks: Sequence[float],
    level: float | None,
) -> Markup:
    """Values over steps, from 0 up, in the order of `kind_of`.

    Args:
        label: of the values' axis.
        lines: steps [R] and values [R] of each line, finite.
        marks: steps to mark as warnings.
        level: a value to draw a line across at.
    """
    last_step = max(float(steps[-1]) for steps, _ in lines)
    highest = max([float(values.max()) for _, values in lines] + [level or 0.0])
    lowest = min(0.0, *(float(values.min()) for _, values in lines))
    plot = Plot(label, axis_over(0, last_step, "step", 4), axis_over(lowest, 1.05 * highest, "", 4))
    for step in marks:
        plot.mark(step, "warning")
    if level is not None:
        plot.level(level)
    for number, (steps, values) in enumerate(lines):
        if len(steps) == 1:
            plot.dot(steps[0], values[0], kind_of(number))
        else:
            plot.line(steps, values, kind_of(number))
    return plot.svg()


def _text(x: float, y: float, anchor: str, text: str, turn: str = "") -> Markup:
    rotated = Markup(' transform="{}"').format(turn) if turn else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, rotated, escape(text)
    )


def _number(value: float) -> str:
    return f"{value:.6g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}", 1)
