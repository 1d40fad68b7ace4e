"""Families that change the levels of an image in place: colour, brightness, blur, noise.

The functions are those of `eval.outliers.families.Family`. They do not use the other image.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from eval.outliers.pictures import Picture, to_levels

HUE_LEVELS = 255
"""Number of levels of the circle of hues in Pillow's mode HSV. Level 255 is the same as level 0."""


def channels(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Put the channels of an RGB image in another order. Two or three of them change."""
    order = np.arange(3)
    while (order == np.arange(3)).all():
        order = rng.permutation(3)
    return image[..., order]


def hue(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the hue of an RGB image by 60 to 300 degrees, in HSV."""
    turn = round(rng.uniform(60, 300) / 360 * HUE_LEVELS)
    hues, saturations, values = Image.fromarray(image).convert("HSV").split()
    turned = hues.point([(level + turn) % HUE_LEVELS for level in range(256)])
    return np.asarray(Image.merge("HSV", (turned, saturations, values)).convert("RGB"))


def brightness(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Make the image darker or brighter.

    Either the levels, or their distances to 255, are multiplied by 0.4 to 0.7.
    """
    factor = rng.uniform(0.4, 0.7)
    white = 0 if rng.random() < 0.5 else 255
    return to_levels(white + (image.astype(np.float64) - white) * factor)


def blur(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Blur the image by a Gaussian whose standard deviation is 3 to 8 % of the shorter side."""
    sigma_px = rng.uniform(0.03, 0.08) * min(image.shape[:2])
    return to_levels(gaussian_filter(image.astype(np.float64), (sigma_px, sigma_px, 0)))


def noise(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Add Gaussian noise with a standard deviation of 10 to 40 levels, to each channel its own."""
    return to_levels(image + rng.normal(0, rng.uniform(10, 40), image.shape))
