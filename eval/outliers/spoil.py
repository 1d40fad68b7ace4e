"""Spoils images by a family of synthetic outliers, reproducibly.

A spoiled image does not depend on its neighbours: neither on their order nor on their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from eval.outliers.families import FAMILIES
from eval.outliers.pictures import Picture

LEAST_MEAN_LEVELS, LEAST_PEAK_LEVELS = 1.0, 32
"""An image counts as spoiled if its pixels differ from the original by as much in the mean, or one
of them by as much, in levels of 255. A symmetric image that was turned, for example, is no outlier.
The mean alone would not do, because a thin scratch that anyone sees has a small one."""


@dataclass(frozen=True)
class SpoiledImages:
    """Images that were spoiled by one family, without those that it leaves almost unchanged."""

    images: NDArray[np.uint8]
    """The spoiled images, uint8 [n, H, W, C]."""
    ids: NDArray[np.int64]
    """The row of each one's original, int64 [n], in ascending order."""


def families_for(channels: int) -> list[str]:
    """Return the names of the families for images of 1 (gray) or 3 (RGB) channels."""
    return [name for name, family in FAMILIES.items() if channels == 3 or not family.needs_colour]


def spoiled(
    images: NDArray[np.uint8], family: str, seed: int, others: NDArray[np.uint8]
) -> SpoiledImages:
    """Spoil each image in the way of one family.

    What becomes of an image is a function of the image, the family, the seed and `others`.

    Args:
        images: normal images, uint8 [N, H, W, C] with H and W of at least 8 px.
        family: a name that `families_for` lists for C channels.
        seed: any integer.
        others: normal images of which pieces are taken, uint8 [M, H, W, C] with M of at least 1.
            They may contain `images`: no image gets a piece of itself, unless all others are equal
            to it.
    """
    assert family in families_for(images.shape[3]), family
    assert len(others) and others.shape[1:] == images.shape[1:], (images.shape, others.shape)
    found, ids = [], []
    for row, image in enumerate(images):
        rng = _generator(image, family, seed)
        other = _drawn_other(image, others, rng)
        result = FAMILIES[family].spoil(image, other, rng)
        change = np.abs(image.astype(np.int16) - result)
        if change.mean() >= LEAST_MEAN_LEVELS or change.max() >= LEAST_PEAK_LEVELS:
            found.append(result)
            ids.append(row)
    kept = np.stack(found) if found else images[:0].copy()
    return SpoiledImages(kept, np.array(ids, np.int64))


def _generator(image: Picture, family: str, seed: int) -> np.random.Generator:
    """Return the random generator for an image, which is the same in every process."""
    digest = blake2b(f"{seed} {family} ".encode() + image.tobytes(), digest_size=8)
    return np.random.default_rng(int.from_bytes(digest.digest(), "little"))


def _drawn_other(image: Picture, others: NDArray[np.uint8], rng: np.random.Generator) -> Picture:
    """Draw one of the others. If it is equal to the image, take the next one that is not."""
    first = int(rng.integers(len(others)))
    for step in range(len(others)):
        other = others[(first + step) % len(others)]
        if not np.array_equal(other, image):
            return other
    return others[first]
