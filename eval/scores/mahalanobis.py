"""The score of SSD: the squared Mahalanobis distance to the nearest cluster of the bank.

Legend: N test images, M images of the bank, d feature width, c clusters.

    z     f / |f|
    s(x)  min_c (z - mu_c)' Sigma_c^-1 (z - mu_c)

(Sehwag et al. 2021, "SSD: A Unified Framework for Self-Supervised Outlier Detection", section 3.)
k-means finds the clusters of the z of the bank; by default there is one cluster, as in the paper.
mu_c and Sigma_c are the mean and the covariance of the z of a cluster. Higher = more OOD.

Features of a network lie near a subspace of few dimensions, so that their covariance has no stable
inverse. Each Sigma_c is therefore shrunk towards a multiple of the identity with the same trace:

    Sigma_c <- (1 - a) Sigma_c + a (trace Sigma_c / d) I,  a = 1e-3

This hardly changes large variances, and keeps the smallest ones above the rounding of float32.
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
"""The factor a."""
SEED = 0
"""Seed of k-means."""
TILE = 4096
"""Features that are converted to float64 at a time."""
LEAST_VARIANCE = 1e-12
"""Smallest trace of a covariance. Below it, the features of a cluster differ by rounding alone."""


class NoCovarianceError(UserError):
    """All features of a cluster are equal: the network has collapsed."""


@dataclass(frozen=True)
class Mahalanobis:
    """The clusters of a bank, by which other features are scored."""

    centres: Tensor
    """Means mu of the clusters: float64 [c, d]."""
    whitening: Tensor
    """Inverse Cholesky factors W of the covariances, so that the squared distance is
    |W (z - mu)|^2: float64 [c, d, d]."""

    @classmethod
    @torch.no_grad()
    def fit(cls, bank: Tensor, clusters: int = 1, name: str = "bank") -> Mahalanobis:
        """Find the clusters of a bank, with their means and covariances.

        Args:
            bank: float32 [M, d], on the CPU or a CUDA device.
            clusters: number of clusters c, from 1 to M.
            name: name of `bank` for messages of errors.

        Raises:
            UserError: there are no features, one is NaN, Inf or of zero norm, or `clusters` is not
                from 1 to M.
            NoCovarianceError: all features of a cluster are equal, or it has only one.
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
        """Return the squared distance of each feature to the nearest cluster.

        Args:
            test: float32 [N, d], on the device of the bank.
            name: name of `test` for messages of errors.

        Returns:
            float64 [N], >= 0. Higher = more OOD.

        Raises:
            UserError: there are no features, or one is NaN, Inf or of zero norm.
        """
        check_features(name, test)
        found = []
        for part in test.split(TILE):
            away = _unit(part) - self.centres[:, None]  # [c, n, d]
            found.append((away @ self.whitening.mT).square().sum(-1).amin(0))
        return torch.cat(found)


def _labels(bank: Tensor, clusters: int) -> Tensor:
    """Return the cluster of each feature: int64 [M]."""
    found = KMeans(clusters, n_init=10, random_state=SEED).fit(_unit(bank).cpu().numpy())
    return torch.from_numpy(found.labels_.astype(np.int64)).to(bank.device)


def _moments(bank: Tensor, labels: Tensor | None, cluster: int) -> tuple[int, Tensor, Tensor]:
    """Return the number of features in a cluster, their mean [d] and their covariance [d, d]."""
    count, width = 0, bank.shape[1]
    total = torch.zeros(width, dtype=torch.float64, device=bank.device)
    for members in _members(bank, labels, cluster):
        count += len(members)
        total += members.sum(0)
    centre = total / count
    # A second pass, because sums of squares without the mean would lose small variances.
    squares = torch.zeros(width, width, dtype=torch.float64, device=bank.device)
    for members in _members(bank, labels, cluster):
        away = members - centre
        squares += away.T @ away
    return count, centre, squares / count


def _members(bank: Tensor, labels: Tensor | None, cluster: int) -> Iterator[Tensor]:
    """Yield the unit features of a cluster (without labels: all) in tiles, float64 [n, d]."""
    for first in range(0, len(bank), TILE):
        part = bank[first : first + TILE]
        yield _unit(part if labels is None else part[labels[first : first + TILE] == cluster])


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=1)
