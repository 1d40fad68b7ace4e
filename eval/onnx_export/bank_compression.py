"""Compression of a bank: M features become a few weighted centres, so that the file is small.

    full         s(x) = -log(sum_m  1/M  exp(cos(f(x), f_m) / tau))
    compressed   s(x) = -log(sum_j  w_j  exp(cos(f(x), c_j) / tau))

c_j is the direction of the mean of a cluster, and w_j is the share of the bank that is in the
cluster. The mean of exponentials is not the exponential of the mean, so the scores shift, all by
about the same amount. Decisions stay valid, because the calibration scores come from the compressed
bank too. What remains is a loss of AUROC, which `detector_file.py` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from eval.scores.cosine import score
from eval.sets.opening import BANK
from shards.errors import UserError

SEED = 0
"""Seed of k-means."""
STARTS = 3
"""Random starts of k-means; the best one is used."""


@dataclass(frozen=True)
class Bank:
    """A bank, full or compressed: N weighted centres of width d."""

    centres: Tensor
    """Unit vectors: float32 [N, d]."""
    weights: Tensor
    """Number of features that each centre stands for: float32 [N]."""

    def scores(self, features: Tensor, tau: float, name: str) -> NDArray[np.float64]:
        """Return the log form of Eq. 6 for features; see `eval/scores/cosine.py`.

        Args:
            features: float32 [n, d] on the device of the bank.
            tau: temperature, > 0.
            name: name of `features` for messages of errors.

        Returns:
            [n]; higher = more OOD.
        """
        names = (name, BANK)
        return score(features, self.centres, tau, weights=self.weights, names=names).cpu().numpy()


def full_bank(features: Tensor) -> Bank:
    """Return a bank of all features, float32 [M, d]."""
    return Bank(F.normalize(features, dim=1), torch.ones(len(features), device=features.device))


def compressed_bank(features: Tensor, count: int) -> Bank:
    """Return a bank of at most `count` centres, by k-means on the directions of the features.

    Args:
        features: float32 [M, d].
        count: number of clusters, from 1 to M - 1. Empty clusters are left out.

    Raises:
        UserError: `count` is out of range.
    """
    if not 1 <= count < len(features):
        raise UserError(
            f"--bank is {count}, expected full, or 1 to {len(features) - 1}: the bank has "
            f"{len(features)} features"
        )
    unit = F.normalize(features, dim=1).cpu().numpy()
    labels = MiniBatchKMeans(count, random_state=SEED, n_init=STARTS).fit_predict(unit)
    sizes = np.bincount(labels, minlength=count)
    # The centres are computed again, because k-means has only running means of mini-batches.
    sums = np.zeros((count, unit.shape[1]))
    np.add.at(sums, labels, unit)
    means, used = torch.from_numpy(sums[sizes > 0]), torch.from_numpy(sizes[sizes > 0])
    device = features.device
    return Bank(F.normalize(means, dim=1).float().to(device), used.float().to(device))
