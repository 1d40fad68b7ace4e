"""Families that move the content of an image.

The functions are those of `eval.outliers.families.Family`. They do not use the other image. Where
the moved content leaves a gap, the pixels of its border are repeated.
"""

from __future__ import annotations

import numpy as np
from PIL.Image import Resampling
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter, minimum_filter

from eval.outliers.pictures import Picture, to_levels
from shards.pixels.resize import to_image, to_pixels


def upside_down(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the image by 180 degrees."""
    return np.rot90(image, 2)


def quarter_turn(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the image by 90 or 270 degrees.

    An image that is not square is then resized to its former height and width.
    """
    height, width = image.shape[:2]
    turned = to_image(np.rot90(image, rng.choice([1, 3])))
    return to_pixels(turned.resize((width, height), Resampling.BILINEAR))


def quarters(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Put the four quarters of the image in another order.

    Two or more quarters change their place. If a side is odd, the line of pixels in its middle
    belongs to no quarter and stays.
    """
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    tops, lefts = (slice(rows), slice(-rows, None)), (slice(columns), slice(-columns, None))
    places = [(top, left) for top in tops for left in lefts]
    order = np.arange(4)
    while (order == np.arange(4)).all():
        order = rng.permutation(4)
    exchanged = image.copy()
    for place, number in zip(places, order, strict=True):
        exchanged[place] = image[places[number]]
    return exchanged


def scale(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Reduce the image to 50 to 75 % of each side, or enlarge its middle of this size.

    Pixels are interpolated linearly. A reduced image is smoothed before, so that it has no aliasing
    that would give it away, and stands in the middle.
    """
    height, width = image.shape[:2]
    share = rng.uniform(0.5, 0.75)
    picture = to_image(image)
    if rng.random() < 0.5:
        left, top = width * (1 - share) / 2, height * (1 - share) / 2
        box = (left, top, width - left, height - top)
        return to_pixels(picture.resize((width, height), Resampling.BILINEAR, box))
    reduced_px = round(width * share), round(height * share)
    reduced = to_pixels(picture.resize(reduced_px, Resampling.BILINEAR))
    below, right = height - reduced.shape[0], width - reduced.shape[1]
    gaps = (below // 2, below - below // 2), (right // 2, right - right // 2), (0, 0)
    return np.pad(reduced, gaps, mode="edge")


def place(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Move the content by 15 to 35 % of the shorter side, in any direction.

    The distances along both sides are rounded to whole pixels, because interpolation would blur.
    """
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    length_px = rng.uniform(0.15, 0.35) * min(height, width)
    down, right = round(length_px * np.sin(angle)), round(length_px * np.cos(angle))
    rows = (np.arange(height) - down).clip(0, height - 1)
    columns = (np.arange(width) - right).clip(0, width - 1)
    return image[rows[:, None], columns]


def warp(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Bend the content: each pixel takes its levels from a place at a smooth random distance.

    The distances along both sides are white noise, smoothed by a Gaussian whose standard deviation
    is an eighth of the shorter side. Their mean is 0, so that the content does not move as a whole.
    Their standard deviation is 4 to 10 % of the shorter side (elastic distortions, Simard et al.
    2003). Pixels are interpolated linearly.
    """
    size_px, side_px = image.shape[:2], min(image.shape[:2])
    smooth_px = (0, side_px / 8, side_px / 8)
    distances = gaussian_filter(rng.normal(size=(2, *size_px)), smooth_px, mode="wrap")
    distances -= distances.mean((1, 2), keepdims=True)
    distances *= rng.uniform(0.04, 0.1) * side_px / distances.std()
    sources = np.indices(size_px) + distances
    planes = [
        map_coordinates(plane, sources, np.float64, order=1, mode="nearest")
        for plane in np.moveaxis(image, 2, 0)
    ]
    return to_levels(np.stack(planes, 2))


def swell(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Let the bright parts of the image swell and the dark ones shrink, or the other way round.

    Each pixel takes the highest (or the lowest) level of each channel in a square around it, whose
    half side is 4 to 10 % of the shorter side, at least one pixel (gray dilation and erosion).
    """
    radius_px = max(1, round(rng.uniform(0.04, 0.1) * min(image.shape[:2])))
    extreme = maximum_filter if rng.random() < 0.5 else minimum_filter
    side_px = 2 * radius_px + 1
    return extreme(image, (side_px, side_px, 1), mode="nearest")
