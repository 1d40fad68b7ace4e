"""Fitted scores: torch modules from features to scores, which are fitted on the features of a bank.

A fitted score is a pure function of each feature. It holds all that it needs in buffers, so that it
runs on any device and becomes an ONNX graph. For every score, a higher value means more OOD.
Legend: N features that are scored, M features of the bank, d feature width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eval.features.full_float32 import full_float32
from shards.errors import UserError

ROWS = 1024
"""Number of features that are scored at a time."""
ROUNDING = 1e-5
"""Squared distance, relative to the squared norm of the feature, that counts as 0."""


class UnfitError(UserError):
    """A score cannot be fitted on a bank. The message says why."""


class FittedScore(nn.Module, ABC):
    """A score that was fitted on a bank. Each subclass has a class method `fit(bank)`."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N], of features, float32 [N, d]."""


@torch.no_grad()
def scores_of(score: FittedScore, features: Tensor) -> NDArray[np.float64]:
    """Return the scores, float64 [N], of features, float32 [N, d] on the device of the score."""
    with full_float32(), torch.autocast(features.device.type, enabled=False):
        parts = [score(rows) for rows in features.split(ROWS)]
    return torch.cat(parts).double().cpu().numpy()


def distances(away: Tensor, bank: Tensor, squares: Tensor) -> Tensor:
    """Return the Euclidean distances of features to the bank, float32 [N, M].

    Args:
        away: features minus the mean of the bank, float32 [N, d].
        bank: features of the bank minus their mean, float32 [d, M].
        squares: squared norms of the columns of `bank`, float32 [M].
    """
    own = away.square().sum(1, keepdim=True)
    squared = own - 2 * (away @ bank) + squares  # |a - b|^2
    # Equal features have a distance of 0, and rounding must not hide it: among many copies of one
    # image, any distance is infinitely far for the local outlier factor.
    return torch.where(squared < ROUNDING * own, 0, squared).clamp(min=0).sqrt()


def check_bank(bank: Tensor, fewest: int = 2) -> None:
    """Check that a score can be fitted on a bank.

    Args:
        bank: float32 [M, d].
        fewest: smallest M that the score needs.

    Raises:
        UnfitError: there are too few features, one is NaN or Inf, or all are equal.
    """
    if len(bank) < fewest:
        raise UnfitError(f"the bank has {len(bank)} features, too few: it needs {fewest}")
    if not torch.isfinite(bank).all():
        raise UnfitError("a feature of the bank is NaN or Inf")
    if bool((bank == bank[0]).all()):
        raise UnfitError(f"the {len(bank)} features of the bank do not differ")
