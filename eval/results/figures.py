"""The pictures of one scoring: how the scores of its sets lie, and what each threshold gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from eval.metrics import TPR_PERCENT, auroc
from eval.results.collect import Scores, pooled_ood
from eval.sets.opening import TEST
from shards.errors import printable

BINS = 60
IN_DIST_COLOUR, OOD_COLOUR = "#0072b2", "#d55e00"  # told apart with any colour vision
COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"
"""Of Okabe and Ito, told apart with any colour vision; the yellow is too pale for lines."""
LINES = "-", "--", ":", "-."


def plain(text: str) -> str:
    """A name as matplotlib can draw it: no formula, and nothing that no font has a sign for."""
    return printable(text).replace("$", r"\$")


def save_histogram(path: Path, scores: Mapping[str, Scores]) -> None:
    """Write a PNG with one panel a method: in-distribution test against all OOD sets pooled.

    Both histograms of a panel share their bins and show the share of their own images, so sets of
    different size compare. Drawn without a display and without pyplot's global state.

    Args:
        path: the PNG file to write.
        scores: label of a method -> scores of each set, higher = more OOD.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    figure = Figure(figsize=(7, 0.9 + 2.8 * len(scores)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scores), 1, squeeze=False)[:, 0]
    for axis, (label_of_method, of_sets) in zip(axes, scores.items(), strict=True):
        in_dist, ood = of_sets[TEST], pooled_ood(of_sets)
        edges = np.histogram_bin_edges(np.concatenate([in_dist, ood]), BINS)
        for values, label, colour in (
            (in_dist, "in-distribution test", IN_DIST_COLOUR),
            (ood, "OOD, all sets", OOD_COLOUR),
        ):
            axis.hist(
                values,
                edges,
                weights=np.full(len(values), 100 / len(values)),
                color=colour,
                alpha=0.55,
                label=f"{label} ({len(values):,})",
            )
        axis.set_title(f"{plain(label_of_method)}: AUROC {100 * auroc(in_dist, ood):.2f} %")
        axis.set_ylabel("images, %")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    axes[-1].set_xlabel("score (higher = more OOD)")
    figure.savefig(path, format="png")


def save_roc(path: Path, scores: Scores) -> None:
    """Write a PNG with the ROC curve of each OOD set, OOD as the positive class.

    The dotted line is at the TPR of FPR95.

    Args:
        path: the PNG file to write.
        scores: scores of each set, higher = more OOD.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    in_dist = scores[TEST]
    for place, (name, ood) in enumerate((n, s) for n, s in scores.items() if n != TEST):
        is_ood = np.repeat([False, True], [len(in_dist), len(ood)])
        fpr, tpr, _ = roc_curve(is_ood, np.concatenate([in_dist, ood]))
        axis.plot(
            fpr,
            tpr,
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINES[place // len(COLOURS) % len(LINES)],
            # The number first: a label that begins with an underscore is left out of the legend.
            label=f"{100 * auroc(in_dist, ood):.2f} %  {plain(name)}",
        )
    axis.axhline(TPR_PERCENT / 100, color="gray", linestyle=":", linewidth=0.8)
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axis.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axis.set(xlabel="in-distribution images called OOD (FPR)", ylabel="OOD images found (TPR)")
    axis.legend(title="AUROC", loc="lower right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")
