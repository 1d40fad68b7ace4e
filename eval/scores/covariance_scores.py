"""Fitted scores from the covariance of the bank: two Mahalanobis distances, and the PCA residual.

Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from torch import Tensor

from eval.scores.bank import Bank, UnfitError
from eval.scores.fitted import FittedScore
from eval.scores.mahalanobis import Mahalanobis, NoCovarianceError

COMPONENTS = 100
"""Largest number of principal components."""
SEED = 0
"""Seed of the randomized decomposition."""


class LedoitWolfMahalanobis(FittedScore):
    """The squared Mahalanobis distance to the mean of the bank.

    The covariance is shrunk towards a multiple of the identity by the share of Ledoit and Wolf
    (2004), so that it has an inverse even if M < d.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(self, centre: Tensor, whitening: Tensor) -> None:
        """Store the mean, float32 [d], and the inverse Cholesky factor, float32 [d, d]."""
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("whitening", whitening)

    @classmethod
    def fit(cls, bank: Bank) -> LedoitWolfMahalanobis:
        """Fit the score on a bank.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check()
        values = bank.features.double()
        centre = values.mean(0)
        away = values - centre
        share = float(ledoit_wolf_shrinkage(away.cpu().numpy(), assume_centered=True))
        covariance = away.T @ away / len(away)
        identity = torch.eye(len(centre), dtype=torch.float64, device=values.device)
        covariance = (1 - share) * covariance + share * covariance.trace() / len(centre) * identity
        factor, fault = torch.linalg.cholesky_ex(covariance)
        if fault:
            raise UnfitError("the covariance of the bank has no inverse")
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        return cls(centre.float(), whitening.T.float().contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], >= 0."""
        return ((features - self.centre) @ self.whitening).square().sum(1)


class SsdMahalanobis(FittedScore):
    """The score of SSD, `eval.scores.mahalanobis`, as a module: it takes directions of features."""

    centre: Tensor
    whitening: Tensor

    def __init__(self, fitted: Mahalanobis) -> None:
        """Store the mean and the inverse Cholesky factor in float32."""
        super().__init__()
        self.register_buffer("centre", fitted.centre.float())
        self.register_buffer("whitening", fitted.whitening.T.float().contiguous())

    @classmethod
    def fit(cls, bank: Bank) -> SsdMahalanobis:
        """Fit the score on a bank.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check()
        try:
            return cls(Mahalanobis.fit(bank.features))
        except NoCovarianceError as error:
            raise UnfitError(str(error)) from error

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], >= 0."""
        away = F.normalize(features, dim=1) - self.centre
        return (away @ self.whitening).square().sum(1)


class PcaResidual(FittedScore):
    """The squared norm of what the principal components of the bank leave of a feature."""

    centre: Tensor
    components: Tensor

    def __init__(self, centre: Tensor, components: Tensor) -> None:
        """Store the mean, float32 [d], and the components as columns, float32 [d, n]."""
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("components", components)

    @classmethod
    def fit(cls, bank: Bank) -> PcaResidual:
        """Fit the score on a bank, with at most M / 2 and d / 2 components.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check()
        features = bank.features
        count = max(1, min(COMPONENTS, len(features) // 2, features.shape[1] // 2))
        fitted = PCA(count, svd_solver="randomized", random_state=SEED).fit(features.cpu().numpy())
        centre, components = (torch.from_numpy(part) for part in (fitted.mean_, fitted.components_))
        return cls(centre.float(), components.T.float().contiguous()).to(features.device)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], >= 0."""
        away = features - self.centre
        return (away - (away @ self.components) @ self.components.T).square().sum(1)
