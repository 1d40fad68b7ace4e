"""The weights of an ensemble, from normal images and synthetic outliers alone, without labels.

Legend: N images, m members, s the score of a member, F families of synthetic outliers.

    z      clip((s - mean) / deviation, -5, 20), with the moments of normal images
    p      max(mean over the families of AUROC - 1/2, 0)^2, divided by the largest p
    w      argmin over w >= 0 and b of
               E_normal (w.z + b)^2 + mean over families E_family (w.z + b - 1)^2
               + 10 sum over members of w^2 / p
    w      0 if it is below 2 % of the sum, or below 4 % for a sum over turns; divided by the sum
    score  w.z

This is stacking with non-negative weights (Breiman 1996, "Stacked Regressions"). Weights are
>= 0, because a member that calls synthetic outliers more normal than normal images need not do so
for real ones. The last term is a ridge that is weaker for members that see more families. It keeps
members that are alike from pushing each other out, which made the weights depend on the families.
Members with a small weight are left out, because each costs time for every image that is scored. A
sum over four turns costs most, with four passes through the network.
`python -m benchmarks.board` compares the ensemble with its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from eval.metrics import auroc

Float = NDArray[np.float64]

RIDGE = 10.0
"""Strength of the ridge, relative to the mean squared error."""
LEAST_WEIGHT, LEAST_OF_TURNS = 0.02, 0.04
"""Share of the sum of all weights below which a weight becomes 0, and the same for a sum over
turns."""
LOWEST, HIGHEST = -5.0, 20.0
"""Limits of a z-score. One member alone cannot outvote all others without limit."""


@dataclass(frozen=True)
class Moments:
    """The mean and the standard deviation of each member's scores on normal images."""

    mean: Float
    """float64 [m]."""
    deviation: Float
    """float64 [m], > 0."""
    limits: tuple[float, float] = (LOWEST, HIGHEST)
    """Limits of the z-scores."""

    @classmethod
    def none(cls) -> Moments:
        """Return moments of one member that leave its scores as they are."""
        return cls(np.zeros(1), np.ones(1), (-np.inf, np.inf))

    @classmethod
    def of(cls, scores: Float) -> Moments:
        """Return the moments of scores, float64 [N, m].

        A member with equal scores for all images gets a deviation of 1, so that its z-score is 0.
        """
        mean, deviation = scores.mean(0), scores.std(0)
        return cls(mean, np.where(deviation > _rounding(mean), deviation, 1.0))

    def z(self, scores: Float) -> Float:
        """Return z-scores, float64 [N, m], of scores, float64 [N, m]."""
        return ((scores - self.mean) / self.deviation).clip(*self.limits)

    def of_members(self, numbers: NDArray[np.int64]) -> Moments:
        """Return the moments of some of the members."""
        return replace(self, mean=self.mean[numbers], deviation=self.deviation[numbers])


def weights_of(normal: Float, outliers: Sequence[Float], is_turned: Sequence[bool]) -> Float:
    """Return the weights that tell synthetic outliers from normal images (see above).

    Every family has the same influence, whatever the number of its images.

    Args:
        normal: z-scores of N normal images, float64 [N, m].
        outliers: z-scores of the images of each family, float64 [n, m] each, n >= 1.
        is_turned: for each member, True if it is a sum over turns.

    Returns:
        float64 [m], >= 0, with a sum of 1. All weights are equal if no member tells any family from
        the normal images.
    """
    trust = _trust(normal, outliers)
    members = np.flatnonzero(trust)
    weights = np.zeros(len(trust))
    if len(members):
        # v = w / sqrt(p) has the same ridge for all members.
        root = np.sqrt(trust[members])
        weights[members] = root * _ridge(
            normal[:, members] * root, [family[:, members] * root for family in outliers]
        )
    if not weights.any():
        return np.full(len(weights), 1 / len(weights))
    least = np.where(is_turned, LEAST_OF_TURNS, LEAST_WEIGHT)
    is_worth_it = weights >= least * weights.sum()
    weights = np.where(is_worth_it, weights, 0) if is_worth_it.any() else weights
    return weights / weights.sum()


def _trust(normal: Float, outliers: Sequence[Float]) -> Float:
    """Return p of each member, float64 [m], in [0, 1]."""
    seen = [
        np.mean([auroc(z, family[:, member]) for family in outliers])
        for member, z in enumerate(normal.T)
    ]
    trust = np.maximum(np.array(seen) - 0.5, 0) ** 2
    return trust / (trust.max() or 1)


def _ridge(normal: Float, outliers: Sequence[Float]) -> Float:
    """Return the v >= 0, float64 [m], that minimise the error plus `RIDGE` times |v|^2."""
    members = normal.shape[1]
    rows = [(normal, 0.0, 1.0), *((family, 1.0, 1 / len(outliers)) for family in outliers)]
    # Roots, because the solver squares the errors. The constant b is the difference of two columns.
    roots = np.concatenate([np.full(len(z), np.sqrt(share / len(z))) for z, _, share in rows])
    target = np.concatenate([np.full(len(z), value) for z, value, _ in rows])
    z = np.concatenate([z for z, _, _ in rows])
    design = np.hstack([z, np.ones((len(z), 1)), -np.ones((len(z), 1))]) * roots[:, None]
    ridge = np.sqrt(RIDGE) * np.eye(members, members + 2)
    found, _ = nnls(np.vstack([design, ridge]), np.concatenate([target * roots, np.zeros(members)]))
    return found[:members]


def _rounding(mean: Float) -> Float:
    """Return the largest deviation that float32 rounding alone may give."""
    return 1e-6 * np.abs(mean) + 1e-12
