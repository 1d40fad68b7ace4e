"""Checks that features can be scored: there are some, all are finite, and none has zero norm."""

from __future__ import annotations

import torch
from torch import Tensor

from shards.errors import UserError, few

MIN_NORM = 1e-12
"""Smallest norm at which a feature counts as nonzero. `F.normalize` does not bring a feature with a
smaller norm to unit length."""


def check_features(name: str, features: Tensor) -> None:
    """Check that there are features, and that all of them are finite and of nonzero norm.

    Args:
        name: name of the set, for error messages.
        features: [N, d].

    Raises:
        UserError: a check fails. The message names the set and the ids of the bad features.
    """
    if len(features) == 0:
        raise UserError(f"{name}: no features; a score needs at least one image")
    fault = fault_of(name, features)
    if fault is not None:
        raise UserError(fault)


def fault_of(name: str, features: Tensor, first_id: int = 0) -> str | None:
    """Return a text that describes the fault of the features. None if they have no fault.

    Args:
        name: name of the set, for the text.
        features: [N, d].
        first_id: id of the first feature. The ids of the other features count up from there.
    """
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
