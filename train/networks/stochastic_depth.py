"""Stochastic depth (DINO's drop path): each view skips random branches of the blocks.

The host draws the skips for the global batch, as a function of seed and step, and cuts them to the
images of a forward pass. So they depend neither on the number of ranks nor on the micro-batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shards.random_streams import RandomStream, stream_rng

BRANCHES = 2
"""Number of branches of a block: attention and MLP."""


def draw_branch_scales(
    depth: int, rate: float, views: int, global_batch: int, seed: int, step: int
) -> Tensor | None:
    """Draw the factor of each branch's output: float32 [depth, 2, views, global_batch].

    A factor is 0 with the probability with which its block is skipped. This probability p rises
    linearly from 0 to `rate` over the blocks. Otherwise the factor is 1 / (1 - p). The result is
    None if nothing is ever skipped.
    """
    if not rate or not depth:
        return None
    stay = 1 - np.linspace(0, rate, depth, dtype=np.float32)[:, None, None, None]
    draws = stream_rng(seed, RandomStream.STOCHASTIC_DEPTH, step)
    drawn = draws.random((depth, BRANCHES, views, global_batch), np.float32)
    return torch.from_numpy((drawn < stay) / stay)
