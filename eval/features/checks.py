"""Checks that features can be scored: there are some, all are finite, and none has zero norm."""

from __future__ import annotations

import torch
from torch import Tensor

from shards.errors import UserError, few

MIN_NORM = 1e-12
"""Smallest norm of a feature that has a direction: `F.normalize` does not bring a shorter one to
unit length."""


def check_features(name: str, features: Tensor) -> None:
    """Make sure that there are features [N, d], and that all are finite and of nonzero norm.

    Raises:
        UserError: names the set, and the ids of the features that are not so.
    """
    if len(features) == 0:
        raise UserError(f"{name}: no features; a score needs at least one image")
    fault = fault_of(name, features)
    if fault is not None:
        raise UserError(fault)


def fault_of(name: str, features: Tensor, first_id: int = 0) -> str | None:
    """Return the fault of features [N, d], or None. The first feature has the id `first_id`."""
    at_least_float32 = torch.promote_types(features.dtype, torch.float32)
    # A norm is NaN or Inf if its row has one.
    norms = torch.linalg.vector_norm(features, dim=1, dtype=at_least_float32)
    for fault, bad in (
        ("NaN or Inf", ~torch.isfinite(norms)),
        ("zero norm, so their cosine is undefined", norms < MIN_NORM),
    ):
        ids = (bad.nonzero().flatten() + first_id).tolist()
        if ids:
            return f"{name}: {len(ids)} of {len(features)} features have {fault}; ids {few(ids)}"
    return None
