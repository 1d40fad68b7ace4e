"""The score of SSD: the squared Mahalanobis distance to the mean of the bank.

Legend: N test images, M images of the bank, d feature width.

    z     f / |f|
    s(x)  (z - mu)' Sigma^-1 (z - mu)

(Sehwag et al. 2021, "SSD: A Unified Framework for Self-Supervised Outlier Detection", section 3,
with one cluster, as in the paper.) mu and Sigma are the mean and the covariance of the vectors z of
the bank. A higher score means more OOD.

Features of a network lie near a subspace of few dimensions, so their covariance has no stable
inverse. Sigma is therefore shrunk towards a multiple of the identity with the same trace:

    Sigma <- (1 - a) Sigma + a (trace Sigma / d) I,  a = 1e-3

This hardly changes large variances, and keeps the smallest ones above the rounding of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features.checks import check_features
from shards.errors import UserError

SHRINKAGE = 1e-3
"""The factor a of the shrinkage."""
TILE = 4096
"""Number of features that are converted to float64 at a time."""
LEAST_VARIANCE = 1e-12
"""Smallest trace of the covariance. If the trace is smaller, the features differ only by rounding
errors."""


class NoCovarianceError(UserError):
    """All features of the bank are equal, so it has no covariance: the network has collapsed."""


@dataclass(frozen=True)
class Mahalanobis:
    """The mean and the covariance of a bank. A feature is scored with its distance to the mean."""

    centre: Tensor
    """Mean mu, float64 [d]."""
    whitening: Tensor
    """Inverse Cholesky factor W of the covariance, float64 [d, d]. The squared distance to the mean
    is |W (z - mu)|^2."""

    @classmethod
    @torch.no_grad()
    def fit(cls, bank: Tensor, name: str = "bank") -> Mahalanobis:
        """Compute the mean and the covariance of a bank.

        Args:
            bank: features, float32 [M, d], on the CPU or a CUDA device.
            name: name of `bank` for error messages.

        Raises:
            UserError: there are no features, or a feature is NaN, Inf or of zero norm.
            NoCovarianceError: all features are equal, or there is only one.
        """
        check_features(name, bank)
        centre, covariance = _moments(bank)
        variance = covariance.trace()
        if variance < LEAST_VARIANCE:
            raise NoCovarianceError(
                f"{name}: its {len(bank)} features do not differ, so they have no covariance"
            )
        identity = torch.eye(len(covariance), dtype=torch.float64, device=bank.device)
        shrunk = (1 - SHRINKAGE) * covariance
        shrunk += SHRINKAGE * variance / len(covariance) * identity
        factor = torch.linalg.cholesky(shrunk)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        return cls(centre, whitening.contiguous())

    @torch.no_grad()
    def score(self, test: Tensor, name: str = "test set") -> Tensor:
        """Return the squared distance of each feature to the mean.

        Args:
            test: features, float32 [N, d], on the device of the bank.
            name: name of `test` for error messages.

        Returns:
            float64 [N], >= 0. A higher score means more OOD.

        Raises:
            UserError: there are no features, or a feature is NaN, Inf or of zero norm.
        """
        check_features(name, test)
        away = (_unit(part) - self.centre for part in test.split(TILE))
        return torch.cat([(part @ self.whitening.mT).square().sum(-1) for part in away])


def _moments(bank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean, float64 [d], and the covariance, float64 [d, d], of the unit features."""
    width = bank.shape[1]
    total = torch.zeros(width, dtype=torch.float64, device=bank.device)
    for part in bank.split(TILE):
        total += _unit(part).sum(0)
    centre = total / len(bank)
    # A second pass, because sums of squares without the mean would lose small variances.
    squares = torch.zeros(width, width, dtype=torch.float64, device=bank.device)
    for part in bank.split(TILE):
        away = _unit(part) - centre
        squares += away.T @ away
    return centre, squares / len(bank)


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=1)
