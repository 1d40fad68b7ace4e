"""The bank on which scores are fitted, and what several of its scores compute in common.

Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from shards.errors import UserError

ROUNDING = 1e-5
"""Squared distance, relative to the squared norm of the feature, that counts as 0."""


class UnfitError(UserError):
    """A score cannot be fitted on a bank. The message says why."""


class Products(nn.Module):
    """The products of features with all features of a bank, both around the mean of the bank.

    Distances and cosines follow from them. They are most of the work of a score that compares a
    feature with a whole bank, so such scores share one module.
    """

    centre: Tensor
    bank: Tensor
    squares: Tensor

    def __init__(self, bank: Tensor) -> None:
        """Store the bank, float32 [M, d], around its mean, so that little precision is lost."""
        super().__init__()
        self.register_buffer("centre", bank.mean(0))
        away = bank - self.centre
        self.register_buffer("bank", away.T.contiguous())  # [d, M]
        self.register_buffer("squares", away.square().sum(1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared norms, float32 [N, 1], and the products, float32 [N, M].

        Args:
            features: float32 [N, d].
        """
        away = features - self.centre
        return away.square().sum(1, keepdim=True), away @ self.bank

    def distances(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return Euclidean distances, float32 [N, M], from what `forward` returned."""
        squared = squares - 2 * products + self.squares  # |a - b|^2
        # Equal features have a distance of 0, and rounding must not hide it: among many copies of
        # one image, any distance is infinitely far for the local outlier factor.
        return torch.where(squared < ROUNDING * squares, 0, squared).clamp(min=0).sqrt()

    def cosines(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return cosines around the mean, float32 [N, M], from what `forward` returned.

        A feature that is equal to the mean has a cosine of 0 with all others.
        """
        smallest = torch.finfo(torch.float32).tiny
        norms = squares.clamp(min=smallest).sqrt() * self.squares.clamp(min=smallest).sqrt()
        return products / norms


@dataclass(frozen=True)
class Bank:
    """The features of the in-distribution training images from one source."""

    features: Tensor
    """float32 [M, d]."""

    @cached_property
    def products(self) -> Products:
        """The module that the scores of this bank share."""
        return Products(self.features)

    def check(self, fewest: int = 2) -> None:
        """Check that a score can be fitted.

        Args:
            fewest: smallest M that the score needs.

        Raises:
            UnfitError: there are too few features, one is NaN or Inf, or all are equal.
        """
        count = len(self.features)
        if count < fewest:
            raise UnfitError(f"the bank has {count} features, too few: it needs {fewest}")
        if not torch.isfinite(self.features).all():
            raise UnfitError("a feature of the bank is NaN or Inf")
        if bool((self.features == self.features[0]).all()):
            raise UnfitError(f"the {count} features of the bank do not differ")
