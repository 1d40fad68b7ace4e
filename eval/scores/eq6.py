"""Eq. 6 of the paper in its log form, as a fitted score. `cosine.py` has its mathematics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.scores.bank import Bank
from eval.scores.fitted import FittedScore


class Eq6(FittedScore):
    """The negated logarithm of the weighted mean of exp(cosine / tau) over the bank."""

    bank: Tensor
    log_weights: Tensor

    def __init__(self, bank: Tensor, tau: float, weights: Tensor) -> None:
        """Store the bank, float32 [M, d], and the weight of each of its features, float32 [M]."""
        super().__init__()
        self._tau = tau
        self.register_buffer("bank", F.normalize(bank, dim=1).T.contiguous())  # [d, M]
        shares = weights.double() / weights.double().sum()
        self.register_buffer("log_weights", shares.log().float())

    @classmethod
    def fit(cls, bank: Bank, tau: float) -> Eq6:
        """Fit the score on a bank whose features all have the same weight."""
        features = bank.features
        return cls(features, tau, torch.ones(len(features), device=features.device))

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores, float32 [N]."""
        terms = F.normalize(features, dim=1) @ self.bank / self._tau + self.log_weights  # [N, M]
        # Not torch.logsumexp, because an ONNX runtime may compute it without subtracting the peak.
        peak = terms.amax(dim=1, keepdim=True)
        return -(peak + (terms - peak).exp().sum(dim=1, keepdim=True).log())[:, 0]
