"""Which samples a step gets: a pure function of (set size, batch, seed, step, world).

The global batch of a step does not depend on the number of ranks; a rank takes its slice of it. So
the state needed to resume is one integer, the step, and a run may go on with other ranks.
"""

from __future__ import annotations

import functools

import numpy as np

from shards.errors import UserError

IN_DIST, AUX = 0, 1
"""The two streams; their orders are independent draws from one seed."""


def steps_per_epoch(samples: int, global_batch: int) -> int:
    """Full batches in one pass over the set; the rest of the permutation is left out.

    Raises:
        UserError: the set is smaller than one global batch.
    """
    if samples < global_batch:
        raise UserError(
            f"the set has {samples} samples, fewer than global_batch {global_batch}; give a lower "
            "--global-batch, or take more images"
        )
    return samples // global_batch


@functools.lru_cache(maxsize=2)  # one for each stream; of a large set it takes 10 MB
def epoch_permutation(samples: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """The order of all ids in one pass: int64 [samples], read-only because it is cached."""
    order = np.random.default_rng([seed, stream, epoch]).permutation(samples)
    order.flags.writeable = False
    return order


def in_dist_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Ids of the in-distribution global batch of `step`: int64 [global_batch].

    Within an epoch no id comes twice; when the batch divides the set each comes exactly once.
    """
    epoch, step_in_epoch = divmod(step, steps_per_epoch(samples, global_batch))
    start = step_in_epoch * global_batch
    return epoch_permutation(samples, seed, IN_DIST, epoch)[start : start + global_batch].copy()


def aux_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Ids of the auxiliary global batch of `step`: int64 [global_batch].

    The stream cycles: pass after pass, each in a new order, with nothing left out; a set smaller
    than the batch is passed over more than once in a step.
    """
    position = step * global_batch + np.arange(global_batch)
    epochs, offsets = np.divmod(position, samples)
    ids = np.empty(global_batch, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = epoch_permutation(samples, seed, AUX, int(epoch))[offsets[here]]
    return ids


def rank_slice(global_batch: int, rank: int, world_size: int) -> slice:
    """The part of a global batch that `rank` takes.

    Raises:
        UserError: the batch does not divide over the ranks.
    """
    if global_batch % world_size:
        raise UserError(
            f"global_batch is {global_batch}, which does not divide over {world_size} ranks; "
            f"expected a multiple of {world_size}"
        )
    per_rank = global_batch // world_size
    return slice(rank * per_rank, (rank + 1) * per_rank)
