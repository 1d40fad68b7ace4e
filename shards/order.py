"""The sample ids of each training step, as pure functions of set size, batch size, seed and step.

The global batch of a step does not depend on the number of ranks, because each rank takes a slice
of the global batch. So a resumed run needs only one integer, the step, to go on with the same
images, and it may have another number of ranks.
"""

from __future__ import annotations

import functools

import numpy as np

from shards.errors import UserError
from shards.random_streams import RandomStream, stream_rng


def steps_per_epoch(samples: int, global_batch: int) -> int:
    """Return the number of full global batches in one pass over a set; a partial batch is dropped.

    Args:
        samples: The number of samples in the set.
        global_batch: The number of samples per step on all ranks together.

    Raises:
        UserError: The set is smaller than one global batch.
    """
    if samples < global_batch:
        raise UserError(
            f"the set has {samples} samples, fewer than global_batch {global_batch}; give a lower "
            "--global-batch, or take more images"
        )
    return samples // global_batch


@functools.lru_cache(maxsize=2)  # One entry per stream; an entry takes 10 MB for a large set.
def epoch_permutation(samples: int, seed: int, stream: RandomStream, epoch: int) -> np.ndarray:
    """Return the random permutation of all sample ids for one epoch.

    Returns:
        int64 [samples]. The array is cached, so it is read-only.
    """
    order = stream_rng(seed, stream, epoch).permutation(samples)
    order.flags.writeable = False
    return order


def in_dist_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Return the ids of the in-distribution images in the global batch of a step.

    Within an epoch no id occurs twice. If `samples` is a multiple of `global_batch`, each id occurs
    exactly once per epoch. If not, the rest of the permutation is dropped.

    Returns:
        int64 [global_batch].

    Raises:
        UserError: The set is smaller than one global batch.
    """
    epoch, step_in_epoch = divmod(step, steps_per_epoch(samples, global_batch))
    order = epoch_permutation(samples, seed, RandomStream.IN_DIST_ORDER, epoch)
    start = step_in_epoch * global_batch
    return order[start : start + global_batch].copy()


def aux_ids(samples: int, global_batch: int, seed: int, step: int) -> np.ndarray:
    """Return the ids of the auxiliary images in the global batch of a step.

    Each pass over the auxiliary set has a new random order and leaves no image out. A batch may
    contain the end of one pass and the start of the next. If the set is smaller than the batch, a
    batch contains several passes.

    Returns:
        int64 [global_batch].
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
    """Return the slice of the global batch that belongs to a rank.

    Args:
        global_batch: The number of samples per step on all ranks together.
        rank: The number of the rank, from 0.
        world_size: The number of ranks.

    Raises:
        UserError: `global_batch` is not a multiple of the number of ranks.
    """
    if global_batch % world_size:
        raise UserError(
            f"global_batch is {global_batch}, which does not divide over {world_size} ranks; "
            f"expected a multiple of {world_size}"
        )
    per_rank = global_batch // world_size
    return slice(rank * per_rank, (rank + 1) * per_rank)
