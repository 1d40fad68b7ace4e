"""95 % intervals of metrics, computed from the contribution of each image to the metric.

Legend: N in-distribution images; J OOD sets with M_j images in set j; A a metric's value.

AUROC and AUPR are averages over images, or nearly so. The contribution of one image to the average
is called its component. For AUROC, the components are the placements of DeLong, DeLong and
Clarke-Pearson (1988). For AUPR, they are values of the influence function. Then

    variance = var(components of the N) / N + sum over sets of var(components of the M_j) / M_j

If the value is a mean over J sets, all components are divided by J. All sets share the
in-distribution images, so the J components of an in-distribution image are summed first. The
interval is symmetric in logit(A), which keeps it within 0 and 1.

The variance is sometimes 0 (for example if all scores are equal) or unknown (if a kind has only one
image). Then the images are seen as n = min(N, M_j) pairs of one OOD and one in-distribution image,
and no two pairs share an image. The OOD image scores higher in n * A of the pairs. The interval is
the Clopper-Pearson interval of that share.

No interval is narrower than n pairs can justify. After n pairs without an exception, exceptions may
still have a share of 1 - 0.025^(1/n), which is about 3.7 / n (Clopper and Pearson 1934). The rule
of three gives 3 / n instead, because it puts all 5 % at one end. The lower end of an interval is
therefore never above 0.025^(1/n), even at A = 1. Without this limit, an AUROC of 99 % could have a
higher lower end than an AUROC of 100 %. Upper ends are limited in the same way, for A = 0. For
AUROC the limit is exact: the chance that all OOD images score above all in-distribution images is
at most A^n. For AUPR the limit covers OOD images with low scores. It does not cover rare
in-distribution images that score above all others: if the sample has none of them, the true AUPR
may be lower.

Measured coverage, for 300 draws of normal scores with an AUROC of 0.5 to 0.999 and 10 to 3,000
images of each kind: AUROC 93 to 99 %, FPR95 97 to 100 %, AUPR 93 to 100 %. The exception is AUPR
with 10 images of each kind at an AUROC of 0.5: its coverage is 90 %, because its value is biased a
little upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, ndtri

TAIL = 0.025
"""Probability that the true value lies below the interval; also the probability that it lies above.
"""
DRAWS = 4000
"""Number of random draws from which an interval of FPR95 is computed."""
ROUNDING = 1e-12
"""Largest relative difference between two numbers that is taken as a rounding error."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval. All three are in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A metric of one OOD set, with the component of each image.

    A constant may be added to all components of one kind of image, because only variances are used.
    """

    value: float
    of_in_dist: NDArray[np.float64]
    """Components of the in-distribution images, float64 [N]."""
    of_ood: NDArray[np.float64]
    """Components of the OOD images, float64 [M]."""


def mean_interval(estimates: Sequence[Estimate]) -> Interval:
    """Return the mean of a metric over OOD sets, with its 95 % interval.

    Args:
        estimates: one estimate per OOD set. All sets are compared with the same in-distribution
            images, so `of_in_dist` has the same order of images in all estimates.
    """
    count = len(estimates)
    value = float(np.mean([estimate.value for estimate in estimates]))
    shared = np.mean([estimate.of_in_dist for estimate in estimates], axis=0)
    fewest = min(len(shared), *(len(estimate.of_ood) for estimate in estimates))
    variance = 0.0
    if fewest > 1:
        variance = _variance_of_mean(shared)
        variance += sum(_variance_of_mean(estimate.of_ood) for estimate in estimates) / count**2
    if not 0 < value < 1:
        low = high = value
    elif variance > 0:
        half = -ndtri(TAIL) * np.sqrt(variance) / (value * (1 - value))
        low, high = expit(logit(value) + np.array([-half, half]))
    else:
        low, high = _clopper_pearson(fewest * value, fewest)
    perfect_low = TAIL ** (1 / fewest)
    return _interval(value, min(low, perfect_low), max(high, 1 - perfect_low))


def rate_interval(
    value: float,
    in_dist: NDArray[np.float64],
    ood_sets: Sequence[NDArray[np.float64]],
    tpr: float,
) -> Interval:
    """Return the interval of FPR95, or of the same rate at another TPR.

    For one OOD set, the rate is the share of in-distribution scores at or above a quantile of the
    OOD scores. `value` is the mean of this share over the OOD sets. Two things are unknown. Both
    are drawn `DRAWS` times with a fixed seed:

    - The true quantile of the OOD scores of a set. The number of the M scores at or above the
      quantile is binomial (M, tpr), so the quantile lies between two neighbouring scores. Each end
      of the interval uses the neighbour that makes the interval wider. With fewer than 72 scores,
      even the lowest score may lie above the 5 % quantile, and the interval then ends near 1.
    - The true share of in-distribution scores above that quantile. If k of N scores are above, the
      share is drawn from Beta (k + 1/2, N - k + 1/2) (Jeffreys). Several sets share the
      in-distribution images, so their shares are drawn from one Dirichlet distribution.

    Args:
        value: the measured mean share.
        in_dist: in-distribution scores, float64 [N].
        ood_sets: OOD scores of each set, float64 [M_j].
        tpr: share of OOD scores at or above the quantile, in (0, 1).
    """
    rng = np.random.default_rng(0)
    ascending = np.sort(in_dist)
    above = [rng.binomial(len(ood), tpr, DRAWS) for ood in ood_sets]
    ends = []
    for beyond in (0, 1):
        # The score at place `above` among the descending scores, with infinity added at both ends.
        limits = [
            np.concatenate([[np.inf], -np.sort(-ood), [-np.inf]])[places + beyond]
            for ood, places in zip(ood_sets, above, strict=True)
        ]
        counts = len(in_dist) - np.searchsorted(ascending, np.stack(limits, axis=1), side="left")
        ends.append(_drawn_shares(rng, np.sort(counts, axis=1), len(in_dist)).mean(axis=1))
    low, high = np.quantile(ends[0], TAIL), np.quantile(ends[1], 1 - TAIL)
    return _interval(value, low, high)


def share_interval(value: float, count: int) -> Interval:
    """Return the Clopper-Pearson interval of a share that was measured on `count` images."""
    return _interval(value, *_clopper_pearson(value * count, count))


def _drawn_shares(
    rng: np.random.Generator, counts: NDArray[np.int64], of: int
) -> NDArray[np.float64]:
    """Draw true shares of images, given the measured counts.

    The images of a smaller count are contained in the images of a larger count. The shares are
    therefore sums over one list of gamma variates.

    Args:
        rng: random generator.
        counts: measured numbers of images, int64 [draws, J], ascending along J.
        of: number of all images.

    Returns:
        float64 [draws, J] in [0, 1].
    """
    steps = np.diff(counts, axis=1, prepend=0, append=of).astype(np.float64)
    steps[:, [0, -1]] += 0.5
    parts = rng.standard_gamma(steps)
    return np.cumsum(parts, axis=1)[:, :-1] / parts.sum(axis=1, keepdims=True)


def _variance_of_mean(components: NDArray[np.float64]) -> float:
    # The mean of equal numbers may be rounded, and np.var then returns 1e-35 instead of 0.
    if np.ptp(components) <= ROUNDING * np.abs(components).max():
        return 0.0
    return float(np.var(components, ddof=1)) / len(components)


def _clopper_pearson(won: float, of: int) -> tuple[float, float]:
    low = betaincinv(won, of - won + 1, TAIL) if won > 0 else 0.0
    high = betaincinv(won + 1, of - won, 1 - TAIL) if won < of else 1.0
    return low, high


def _interval(value: float, low: float, high: float) -> Interval:
    # The value must lie in its interval, in spite of rounding and of sets with few images.
    return Interval(value, min(float(low), value), max(float(high), value))
