"""Conformal prediction: p-values and thresholds from the scores of a calibration set.

If an image is in-distribution, its score s and the n calibration scores are exchangeable: every
order of these n + 1 scores is equally likely. The rank of s among them is therefore uniform, and
the p-value

    p = (1 + number of calibration scores >= s) / (n + 1)

is at most f with a probability of at most f. This holds for any network and with any number of ties
(Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010). An image is called OOD if p <= f,
where f is the chosen false-positive rate. The guarantee is an average over calibration sets. For a
single calibration set, the false-positive rate has the distribution Beta(k, n + 1 - k) with k =
floor(f (n + 1)). The mean of this distribution is k / (n + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.errors import UserError


class Calibration:
    """Scores of n in-distribution images that are neither in the training set nor in the bank."""

    def __init__(self, scores: ArrayLike) -> None:
        """Store the calibration scores.

        Args:
            scores: float32 or float64 [n], in any order.

        Raises:
            UserError: there are no scores, or a score is not finite.
        """
        self.scores: NDArray[np.float64] = np.sort(np.asarray(scores, np.float64).reshape(-1))
        """The calibration scores in ascending order, float64 [n]."""
        if not len(self.scores):
            raise UserError("calibration: no scores; it needs at least one in-distribution image")
        bad = int((~np.isfinite(self.scores)).sum())
        if bad:
            raise UserError(f"calibration: {bad} of {len(self.scores)} scores are not finite")

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return p-values: the probability that an in-distribution image scores at least as high.

        Args:
            scores: [N]. NaN means that an image has no score.

        Returns:
            float64 [N], in [1 / (n + 1), 1]. NaN where the score is NaN.
        """
        asked = np.asarray(scores, np.float64)
        count = len(self.scores)
        below = np.searchsorted(self.scores, asked, side="left")
        return np.where(np.isnan(asked), np.nan, (1 + count - below) / (count + 1))

    def threshold(self, fpr: float) -> float:
        """Return the threshold. A score above the threshold has a p-value of at most `fpr`.

        The threshold is one of the calibration scores.

        Raises:
            UserError: see `check_fpr`.
        """
        count = len(self.scores)
        check_fpr(fpr, count)
        return float(self.scores[count - _allowed(fpr, count)])


def check_fpr(fpr: float, count: int) -> None:
    """Refuse a false-positive rate that `count` calibration images cannot guarantee.

    Raises:
        UserError: the rate is not between 0 and 1, or is below the smallest possible p-value.
    """
    if not 0 < fpr < 1:
        raise UserError(f"--fpr is {fpr}, expected a number between 0 and 1")
    if fpr < 1 / (count + 1):
        raise UserError(
            f"--fpr is {fpr:g}, but {count} calibration images can promise no rate below "
            f"1/{count + 1} = {1 / (count + 1):.3g}; use more of them, or a higher rate"
        )


def rate_of_one_set(fpr: float, count: int) -> tuple[float, float]:
    """Return the mean and the standard deviation of the false-positive rate of a calibration set.

    Each calibration set gives another rate. The mean and the deviation are over random calibration
    sets of n images.

    Args:
        fpr: the chosen false-positive rate. `check_fpr` must accept it.
        count: n, the number of calibration images.
    """
    allowed = _allowed(fpr, count)
    mean = allowed / (count + 1)
    return mean, float(np.sqrt(mean * (1 - mean) / (count + 2)))


def _allowed(fpr: float, count: int) -> int:
    """Return k, the number of p-values 1 / (n + 1), ..., n / (n + 1) that are at most `fpr`.

    Args:
        fpr: the chosen false-positive rate.
        count: n, the number of calibration images.
    """
    # Not floor(fpr * (n + 1)), because the product may be rounded to just below a whole number.
    return int(np.searchsorted(np.arange(1, count + 1) / (count + 1), fpr, side="right"))
