"""SSD's score: the Mahalanobis distance to the nearest cluster of the bank.

Legend: N test images, M images of the bank, d feature width, c clusters.

    z     f / |f|
    s(x)  min_c (z - mu_c)' Sigma_c^-1 (z - mu_c)

(Sehwag et al. 2021, "SSD: A Unified Framework for Self-Supervised Outlier Detection", section 3.)
Clusters are those of k-means on the z of the bank, one by default as in the paper; mu_c and Sigma_c
are the mean and the covariance of each cluster's z. Higher = more OOD.

Features of a network fill few of their dimensions, and there a covariance has no inverse. So each
Sigma_c is shrunk towards the multiple of the identity that has its trace,

    Sigma_c <- (1 - a) Sigma_c + a (trace Sigma_c / d) I,  a = 1e-3

which leaves large variances as they are, and keeps the smallest from the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from eval.features.checks import check_features
from shards.errors import UserError

SHRINKAGE = 1e-3
"""a."""
SEED = 0
"""Of k-means."""
TILE = 4096
LEAST_VARIANCE = 1e-12
"""Of a cluster, summed over the dimensions: below it all are the same feature, but for rounding."""


class NoCovarianceError(UserError):
    """The features of a cluster do not differ: those of a network that has collapsed."""


@dataclass(frozen=True)
class Mahalanobis:
    """Clusters of a bank, to score other features by."""

    centres: Tensor
    """float64 [c, d]."""
    whitening: Tensor
    """W with |W (z - mu)|^2 the squared distance: inverse Cholesky factors, float64 [c, d, d]."""

    @classmethod
    @torch.no_grad()
    def fit(cls, bank: Tensor, clusters: int = 1, name: str = "bank") -> Mahalanobis:
        """Find the clusters of a bank.

        Args:
            bank: float32 [M, d], on the CPU or a CUDA device.
            clusters: c, >= 1.
            name: what an error calls `bank`.

        Raises:
            UserError: there are no features, or some without a direction; or fewer clusters than 1.
            NoCovarianceError: a cluster holds only one feature, or equal ones.
        """
        check_features(name, bank)
        if not 1 <= clusters <= len(bank):
            raise UserError(f"{name}: clusters is {clusters}, expected 1 to {len(bank)}, its size")
        labels = None if clusters == 1 else _labels(bank, clusters)
        centres, whitening = [], []
        for cluster in range(clusters):
            count, centre, covariance = _moments(bank, labels, cluster)
            variance = covariance.trace()
            if variance < LEAST_VARIANCE:
                raise NoCovarianceError(
                    f"{name}: cluster {cluster} of {clusters} holds {count} features that "
                    "do not differ, so it has no covariance"
                )
            identity = torch.eye(len(covariance), dtype=torch.float64, device=bank.device)
            shrunk = (1 - SHRINKAGE) * covariance
            shrunk += SHRINKAGE * variance / len(covariance) * identity
            factor = torch.linalg.cholesky(shrunk)
            centres.append(centre)
            whitening.append(torch.linalg.solve_triangular(factor, identity, upper=False))
        return cls(torch.stack(centres), torch.stack(whitening))

    @torch.no_grad()
    def score(self, test: Tensor, name: str = "test set") -> Tensor:
        """Squared distance of each feature to the nearest cluster.

        Args:
            test: float32 [N, d], on the device of the bank.
            name: what an error calls `test`.

        Returns:
            float64 [N], >= 0. Higher = more OOD.

        Raises:
            UserError: there are no features, or some without a direction.
        """
        check_features(name, test)
        found = []
        for part in test.split(TILE):
            away = _unit(part) - self.centres[:, None]  # [c, n, d]
            found.append((away @ self.whitening.mT).square().sum(-1).amin(0))
        return torch.cat(found)


def _labels(bank: Tensor, clusters: int) -> Tensor:
    """Cluster of each feature, int64 [M]."""
    found = KMeans(clusters, n_init=10, random_state=SEED).fit(_unit(bank).cpu().numpy())
    return torch.from_numpy(found.labels_.astype(np.int64)).to(bank.device)


def _moments(bank: Tensor, labels: Tensor | None, cluster: int) -> tuple[int, Tensor, Tensor]:
    """How many features a cluster has, their mean [d], and their covariance [d, d] about it."""
    count, width = 0, bank.shape[1]
    total = torch.zeros(width, dtype=torch.float64, device=bank.device)
    for members in _members(bank, labels, cluster):
        count += len(members)
        total += members.sum(0)
    centre = total / count
    # A pass of its own: sums of squares would lose what a small variance is.
    squares = torch.zeros(width, width, dtype=torch.float64, device=bank.device)
    for members in _members(bank, labels, cluster):
        away = members - centre
        squares += away.T @ away
    return count, centre, squares / count


def _members(bank: Tensor, labels: Tensor | None, cluster: int) -> Iterator[Tensor]:
    """The unit features of a cluster, float64 [n, d], tile by tile; of all without labels."""
    for first in range(0, len(bank), TILE):
        part = bank[first : first + TILE]
        yield _unit(part if labels is None else part[labels[first : first + TILE] == cluster])


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=1)
