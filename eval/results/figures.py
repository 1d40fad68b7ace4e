"""Figures of one scoring: histograms of the scores of its sets, and ROC curves.

All are drawn without a display and without the global state of pyplot.
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
"""Bins of a histogram."""
COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"
"""Colours of Okabe and Ito, distinct for people with any colour vision. Their yellow is left out,
because it is too pale for lines."""
LINES = "-", "--", ":", "-."
"""Line styles; a colour that is used again gets the next style."""


def plain(text: str) -> str:
    """Return a name as matplotlib can draw it: not as a formula, and without unknown characters."""
    return printable(text).replace("$", r"\$")


def save_histogram(path: Path, scores: Mapping[str, Scores]) -> None:
    """Write a PNG with one panel per method: in-distribution test against all OOD sets pooled.

    Args:
        path: the PNG file to write.
        scores: label of a method -> scores of each set, higher = more OOD.

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
    """Draw the scores of in-distribution and OOD images, each in % of its own images.

    Args:
        axis: axes to draw on.
        edges: edges of the bins, which both share.
        in_dist: scores of in-distribution test images.
        ood: scores of OOD images.
        colours: colours of in-distribution and OOD images.
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
        scores: scores of each set, higher = more OOD.

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
    """Draw the ROC curve of each OOD set, with OOD as the positive class, rates in [0, 1].

    The dotted horizontal line is at the TPR of FPR95, the diagonal line is chance.

    Args:
        axis: axes to draw on.
        scores: scores of each set, higher = more OOD.
        colours: colours of the curves, used in turn.
        lines: line styles of the curves; the next one is used when the colours begin again.
        guide: colour of the dotted and the diagonal line.
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
