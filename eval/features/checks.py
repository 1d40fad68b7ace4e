"""Features that no score can be made of: none at all, NaN, Inf, or of no direction."""

from __future__ import annotations

import torch
from torch import Tensor

from shards.errors import UserError, few

MIN_NORM = 1e-12
"""A shorter feature has no direction to speak of (`F.normalize` would not make it unit length)."""


def check_features(name: str, features: Tensor) -> None:
    """Make sure that there are features [N, d], and that each has a direction.

    Raises:
        UserError: names the set and the ids of those that have none.
    """
    if len(features) == 0:
        raise UserError(f"{name}: no features; a score needs at least one image")
    fault = fault_of(name, features)
    if fault is not None:
        raise UserError(fault)


def fault_of(name: str, features: Tensor, first_id: int = 0) -> str | None:
    """What is wrong with features [N, d], or None; the first of them has the id `first_id`."""
    at_least_float32 = torch.promote_types(features.dtype, torch.float32)
    norms = torch.linalg.vector_norm(features, dim=1, dtype=at_least_float32)  # NaN, Inf carry over
    for fault, bad in (
        ("NaN or Inf", ~torch.isfinite(norms)),
        ("zero norm, so their cosine is undefined", norms < MIN_NORM),
    ):
        ids = (bad.nonzero().flatten() + first_id).tolist()
        if ids:
            return f"{name}: {len(ids)} of {len(features)} features have {fault}; ids {few(ids)}"
    return None
