"""The random streams of a run: each purpose has its own stream, and all streams use the run's seed.

A draw is a function of the seed, the stream and a few integers such as the step, which are called
words. A draw does not depend on earlier draws, so a resumed run draws the same numbers as an
uninterrupted run. Every call for a stream must give the same number of words, because numpy treats
missing words as zeros.

Two kinds of draws are made with torch and have no stream here. The initial weights are drawn from
the seed itself (`train/networks/model.py`). Random operations of a backbone inside a step are drawn
from `torch_seed`. The shuffle of a shard set is not part of a run: it happens in the build of the
set, with the seed of the build (`building/build_plan.py`).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class RandomStream(IntEnum):
    """The random streams, one per purpose.

    The draws of recorded runs depend on these numbers, so a number must never change.
    """

    IN_DIST_ORDER = 0
    """The order of the in-distribution images. Words: the number of the epoch."""
    AUX_ORDER = 1
    """The order of the auxiliary images. Words: the number of the pass over the auxiliary set."""
    VIEW_PARAMS = 2
    """The parameters of views (crops, colours, shifts). Words: the step, the group of views."""
    NEGATIVE_CHOICES = 3
    """The choice of a shift for each image of a mixed negative. Words: the step, the negative."""
    STOCHASTIC_DEPTH = 4
    """The choice of the branches of transformer blocks that a view skips. Words: the step."""


def stream_rng(seed: int, stream: RandomStream, *words: int) -> np.random.Generator:
    """Return a new random generator for one draw of a stream.

    Args:
        seed: The seed of the run, at least 0.
        stream: The stream.
        words: The integers that `RandomStream` lists for the stream, such as the step; at least 0.
    """
    return np.random.default_rng([seed, stream, *words])


def torch_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed, below 2**32, for torch's own random generators at `step` on `rank`."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])
