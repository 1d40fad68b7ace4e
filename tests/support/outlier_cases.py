"""Images for the tests of synthetic outliers, and one image spoiled."""

from __future__ import annotations

import numpy as np

from eval.outliers.families import FAMILIES
from tests.support.image_sets import photographs


def photo(height: int, width: int, channels: int) -> np.ndarray:
    return photographs(2, max(height, width), channels)[0, :height, :width]


def noise_image(height: int, width: int, channels: int, levels: range) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(levels.start, levels.stop, (height, width, channels), dtype=np.uint8)


def spoil(family: str, image: np.ndarray, seed: int, other: np.ndarray | None = None) -> np.ndarray:
    before = image.copy()
    other = image if other is None else other
    spoiled = FAMILIES[family].spoil(image, other, np.random.default_rng(seed))
    assert spoiled.dtype == np.uint8 and spoiled.shape == image.shape
    np.testing.assert_array_equal(image, before)
    return spoiled


def which(image: np.ndarray, candidates: list[np.ndarray]) -> int:
    """The number of the one candidate that is equal to an image."""
    (number,) = [i for i, one in enumerate(candidates) if np.array_equal(image, one)]
    return number
