"""A bank of M features as a few weighted centres, for a file that is to be small.

    full         s(x) = -log(sum_m  1/M  exp(cos(f(x), f_m) / tau))
    compressed   s(x) = -log(sum_j  w_j  exp(cos(f(x), c_j) / tau))

c_j is the direction of the mean of a cluster and w_j the cluster's share of the bank. The mean of
exponentials is not that of their mean, so scores shift, all in about the same way; decisions allow
for that, since the calibration scores are made with the same bank. What is left is a loss of AUROC,
which `export.py` measures.
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
STARTS = 3


@dataclass(frozen=True)
class Bank:
    """What is compared with: N centres of width d."""

    centres: Tensor
    """float32 [N, d], of length 1."""
    weights: Tensor
    """float32 [N], how many features each stands for."""

    def scores(self, features: Tensor, tau: float, name: str) -> NDArray[np.float64]:
        """Scores of float32 [n, d], which an error calls `name`: [n]; higher = more OOD."""
        names = (name, BANK)
        return score(features, self.centres, tau, weights=self.weights, names=names).cpu().numpy()


def full_bank(features: Tensor) -> Bank:
    """All of float32 [M, d]."""
    return Bank(F.normalize(features, dim=1), torch.ones(len(features), device=features.device))


def compressed_bank(features: Tensor, count: int) -> Bank:
    """At most `count` centres by k-means of the directions of float32 [M, d].

    Raises:
        UserError: the bank is not larger than that.
    """
    if not 1 <= count < len(features):
        raise UserError(
            f"--bank is {count}, expected full, or 1 to {len(features) - 1}: the bank has "
            f"{len(features)} features"
        )
    unit = F.normalize(features, dim=1).cpu().numpy()
    labels = MiniBatchKMeans(count, random_state=SEED, n_init=STARTS).fit_predict(unit)
    sizes = np.bincount(labels, minlength=count)
    # The centres that were fitted are running means of mini-batches; these are exact.
    sums = np.zeros((count, unit.shape[1]))
    np.add.at(sums, labels, unit)
    means, used = torch.from_numpy(sums[sizes > 0]), torch.from_numpy(sizes[sizes > 0])
    device = features.device
    return Bank(F.normalize(means, dim=1).float().to(device), used.float().to(device))
