"""How well scores tell OOD from in-distribution, and the sign convention, stated here once.

    A HIGHER SCORE IS MORE OOD. OOD is the positive class.

Legend: N in-distribution scores, M OOD scores. All metrics are in [0, 1], from the exact scores: no
binning, and images of equal score stand on the same side of any threshold.

    auroc      chance that a random OOD image scores above a random in-distribution image, ties
               counted half: 1 = every OOD image scores higher, 0.5 = chance, 0 = the sign is wrong
    aupr_ood   average precision with OOD as the positive class: the mean, over OOD images, of the
               share of OOD among all images that score at least as high; nothing is interpolated.
               Chance is M / (N + M)
    aupr_in    the same with in-distribution as the positive class, scores negated
    fpr95      share of in-distribution images at or above the highest score at or above which at
               least 95 % of the OOD images lie. So TPR is of OOD; papers that take in-distribution
               as the positive class have another FPR95
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.intervals import Estimate, Interval, mean_interval, rate_interval
from shards.errors import UserError, few

TPR_PERCENT = 95
METRICS = {"auroc": "AUROC", "aupr_ood": "AUPR-OOD", "aupr_in": "AUPR-in", "fpr95": "FPR95"}
"""Key in results.json -> what a reader sees."""


def auroc(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Area under the ROC curve, from the exact scores (no binning, ties counted half).

    Args:
        in_dist_scores: float32 or float64 [N], scores of in-distribution test images.
        ood_scores: float32 or float64 [M], scores of OOD images, the positive class.

    Returns:
        A value in [0, 1].

    Raises:
        UserError: a set is empty, not one-dimensional, or holds NaN or Inf.
    """
    return auroc_interval(in_dist_scores, ood_scores)["value"]


def auroc_interval(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> Interval:
    """`auroc` as `value`, and its 95 % interval (DeLong, on the logit scale) as `low` and `high`.

    Raises:
        UserError: see `auroc`.
    """
    in_dist, ood = _checked("in-distribution", in_dist_scores), _checked("OOD", ood_scores)
    return mean_interval([_auroc(in_dist, ood)])


def measure(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> dict[str, Any]:
    """All metrics of one OOD set, each with its 95 % interval (see `eval.intervals`).

    Args:
        in_dist_scores: float32 or float64 [N].
        ood_scores: float32 or float64 [M].

    Returns:
        `samples` (M), and for each of `METRICS` a dict of `value`, `low` and `high`.

    Raises:
        UserError: see `auroc`.
    """
    return mean_of_sets(in_dist_scores, [ood_scores])


def mean_of_sets(in_dist_scores: ArrayLike, ood_sets: Sequence[ArrayLike]) -> dict[str, Any]:
    """The mean of each metric over OOD sets, which all count alike, with its 95 % interval.

    Args:
        in_dist_scores: float32 or float64 [N], shared by all sets.
        ood_sets: one or more sets, each float32 or float64 [M].

    Returns:
        As `measure`; `samples` is the number of OOD images of all sets.

    Raises:
        UserError: see `auroc`.
    """
    in_dist = _checked("in-distribution", in_dist_scores)
    sets = [_checked("OOD", scores) for scores in ood_sets]
    estimators: dict[str, Callable[[NDArray, NDArray], Estimate]] = {
        "auroc": _auroc,
        "aupr_ood": _average_precision,
        "aupr_in": _average_precision_in,
    }
    found: dict[str, Any] = {"samples": sum(map(len, sets))}
    for name, estimator in estimators.items():
        found[name] = mean_interval([estimator(in_dist, ood) for ood in sets])
    rate = float(np.mean([_fpr95(in_dist, ood) for ood in sets]))
    found["fpr95"] = rate_interval(rate, in_dist, sets, TPR_PERCENT / 100)
    return found


def _auroc(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    """The component of an image is the share of images of the other kind that it is right about."""
    below = _twice_below(np.sort(in_dist), ood)  # twice the number of in-distribution images
    return Estimate(
        int(below.sum()) / (2 * len(in_dist) * len(ood)),
        of_in_dist=1 - _twice_below(np.sort(ood), in_dist) / (2 * len(ood)),
        of_ood=below / (2 * len(in_dist)),
    )


def _twice_below(ascending: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice how many values lie below each of `of`; equal ones are half below."""
    below = np.searchsorted(ascending, of, side="left")
    return below + np.searchsorted(ascending, of, side="right")


def _average_precision(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    """Mean over OOD images of P = TP / (TP + FP) at the image's own score.

    An image counts in TP or FP of every threshold up to its score; its component is the sum of what
    P changes by there, dP/dTP = FP / (TP + FP)^2 or dP/dFP = -TP / (TP + FP)^2, and of an OOD image
    its own P. These are derivatives by counts, which differ from those by shares by a constant.
    """
    thresholds = np.sort(ood)
    tp = len(ood) - np.searchsorted(thresholds, thresholds, side="left")
    fp = len(in_dist) - np.searchsorted(np.sort(in_dist), thresholds, side="left")
    precision = tp / (tp + fp)
    gained, lost = (_sums_of_first(counts / (tp + fp) ** 2) for counts in (fp, tp))
    value = float(precision.mean())
    if thresholds[-1] < in_dist.min():
        return Estimate(value, np.zeros(len(in_dist)), np.zeros(len(ood)))
    own = np.searchsorted(thresholds, ood, side="left")
    return Estimate(
        value,
        # The mean over OOD images has a factor 1 / M, which the share of one of N turns to N / M.
        of_in_dist=-lost[np.searchsorted(thresholds, in_dist, side="right")]
        * (len(in_dist) / len(ood)),
        of_ood=precision[own] + gained[np.searchsorted(thresholds, ood, side="right")],
    )


def _average_precision_in(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    swapped = _average_precision(-ood, -in_dist)
    return Estimate(swapped.value, of_in_dist=swapped.of_ood, of_ood=swapped.of_in_dist)


def _sums_of_first(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, ... all values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _fpr95(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> float:
    needed = -(-TPR_PERCENT * len(ood) // 100)  # rounded up, in whole numbers
    threshold = np.partition(ood, -needed)[-needed]
    return int((in_dist >= threshold).sum()) / len(in_dist)


def _checked(which: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"{which} scores have shape {array.shape}, expected [N]")
    if len(array) == 0:
        raise UserError(f"{which} scores are empty: AUROC needs at least one image of each kind")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        shown = few([f"{i} ({array[i]})" for i in bad])
        raise UserError(
            f"{which} scores: {len(bad)} of {len(array)} are not finite, at positions {shown}"
        )
    return array
