"""From scores to decisions, by held-out in-distribution scores alone (conformal prediction).

If an image is of the in-distribution, its score and the n calibration scores can stand in any order
with equal chance. So its rank among them is uniform, and

    p = (1 + number of calibration scores >= s) / (n + 1)

is at most f with a probability of at most f, whatever the network, however many ties there are
(Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010). An image is called OOD if p <= f, the
false-positive rate that was asked for. The promise is kept on average over calibration sets: with
k = floor(f (n + 1)), the rate of one set is Beta(k, n + 1 - k) distributed around k / (n + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.errors import UserError


class Calibration:
    """Scores of in-distribution images that neither the training nor the bank has seen."""

    def __init__(self, scores: ArrayLike) -> None:
        """Of float32 or float64 [n].

        Raises:
            UserError: there is none, or one is not finite.
        """
        self.scores: NDArray[np.float64] = np.sort(np.asarray(scores, np.float64).reshape(-1))
        """float64 [n], ascending."""
        if not len(self.scores):
            raise UserError("calibration: no scores; it needs at least one in-distribution image")
        bad = int((~np.isfinite(self.scores)).sum())
        if bad:
            raise UserError(f"calibration: {bad} of {len(self.scores)} scores are not finite")

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probability that an in-distribution image scores as high: [N] -> float64 [N].

        In [1 / (n + 1), 1]; NaN where the score is NaN.
        """
        asked = np.asarray(scores, np.float64)
        count = len(self.scores)
        below = np.searchsorted(self.scores, asked, side="left")
        return np.where(np.isnan(asked), np.nan, (1 + count - below) / (count + 1))

    def threshold(self, fpr: float) -> float:
        """What a score must exceed to have a p-value of at most `fpr`: a calibration score.

        Raises:
            UserError: see `check_fpr`.
        """
        self.check_fpr(fpr)
        count = len(self.scores)
        return float(self.scores[count - _allowed(fpr, count)])

    def check_fpr(self, fpr: float) -> None:
        """Refuse a false-positive rate that cannot be promised; see `check_fpr` of this file."""
        check_fpr(fpr, len(self.scores))


def check_fpr(fpr: float, count: int) -> None:
    """Refuse a false-positive rate that `count` calibration images cannot promise.

    Raises:
        UserError: it is not between 0 and 1, or below the smallest p-value.
    """
    if not 0 < fpr < 1:
        raise UserError(f"--fpr is {fpr}, expected a number between 0 and 1")
    if fpr < 1 / (count + 1):
        raise UserError(
            f"--fpr is {fpr:g}, but {count} calibration images can promise no rate below "
            f"1/{count + 1} = {1 / (count + 1):.3g}; use more of them, or a higher rate"
        )


def rate_of_one_set(fpr: float, count: int) -> tuple[float, float]:
    """Mean and standard deviation, over calibration sets, of the rate that one of them gives.

    Args:
        fpr: the rate that is asked for, one that `check_fpr` accepts.
        count: n, images of the calibration set.
    """
    allowed = _allowed(fpr, count)
    mean = allowed / (count + 1)
    return mean, float(np.sqrt(mean * (1 - mean) / (count + 2)))


def _allowed(fpr: float, count: int) -> int:
    """k: how many p-values are at most `fpr`."""
    # By the p-values themselves: fpr * (n + 1) may be rounded to below a whole number.
    return int(np.searchsorted(np.arange(1, count + 1) / (count + 1), fpr, side="right"))
