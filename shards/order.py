"""The sample ids of each training step: a pure function of set size, batch, seed and step.

The global batch of a step does not depend on the number of ranks; each rank takes a slice of it.
So one integer, the step, is all the state that a resumed run needs, and the run may go on with
another number of ranks.
"""

from __future__ import annotations

import functools

import numpy as np

from shards.errors import UserError
from shards.random_streams import RandomStream, stream_rng


def steps_per_epoch(samples: int, global_batch: int) -> int:
    """Return the number of full batches in one pass over the set; the last partial one is dropped.

    Raises:
        UserError: The set is smaller than one global batch.
    """
    if samples < global_batch:
        raise UserError(
            f"the set has {samples} samples, fewer than global_batch {global_batch}; give a lower "
            "--global-batch, or take more images"
        )
    return samples // global_batch


@functools.lru_cache(maxsize=2)  # One entry for each stream; that of a large set takes 10 MB.
def epoch_permutation(samples: int, seed: int, stream: RandomStream, epoch: int) -> np.ndarray:
    """Return the order of all ids in one pass: int64 [samples], read-only because it is cached."""
    order = stream_rng(seed, stream, epoch).permutation(samples)
    order.flags.writeable = False
    return order


def in_dist_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Return the ids of the in-distribution global batch of `step`: int64 [global_batch].

    No id comes twice in an epoch. If the batch divides the set, each id comes exactly once.
    """
    epoch, step_in_epoch = divmod(step, steps_per_epoch(samples, global_batch))
    order = epoch_permutation(samples, seed, RandomStream.IN_DIST_ORDER, epoch)
    start = step_in_epoch * global_batch
    return order[start : start + global_batch].copy()


def aux_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Return the ids of the auxiliary global batch of `step`: int64 [global_batch].

    The auxiliary images come pass after pass, each pass in a new order and with nothing left out.
    If the set is smaller than the batch, a step takes more than one pass.
    """
    position = step * global_batch + np.arange(global_batch)
    epochs, offsets = np.divmod(position, samples)
    ids = np.empty(global_batch, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order = epoch_permutation(samples, seed, RandomStream.AUX_ORDER, int(epoch))
        ids[here] = order[offsets[here]]
    return ids


def rank_slice(global_batch: int, rank: int, world_size: int) -> slice:
    """Return the part of a global batch that `rank` takes.

    Raises:
        UserError: The batch is not a multiple of the number of ranks.
    """
    if global_batch % world_size:
        raise UserError(
            f"global_batch is {global_batch}, which does not divide over {world_size} ranks; "
            f"expected a multiple of {world_size}"
        )
    per_rank = global_batch // world_size
    return slice(rank * per_rank, (rank + 1) * per_rank)
