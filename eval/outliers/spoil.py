"""Synthetic outliers from normal images: each is a pure function of the seed and the image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.outliers.families import FAMILIES

LEAST_CHANGE = 1.0
"""Smallest mean absolute difference of a spoiled image from its image, in levels of 0..255. With
less it is no outlier: a symmetric image that was turned, or a gray one in other colours."""


@dataclass(frozen=True)
class Spoiled:
    """The synthetic outliers of one family."""

    images: NDArray[np.uint8]
    """uint8 [n, H, W, C]."""
    ids: NDArray[np.int64]
    """Numbers of the images that were spoiled, int64 [n], ascending."""


def families_for(channels: int) -> list[str]:
    """Return the names of the families that change images with `channels` channels, 1 or 3."""
    return [name for name, family in FAMILIES.items() if channels == 3 or not family.needs_colour]


def spoiled(
    images: NDArray[np.uint8], family: str, seed: int, others: NDArray[np.uint8]
) -> Spoiled:
    """Spoil images in one way. Images that hardly change are left out.

    The random parameters depend on the seed, the family and the image alone, and not on the place
    of the image among the others.

    Args:
        images: uint8 [N, H, W, C].
        family: name of the family, a key of `FAMILIES`.
        seed: the seed.
        others: normal images from which pieces are taken, uint8 [M, H, W, C].
    """
    spoil = FAMILIES[family].spoil
    made = []
    for image in images:
        rng = np.random.default_rng(
            [seed, _number_of(family.encode()), _number_of(image.tobytes())]
        )
        # With another image if there is one: a piece of the same image may change nothing.
        first, second = others[rng.integers(len(others), size=2)]
        made.append(spoil(image, second if (first == image).all() else first, rng))
    found = np.stack(made) if made else images
    change = np.abs(found.astype(np.int16) - images).mean((1, 2, 3))
    ids = np.flatnonzero(change >= LEAST_CHANGE)
    return Spoiled(found[ids], ids)


def _number_of(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
