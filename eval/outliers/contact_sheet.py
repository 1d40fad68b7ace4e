"""A contact sheet of the synthetic outliers: a few images, spoiled by each family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.outliers.spoil import families_for, spoiled
from eval.outliers.tuning_images import NORMAL
from shards.pixels.sheet import draw_sheet
from shards.set_sheet import sized_picture

COLUMNS = 8
"""The number of images on a sheet."""


def contact_sheet(images: NDArray[np.uint8], seed: int, others: NDArray[np.uint8]) -> Image.Image:
    """Draw the first images and, in a row for each family, what becomes of them.

    Small images are enlarged by a whole factor, so that each pixel can be seen. The place of an
    image that a family leaves almost unchanged is white.

    Args:
        images: uint8 [N, H, W, C]. The first `COLUMNS` are drawn.
        seed: seed of `spoiled`.
        others: the images of which pieces are taken, uint8 [M, H, W, C].
    """
    images = images[:COLUMNS]
    rows = {NORMAL: [sized_picture(image) for image in images]}
    blank = sized_picture(np.full_like(images[0], 255))
    for family in families_for(images.shape[3]):
        rows[family] = [blank] * len(images)
        found = spoiled(images, family, seed, others)
        for column, image in zip(found.ids.tolist(), found.images, strict=True):
            rows[family][column] = sized_picture(image)
    return draw_sheet(list(rows.values()), row_titles=list(rows))
