"""Fitted scores: torch modules from features to scores, which are fitted on the features of a bank.

A fitted score is a pure function of each feature. It holds all that it needs in buffers, so that it
runs on any device and becomes an ONNX graph. For every score, a higher value means more OOD.
Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eval.features.full_float32 import full_float32
from eval.scores.bank import Products

ROWS = 1024
"""Number of features that are scored at a time."""


class FittedScore(nn.Module, ABC):
    """A score that was fitted on a bank. Each subclass has a class method `fit(bank)`."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], of features, float32 [N, d]."""


class ProductScore(FittedScore):
    """A fitted score that is computed from the products of a feature with the whole bank."""

    def __init__(self, products: Products) -> None:
        """Store the module that computes the products."""
        super().__init__()
        self.products = products

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], of features, float32 [N, d]."""
        return self.from_products(*self.products(features))

    @abstractmethod
    def from_products(self, squares: Tensor, products: Tensor) -> Tensor:
        """Return the scores, float32 [N], from what `Products.forward` returned."""


def evaluate(scores: Iterable[FittedScore], features: Tensor) -> list[Tensor]:
    """Return the scores of the same features by several fitted scores, float32 [N] each.

    Scores that share a bank also share its products, which are computed once.

    Args:
        scores: the fitted scores.
        features: float32 [N, d].
    """
    found: list[Tensor] = []
    of_banks: dict[int, tuple[Tensor, Tensor]] = {}
    for score in scores:
        if isinstance(score, ProductScore):
            key = id(score.products)
            if key not in of_banks:
                of_banks[key] = score.products(features)
            found.append(score.from_products(*of_banks[key]))
        else:
            found.append(score(features))
    return found


@torch.no_grad()
def scores_of(scores: Sequence[FittedScore], features: Tensor) -> list[NDArray[np.float64]]:
    """Return the scores of the same features by several fitted scores, float64 [N] each.

    Args:
        scores: the fitted scores.
        features: float32 [N, d] on the device of the scores.
    """
    with full_float32(), torch.autocast(features.device.type, enabled=False):
        parts = [evaluate(scores, rows) for rows in features.split(ROWS)]
    return [torch.cat(of_one).double().cpu().numpy() for of_one in zip(*parts, strict=True)]
