"""Stochastic depth: which branches of which block a view skips (DINO's drop path).

Drawn on the host for the global batch, as a function of seed and step, and cut to the images of a
forward pass: neither the number of ranks nor the micro-batch changes what a view meets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shards.random_streams import RandomStream, stream_rng

BRANCHES = 2
"""Of a block: attention, and the MLP."""


def draw_branch_scales(
    depth: int, rate: float, views: int, global_batch: int, seed: int, step: int
) -> Tensor | None:
    """What each branch's output is multiplied by: float32 [depth, 2, views, global_batch].

    0 with the block's probability, which rises linearly from 0 to `rate`; else the inverse of the
    probability to stay. None where nothing is ever skipped.
    """
    if not rate or not depth:
        return None
    stay = 1 - np.linspace(0, rate, depth, dtype=np.float32)[:, None, None, None]
    draws = stream_rng(seed, RandomStream.STOCHASTIC_DEPTH, step)
    drawn = draws.random((depth, BRANCHES, views, global_batch), np.float32)
    return torch.from_numpy((drawn < stay) / stay)
