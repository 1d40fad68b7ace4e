"""Fitted scores from the k nearest features of the bank, by Euclidean distance or by cosine.

Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.scores.fitted import FittedScore, check_bank, distances

NEIGHBOURS = 5
"""Default number k of neighbours."""


class EuclidNeighbours(FittedScore):
    """The mean Euclidean distance to the k nearest features of the bank."""

    centre: Tensor
    bank: Tensor
    squares: Tensor

    def __init__(self, bank: Tensor, k: int) -> None:
        """Store the bank, float32 [M, d], around its mean, so that little precision is lost."""
        super().__init__()
        self._k = k
        self.register_buffer("centre", bank.mean(0))
        away = bank - self.centre
        self.register_buffer("bank", away.T.contiguous())  # [d, M]
        self.register_buffer("squares", away.square().sum(1))

    @classmethod
    def fit(cls, bank: Tensor, k: int = NEIGHBOURS) -> EuclidNeighbours:
        """Fit the score on a bank, float32 [M, d].

        Raises:
            UnfitError: see `check_bank`.
        """
        check_bank(bank, max(2, k))
        return cls(bank, k)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N]."""
        to_bank = distances(features - self.centre, self.bank, self.squares)
        return to_bank.topk(self._k, dim=1, largest=False).values.mean(1)


class CosineNeighbours(FittedScore):
    """One minus the cosine to the k-th nearest feature of the bank: `knn-K` of the tables."""

    centre: Tensor
    bank: Tensor

    def __init__(self, bank: Tensor, k: int, centre: Tensor) -> None:
        """Store the bank, float32 [M, d], and the vector [d] that is subtracted from features."""
        super().__init__()
        self._k = k
        self.register_buffer("centre", centre)
        self.register_buffer("bank", F.normalize(bank - centre, dim=1).T.contiguous())  # [d, M]

    @classmethod
    def fit(
        cls, bank: Tensor, k: int = NEIGHBOURS, *, is_centred: bool = False
    ) -> CosineNeighbours:
        """Fit the score on a bank, float32 [M, d].

        Args:
            bank: the bank.
            k: number of neighbours.
            is_centred: True to take cosines around the mean of the bank.

        Raises:
            UnfitError: see `check_bank`.
        """
        check_bank(bank, max(2, k))
        centre = bank.mean(0) if is_centred else torch.zeros_like(bank[0])
        return cls(bank, k, centre)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N]."""
        cosines = F.normalize(features - self.centre, dim=1) @ self.bank
        return 1 - cosines.topk(self._k, dim=1).values[:, -1]
