"""How sure a metric is: a 95 % interval from what each image adds to it.

Legend: N in-distribution images, M OOD images (of set j of J: M_j), A a metric's value.

AUROC and AUPR are averages over images, or nearly so: what one image adds is its component (the
placement of DeLong, DeLong and Clarke-Pearson 1988 for AUROC, the influence function for AUPR), and

    variance = var(components of the N) / N + sum over sets of var(components of the M_j) / M_j

where the value is a mean over J sets, components are divided by J, and those of an in-distribution
image are summed over the sets first: all sets share it. The interval is symmetric in logit(A), so
that it stays within 0 and 1.

Where that variance is 0 (as where all scores are equal), or unknown (one image of a kind), the
images are taken as n = min(N, M_j) pairs, no two with an image in common, of which n * A are won:
Clopper-Pearson.

No interval says more than that of a perfect separation: of n pairs without an exception, exceptions
may be a share of 1 - 0.025^(1/n) (Clopper and Pearson 1934; about 3.7 / n, as the rule of three has
3 / n with all 5 % at one end). So 0.025^(1/n) is the lower end at A = 1, and no lower end is above
it, or 99 % would be surer than 100 %; upper ends likewise where all pairs are lost. For AUROC this
is exact: all OOD images lie above all others with a chance of at most A^n. Of AUPR it covers OOD
images that lie below; a few in-distribution images above all others, of which none was seen, may
cost more.

How often intervals hold the truth, of 300 draws of normal scores with an AUROC of 0.5 to 0.999 and
10 to 3,000 images of a kind: AUROC 93 to 99 %, FPR95 97 to 100 %, AUPR 93 to 100 %, and 90 % with
10 images of each kind at an AUROC of 0.5, its value being biased a little upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, ndtri

Interval = dict[str, float]
"""`value`, and `low` and `high` of its 95 % interval, all in [0, 1]."""
TAIL = 0.025
"""What an interval leaves out at either end."""
DRAWS = 4000
ROUNDING = 1e-12
"""Relative difference of sums that differ by their rounding alone."""


@dataclass(frozen=True)
class Estimate:
    """A metric of one OOD set, and what each image adds to it, up to a constant for each kind."""

    value: float
    of_in_dist: NDArray[np.float64]
    """float64 [N]."""
    of_ood: NDArray[np.float64]
    """float64 [M]."""


def mean_interval(estimates: Sequence[Estimate]) -> Interval:
    """The mean of a metric over OOD sets that were held against the same in-distribution images.

    Args:
        estimates: one a set, each with `of_in_dist` of the same images in the same order.
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
    """The mean over OOD sets of the share of in-distribution scores above a quantile of the set.

    Two things are not known, and both are drawn `DRAWS` times with a fixed seed. Of a set's M
    scores, as many as a binomial (M, tpr) says lie at or above its true quantile: so that lies
    between two neighbouring scores, and each end of the interval takes the farther of them. Below
    72 scores even the lowest may lie above the 5 % quantile: the interval then ends near 1. With k
    of N in-distribution scores above, the true share is a Beta (k + 1/2, N - k + 1/2) (Jeffreys),
    for several sets of the same images one Dirichlet.

    Args:
        value: the mean rate that was found.
        in_dist: float64 [N].
        ood_sets: each float64 [M_j].
        tpr: share of OOD scores at or above the quantile, in (0, 1).
    """
    rng = np.random.default_rng(0)
    ascending = np.sort(in_dist)
    above = [rng.binomial(len(ood), tpr, DRAWS) for ood in ood_sets]
    ends = []
    for beyond in (0, 1):
        # Of a set's scores in descending order, with an open end, the one at place `above`.
        limits = [
            np.concatenate([[np.inf], -np.sort(-ood), [-np.inf]])[places + beyond]
            for ood, places in zip(ood_sets, above, strict=True)
        ]
        counts = len(in_dist) - np.searchsorted(ascending, np.stack(limits, axis=1), side="left")
        ends.append(_drawn_shares(rng, np.sort(counts, axis=1), len(in_dist)).mean(axis=1))
    low, high = np.quantile(ends[0], TAIL), np.quantile(ends[1], 1 - TAIL)
    return _interval(value, low, high)


def share_interval(value: float, count: int) -> Interval:
    """Clopper and Pearson's interval of a share of `count` images."""
    return _interval(value, *_clopper_pearson(value * count, count))


def _drawn_shares(
    rng: np.random.Generator, counts: NDArray[np.int64], of: int
) -> NDArray[np.float64]:
    """True shares, where `counts` of so many images were found: ascending [draws, J] -> [0, 1].

    Shares that contain each other are sums of the same gamma variates.
    """
    steps = np.diff(counts, axis=1, prepend=0, append=of).astype(np.float64)
    steps[:, [0, -1]] += 0.5
    parts = rng.standard_gamma(steps)
    return np.cumsum(parts, axis=1)[:, :-1] / parts.sum(axis=1, keepdims=True)


def _variance_of_mean(components: NDArray[np.float64]) -> float:
    # The rounded mean of equal numbers is another number, which makes a variance of 1e-35.
    if np.ptp(components) <= ROUNDING * np.abs(components).max():
        return 0.0
    return float(np.var(components, ddof=1)) / len(components)


def _clopper_pearson(won: float, of: int) -> tuple[float, float]:
    low = betaincinv(won, of - won + 1, TAIL) if won > 0 else 0.0
    high = betaincinv(won + 1, of - won, 1 - TAIL) if won < of else 1.0
    return low, high


def _interval(value: float, low: float, high: float) -> Interval:
    # Rounding, and the few images of which shares are made, may not leave the value outside.
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}
