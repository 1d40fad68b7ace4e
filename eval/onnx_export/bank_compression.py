"""Compression of a bank: M features are replaced with a few weighted centres, for a small file.

    full         s(x) = -log(sum_m  1/M  exp(cos(f(x), f_m) / tau))
    compressed   s(x) = -log(sum_j  w_j  exp(cos(f(x), c_j) / tau))

c_j is the direction of the mean of cluster j. w_j is the share of the bank's features that are in
cluster j. The mean of exponentials is not the exponential of the mean. The compression therefore
shifts all scores, by about the same amount. Decisions stay valid, because the calibration scores
are computed with the compressed bank too. But AUROC may drop a little. `detector_file.py` measures
how much AUROC drops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from shards.errors import UserError

SEED = 0
"""Seed of k-means."""
STARTS = 3
"""Number of random starts of k-means. The best result is used."""


@dataclass(frozen=True)
class Bank:
    """A compressed bank: N weighted centres of width d."""

    centres: Tensor
    """Centres as unit vectors, float32 [N, d]."""
    weights: Tensor
    """Number of features that each centre stands for, float32 [N]."""


def compressed_bank(features: Tensor, count: int) -> Bank:
    """Compress a bank to at most `count` centres, with k-means on the directions of the features.

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
    # The centres are computed again, because MiniBatchKMeans has only running means.
    sums = np.zeros((count, unit.shape[1]))
    np.add.at(sums, labels, unit)
    means, used = torch.from_numpy(sums[sizes > 0]), torch.from_numpy(sizes[sizes > 0])
    device = features.device
    return Bank(F.normalize(means, dim=1).float().to(device), used.float().to(device))
