"""Fitted scores from the k nearest features of the bank, by Euclidean distance or by cosine.

Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor

from eval.scores.bank import Bank, Products
from eval.scores.fitted import FittedScore, ProductScore

NEIGHBOURS = 5
"""Default number k of neighbours."""


class _CentredNeighbours(ProductScore):
    """A score from the k nearest features of the bank, around the mean of the bank."""

    def __init__(self, products: Products, k: int) -> None:
        """Store the module of the bank, and the number of neighbours."""
        super().__init__(products)
        self._k = k

    @classmethod
    def fit(cls, bank: Bank, k: int = NEIGHBOURS) -> Self:
        """Fit the score on a bank.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check(max(2, k))
        return cls(bank.products, k)


class EuclidNeighbours(_CentredNeighbours):
    """The mean Euclidean distance to the k nearest features of the bank."""

    def from_products(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return the scores, float32 [N], >= 0."""
        distances = self.products.distances(squares, products)
        return distances.topk(self._k, dim=1, largest=False).values.mean(1)


class CentredCosineNeighbours(_CentredNeighbours):
    """One minus the cosine to the k-th nearest feature, around the mean of the bank."""

    def from_products(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return the scores, float32 [N], in [0, 2]."""
        cosines = self.products.cosines(squares, products)
        return 1 - cosines.topk(self._k, dim=1).values[:, -1]


class CosineNeighbours(FittedScore):
    """One minus the cosine to the k-th nearest feature of the bank: `knn-K` of the tables."""

    bank: Tensor

    def __init__(self, bank: Tensor, k: int) -> None:
        """Store the bank, float32 [M, d], and the number of neighbours."""
        super().__init__()
        self._k = k
        self.register_buffer("bank", F.normalize(bank, dim=1).T.contiguous())  # [d, M]

    @classmethod
    def fit(cls, bank: Bank, k: int = NEIGHBOURS) -> CosineNeighbours:
        """Fit the score on a bank.

        Raises:
            UnfitError: see `Bank.check`.
        """
        bank.check(max(2, k))
        return cls(bank.features, k)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], in [0, 2]."""
        cosines = F.normalize(features, dim=1) @ self.bank
        return 1 - cosines.topk(self._k, dim=1).values[:, -1]
