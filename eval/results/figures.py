"""Figures of one scoring: histograms of the scores of its sets, and ROC curves.

The figures are drawn without a display and without the global state of pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from eval.metrics import TPR_PERCENT, auroc
from eval.results.collect import Scores, pooled_ood
from eval.sets.opening import TEST
from shards.errors import printable

BINS = 60
"""Number of bins in a histogram."""
COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"
"""Colours of Okabe and Ito, which people with any kind of colour vision can tell apart. Their
yellow is left out, because it is too pale for lines."""
LINES = "-", "--", ":", "-."
"""Line styles. When the colours are used up, they begin again with the next line style."""


def plain(text: str) -> str:
    """Return a name in a form that matplotlib can draw.

    Formulas are switched off, and characters that cannot be printed are replaced.
    """
    return printable(text).replace("$", r"\$")


def save_histogram(path: Path, scores: Mapping[str, Scores]) -> None:
    """Write a PNG of histograms, with one panel per method.

    A panel shows the scores of the in-distribution test set and of all OOD sets together.

    Args:
        path: the PNG file to write.
        scores: label of a method -> scores of each set. A higher score means more OOD.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    figure = Figure(figsize=(7, 0.9 + 2.8 * len(scores)), dpi=120, layout="constrained")
    axes = figure.subplots(len(scores), 1, squeeze=False)[:, 0]
    for axis, (label_of_method, of_sets) in zip(axes, scores.items(), strict=True):
        in_dist, ood = of_sets[TEST], pooled_ood(of_sets)
        edges = np.histogram_bin_edges(np.concatenate([in_dist, ood]), BINS)
        draw_histogram(axis, edges, in_dist, ood)
        axis.set_title(f"{plain(label_of_method)}: AUROC {100 * auroc(in_dist, ood):.2f} %")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    axes[-1].set_xlabel("score (higher = more OOD)")
    figure.savefig(path, format="png")


def draw_histogram(
    axis: Axes,
    edges: NDArray[np.float64],
    in_dist: NDArray[np.float64],
    ood: NDArray[np.float64],
    colours: Sequence[str] = COLOURS,
) -> None:
    """Draw histograms of in-distribution and OOD scores.

    The height of a bar is in % of all in-distribution images or of all OOD images.

    Args:
        axis: axes to draw on.
        edges: edges of the bins. The two histograms have the same bins.
        in_dist: scores of in-distribution test images.
        ood: scores of OOD images.
        colours: colour of in-distribution images, then colour of OOD images.
    """
    for values, label, colour in (
        (in_dist, "in-distribution test", colours[0]),
        (ood, "OOD, all sets", colours[1]),
    ):
        axis.stairs(
            100 * np.histogram(values, edges)[0] / len(values),
            edges,
            fill=True,
            color=colour,
            alpha=0.55,
            label=f"{label} ({len(values):,})",
        )
    axis.set_ylabel("images, %")


def save_roc(path: Path, scores: Scores) -> None:
    """Write a PNG with the ROC curve of each OOD set.

    Args:
        path: the PNG file to write.
        scores: scores of each set. A higher score means more OOD.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    axis = figure.subplots()
    draw_roc(axis, scores, COLOURS, LINES, "gray")
    axis.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axis.set(xlabel="in-distribution images called OOD (FPR)", ylabel="OOD images found (TPR)")
    axis.legend(title="AUROC", loc="lower right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")


def draw_roc(
    axis: Axes, scores: Scores, colours: Sequence[str], lines: Sequence[str], guide: str
) -> None:
    """Draw the ROC curve of each OOD set, with OOD as the positive class.

    Rates are in [0, 1]. A dotted horizontal line shows the TPR of FPR95. A diagonal line shows
    chance.

    Args:
        axis: axes to draw on.
        scores: scores of each set. A higher score means more OOD.
        colours: colours of the curves. After the last colour, the first one is used again.
        lines: line styles of the curves. Each time the colours begin again, the next line style is
            used.
        guide: colour of the dotted and of the diagonal line.
    """
    in_dist = scores[TEST]
    for place, (name, ood) in enumerate((n, s) for n, s in scores.items() if n != TEST):
        is_ood = np.repeat([False, True], [len(in_dist), len(ood)])
        fpr, tpr, _ = roc_curve(is_ood, np.concatenate([in_dist, ood]))
        axis.plot(
            fpr,
            tpr,
            color=colours[place % len(colours)],
            linestyle=lines[place // len(colours) % len(lines)],
            # The number comes first: the legend leaves out labels that begin with an underscore.
            label=f"{100 * auroc(in_dist, ood):.2f} %  {plain(name)}",
        )
    axis.axhline(TPR_PERCENT / 100, color=guide, linestyle=":", linewidth=0.8)
    axis.plot([0, 1], [0, 1], color=guide, linewidth=0.8)
