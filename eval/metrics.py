"""Metrics of OOD detection: AUROC, AUPR and FPR95, and the sign convention, stated here once.

    A HIGHER SCORE IS MORE OOD. OOD is the positive class.

Legend: N in-distribution scores, M OOD scores. All metrics are in [0, 1] and are computed from the
exact scores. There is no binning. Images with equal scores are always on the same side of a
threshold.

    auroc      chance that a random OOD image scores above a random in-distribution image; ties
               count half. 1 = every OOD image scores higher, 0.5 = chance, 0 = the sign is wrong
    aupr_ood   average precision with OOD as the positive class. The precision at an OOD image is
               the share of OOD images among all images that score at least as high; aupr_ood is
               its mean over the OOD images. Nothing is interpolated. Chance is M / (N + M)
    aupr_in    average precision with in-distribution as the positive class and negated scores
    fpr95      share of in-distribution images at or above a threshold. The threshold is the
               highest score that at least 95 % of the OOD images reach. So the TPR is the TPR of
               OOD images; papers with in-distribution as the positive class have another FPR95
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.intervals import Estimate, Interval, mean_interval, rate_interval
from shards.errors import UserError, few

TPR_PERCENT = 95


@dataclass(frozen=True)
class Metrics:
    """All metrics of one OOD set, or their means over several sets. Each has a 95 % interval."""

    samples: int
    """The number of OOD images."""
    auroc: Interval
    aupr_ood: Interval
    aupr_in: Interval
    fpr95: Interval

    @property
    def labelled(self) -> dict[str, Interval]:
        """The metrics as name -> value, with the names that tables and figures show."""
        return {
            "AUROC": self.auroc,
            "AUPR-OOD": self.aupr_ood,
            "AUPR-in": self.aupr_in,
            "FPR95": self.fpr95,
        }


def auroc(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the area under the ROC curve.

    It is computed from the exact scores, without binning. Ties count half.

    Args:
        in_dist_scores: scores of in-distribution test images, float32 or float64 [N].
        ood_scores: scores of OOD images (the positive class), float32 or float64 [M].

    Returns:
        A value in [0, 1].

    Raises:
        UserError: an argument is empty, is not one-dimensional, or holds NaN or Inf.
    """
    return auroc_interval(in_dist_scores, ood_scores).value


def auroc_interval(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> Interval:
    """Return `auroc` with its 95 % interval (method of DeLong, on the logit scale).

    Raises:
        UserError: see `auroc`.
    """
    in_dist, ood = _checked("in-distribution", in_dist_scores), _checked("OOD", ood_scores)
    return mean_interval([_auroc(in_dist, ood)])


def measure(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> Metrics:
    """Return all metrics of one OOD set, each with its 95 % interval (see `eval.intervals`).

    Args:
        in_dist_scores: scores of in-distribution test images, float32 or float64 [N].
        ood_scores: scores of OOD images, float32 or float64 [M].

    Raises:
        UserError: see `auroc`.
    """
    return mean_of_sets(in_dist_scores, [ood_scores])


def mean_of_sets(in_dist_scores: ArrayLike, ood_sets: Sequence[ArrayLike]) -> Metrics:
    """Return the mean of each metric over OOD sets, with its 95 % interval.

    All sets have the same weight.

    Args:
        in_dist_scores: scores of in-distribution test images, float32 or float64 [N]. All sets are
            compared with these scores.
        ood_sets: scores of one or more OOD sets, each float32 or float64 [M].

    Returns:
        The mean metrics. `samples` is the number of OOD images in all sets together.

    Raises:
        UserError: see `auroc`.
    """
    in_dist = _checked("in-distribution", in_dist_scores)
    sets = [_checked("OOD", scores) for scores in ood_sets]
    rate = float(np.mean([_fpr95(in_dist, ood) for ood in sets]))
    return Metrics(
        samples=sum(map(len, sets)),
        auroc=mean_interval([_auroc(in_dist, ood) for ood in sets]),
        aupr_ood=mean_interval([_average_precision(in_dist, ood) for ood in sets]),
        aupr_in=mean_interval([_average_precision_in(in_dist, ood) for ood in sets]),
        fpr95=rate_interval(rate, in_dist, sets, TPR_PERCENT / 100),
    )


def _auroc(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    """Return AUROC with the component of each image.

    The component of an OOD image is the share of in-distribution images that score lower. The
    component of an in-distribution image is the share of OOD images that score higher. Ties count
    half.
    """
    below = _twice_below(np.sort(in_dist), ood)  # twice the number of in-distribution images
    return Estimate(
        int(below.sum()) / (2 * len(in_dist) * len(ood)),
        of_in_dist=1 - _twice_below(np.sort(ood), in_dist) / (2 * len(ood)),
        of_ood=below / (2 * len(in_dist)),
    )


def _twice_below(ascending: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return, for each value in `of`, twice the number of values in `ascending` below it.

    A value that is equal counts as half below.
    """
    below = np.searchsorted(ascending, of, side="left")
    return below + np.searchsorted(ascending, of, side="right")


def _average_precision(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    """Return the average precision, with the component of each image.

    The precision at the score of an OOD image is P = TP / (TP + FP). The average precision is the
    mean of P over the OOD images.

    An image counts in TP or FP at every threshold up to its score. Its component is the sum of the
    changes of P at these thresholds: dP/dTP = FP / (TP + FP)^2 for an OOD image, dP/dFP = -TP / (TP
    + FP)^2 for an in-distribution image. For an OOD image, the P at its own score is added. These
    are derivatives with respect to counts. Derivatives with respect to shares would differ by a
    constant.
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
        # The mean over OOD images has a factor of 1 / M. The components are averaged over N images,
        # so the factor here is N / M.
        of_in_dist=-lost[np.searchsorted(thresholds, in_dist, side="right")]
        * (len(in_dist) / len(ood)),
        of_ood=precision[own] + gained[np.searchsorted(thresholds, ood, side="right")],
    )


def _average_precision_in(in_dist: NDArray[np.float64], ood: NDArray[np.float64]) -> Estimate:
    swapped = _average_precision(-ood, -in_dist)
    return Estimate(swapped.value, of_in_dist=swapped.of_ood, of_ood=swapped.of_in_dist)


def _sums_of_first(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the first 0 values, of the first 1 value, and so on up to all values."""
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
