"""The random streams of a run: each purpose draws from its own, and all start from one seed.

A draw is a function of the seed, the stream and a few words such as the step. It does not depend on
the draws before it, so a resumed run draws what an uninterrupted run draws. A stream takes the same
number of words at every call, because numpy reads missing words as zeros.

Two draws of a run are made by torch and are not streams: the initial weights, from the seed itself
(`train/networks/model.py`), and what a backbone draws inside a step, from `torch_seed`. The shuffle
of a set is no draw of a run: it belongs to the build, and has its seed (`building/build_plan.py`).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class RandomStream(IntEnum):
    """The purposes of draws. The numbers are part of every recorded run: never change one."""

    IN_DIST_ORDER = 0
    """The order of in-distribution images. Words: epoch."""
    AUX_ORDER = 1
    """The order of auxiliary images. Words: pass over the set."""
    VIEW_PARAMS = 2
    """The parameters of views: crops, colours, shifts. Words: step, group of views."""
    NEGATIVE_CHOICES = 3
    """The term of a mixed negative that each image takes. Words: step, negative."""
    STOCHASTIC_DEPTH = 4
    """The branches of transformer blocks that a view skips. Words: step."""


def stream_rng(seed: int, stream: RandomStream, *words: int) -> np.random.Generator:
    """Return a new generator for the draws of `stream` at `words`; seed and words are >= 0."""
    return np.random.default_rng([seed, stream, *words])


def torch_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed, below 2**32, of torch's own generators at `step` on `rank`."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])
