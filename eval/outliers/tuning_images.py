"""The images on which an ensemble is tuned: normal images, and what each family makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eval.outliers.spoil import families_for, spoiled
from shards.reader import ShardSet

MOST_NORMAL = 1000
"""Largest number of normal images of which moments are computed."""
MOST_SPOILED = 250
"""Largest number of normal images that each family spoils."""
FEWEST_SPOILED = 10
"""Smallest number of images of a family. A family that changes fewer images is left out."""
SEED = 0
"""Seed of the synthetic outliers."""
NORMAL = "normal"
"""What stands for the name of a family where an image is not spoiled."""


def tuning_part(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide held-out normal images: the tuning part, and the part for p-values and AUROC.

    The images of a shard set lie in a random order, so every second image is a random half.

    Args:
        ids: ids of the images in a shard set, int64 [n], ascending.
    """
    return ids[::2], ids[1::2]


@dataclass(frozen=True)
class TuningImages:
    """The normal images of a tuning part, and the synthetic outliers that are made of them."""

    normal: NDArray[np.uint8]
    """Normal images, uint8 [n, H, W, C]."""
    families: Mapping[str, NDArray[np.uint8]]
    """Family -> its outliers, uint8 [N, H, W, C]. N differs from family to family."""

    @classmethod
    def read(cls, shards: ShardSet, ids: NDArray[np.int64]) -> TuningImages:
        """Read a tuning part, and spoil its images. The result is the same in every process.

        Args:
            shards: set of held-out normal images.
            ids: ids of the tuning part, int64 [N]. The first `MOST_NORMAL` are taken.
        """
        normal = shards.read(ids[:MOST_NORMAL])
        families = {
            name: spoiled(normal[:MOST_SPOILED], name, SEED, normal).images
            for name in families_for(normal.shape[3])
        }
        enough = {name: found for name, found in families.items() if len(found) >= FEWEST_SPOILED}
        return cls(normal, enough)

    @cached_property
    def everything(self) -> NDArray[np.uint8]:
        """All images in one array, uint8 [M, H, W, C]: the normal ones, then each family."""
        return np.concatenate([self.normal, *self.families.values()])

    @property
    def starts(self) -> NDArray[np.int64]:
        """The row of `everything` at which each family starts, int64 [families]."""
        sizes = [len(self.normal), *map(len, self.families.values())]
        return np.cumsum(sizes)[:-1]

    @property
    def names(self) -> list[str]:
        """The family of each row of `everything`. `NORMAL` for normal images."""
        parts = {NORMAL: self.normal, **self.families}
        return [name for name, images in parts.items() for _ in images]
