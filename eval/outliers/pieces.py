"""Families that put something foreign into an image: a piece of another image, a scratch, a blot.

The functions are those of `eval.outliers.families.Family`. Lengths are rounded to whole pixels, and
are at least 1 px.
"""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from eval.outliers.pictures import Picture
from shards.pixels.resize import to_image, to_pixels


def paste(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Replace a rectangle by a piece of the other image.

    The height of the rectangle is 25 to 50 % of the image's height, and its width is 25 to 50 % of
    the image's width. Rectangle and piece each lie anywhere in their image.
    """
    size_px = np.array(image.shape[:2])
    piece_px = np.maximum(1, np.rint(rng.uniform(0.25, 0.5, 2) * size_px).astype(int))
    rows, columns = piece_px
    top, left = rng.integers(size_px - piece_px, endpoint=True)
    other_top, other_left = rng.integers(size_px - piece_px, endpoint=True)
    pasted = image.copy()
    pasted[top : top + rows, left : left + columns] = other[
        other_top : other_top + rows, other_left : other_left + columns
    ]
    return pasted


def half(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Replace the upper, lower, left or right half by the same half of the other image."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    halves = np.s_[:rows], np.s_[rows:], np.s_[:, :columns], np.s_[:, columns:]
    replaced = halves[rng.integers(4)]
    joined = image.copy()
    joined[replaced] = other[replaced]
    return joined


def scratch(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Draw a straight line of one random colour, in any direction.

    Its length is 30 to 80 % of the shorter side, and its width is 1.5 to 4 %. Its middle lies in
    the middle half of the height and of the width. What lies outside of the image is cut off.
    """
    side_px = min(image.shape[:2])
    angle = rng.uniform(0, np.pi)
    half_line = rng.uniform(0.15, 0.4) * side_px * np.array([np.cos(angle), np.sin(angle)])
    middle = _middle(image, rng)
    ends = np.rint([middle - half_line, middle + half_line]).astype(int)
    width_px = max(1, round(rng.uniform(0.015, 0.04) * side_px))
    canvas = to_image(image)
    ImageDraw.Draw(canvas).line(ends.ravel().tolist(), _colour(image, rng), width_px)
    return to_pixels(canvas)


def blot(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Draw a filled ellipse of one random colour.

    Its height and its width are each 10 to 30 % of the shorter side. Its middle lies in the middle
    half of the height and of the width.
    """
    diameters_px = np.maximum(1, np.rint(rng.uniform(0.1, 0.3, 2) * min(image.shape[:2])))
    # Middles at which the ellipse begins and ends between two pixels.
    x, y = np.rint(_middle(image, rng) - diameters_px / 2) + (diameters_px - 1) / 2
    radius_x, radius_y = diameters_px / 2
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    # Pillow would draw no pixel at all for an ellipse of 1 x 1 px.
    blotted = image.copy()
    inside = ((columns - x) / radius_x) ** 2 + ((rows - y) / radius_y) ** 2 <= 1
    blotted[inside] = _colour(image, rng)
    return blotted


def _middle(image: Picture, rng: np.random.Generator) -> np.ndarray:
    """Draw a point (x, y) in the middle half of the width and of the height."""
    height, width = image.shape[:2]
    return rng.uniform(0.25, 0.75, 2) * (width, height)


def _colour(image: Picture, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw one level for each channel, 0..255."""
    return tuple(int(rng.integers(256)) for _ in range(image.shape[2]))
