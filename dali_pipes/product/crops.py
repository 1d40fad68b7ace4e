"""The positions of crops in their input images, and the side lengths that crops can have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dali_pipes.view_params import ViewParams


@dataclass(frozen=True)
class CropPlace:
    """The places, in the input images, of the pixels of n padded crops.

    The crops are mirrored and turned. Pixel (i, j) of a crop is pixel number rows[i] + columns[j]
    of its input image, where pixels are numbered row by row.
    """

    rows: np.ndarray
    """int64 [n, K]: the part of a pixel's number that depends on its row in the crop. In the
    padding, the value of the last row is repeated."""
    columns: np.ndarray
    """int64 [n, K]: the part of a pixel's number that depends on its column in the crop. In the
    padding, the value of the last column is repeated."""
    heights: np.ndarray
    """int64 [n]: the height of each crop after it is turned, in pixels, without the padding."""
    widths: np.ndarray
    """int64 [n]: the width of each crop after it is turned, in pixels, without the padding."""


def place_crops(
    params: ViewParams, turns: np.ndarray, image_width: int, padded_px: int
) -> CropPlace:
    """Return the places of crops that are mirrored and then turned counter-clockwise.

    Pixel (i, j) of a crop [h, w] after 0, 1, 2 or 3 quarter turns is the pixel (i, j),
    (j, w-1-i), (h-1-i, w-1-j) or (h-1-j, i) before the turn. `turns`, [n], are the numbers of
    quarter turns, and `padded_px` is the side K of padded crops.
    """
    top, left = params.crop_start.T.astype(np.int64)[..., None]
    height, width = params.crop_shape.T.astype(np.int64)[..., None]
    turns = turns[:, None]
    upside_down = turns >= 2
    mirrored = ((turns == 1) | (turns == 2)) ^ (params.flip[:, None] == 1)
    line = np.arange(padded_px)
    down, across = np.minimum(line, height - 1), np.minimum(line, width - 1)
    y = image_width * (top + np.where(upside_down, height - 1 - down, down))
    x = left + np.where(mirrored, width - 1 - across, across)
    odd = turns % 2 == 1
    return CropPlace(
        rows=np.where(odd, x, y),
        columns=np.where(odd, y, x),
        heights=np.where(odd, width, height)[:, 0],
        widths=np.where(odd, height, width)[:, 0],
    )


def crop_lengths(
    image_hw: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """Return the length, in pixels, of the shortest and the longest side of any possible crop.

    The crops are those that `draw_crops` draws with the same arguments.
    """
    area = image_hw[0] * image_hw[1]
    stretch = max(ratio[1], 1 / ratio[0])
    shortest = max(1, math.floor(math.sqrt(scale[0] * area / stretch)))
    longest = math.ceil(math.sqrt(scale[1] * area * stretch))
    # A crop that does not fit into the image is drawn again. If the last try fails too, the largest
    # crop that fits is taken.
    return min(shortest, *image_hw), longest if longest <= min(image_hw) else max(image_hw)
