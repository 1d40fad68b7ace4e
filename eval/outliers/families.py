"""The families of synthetic outliers: each spoils a normal image in one way.

Legend: H side of an image in pixels; C channels, 1 (gray) or 3 (RGB).

Each family is a function of an image, uint8 [H, H, C], of another normal image of the same shape,
and of a random generator, and returns the spoiled image. Some families take a piece of the other
image. Lengths are shares of the shorter side, so that a family is as strong in small images as in
large ones. The pieces, scratches and turns follow CutPaste (Li et al. 2021) and GEOM (Golan and
El-Yaniv 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

Picture = NDArray[np.uint8]
Spoil = Callable[[Picture, Picture, np.random.Generator], Picture]
Float = NDArray[np.floating]


@dataclass(frozen=True)
class Family:
    """A family of synthetic outliers."""

    spoil: Spoil
    """The function that spoils an image."""
    about: str
    """What is unusual about the outliers, as the object of "sees" and "does not see"."""
    needs_colour: bool = False
    """True if the family leaves gray images as they are."""


def paste(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Replace a rectangle, 25 to 50 % of each side, with a piece of the other image."""
    shape = np.array(image.shape[:2])
    sides = np.maximum(1, (rng.uniform(0.25, 0.5, 2) * shape).round().astype(int))
    top, left = rng.integers(shape - sides + 1)
    from_top, from_left = rng.integers(shape - sides + 1)
    spoiled = image.copy()
    spoiled[top : top + sides[0], left : left + sides[1]] = other[
        from_top : from_top + sides[0], from_left : from_left + sides[1]
    ]
    return spoiled


def half(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Replace the upper, lower, left or right half with the same half of the other image."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    halves = np.s_[:rows], np.s_[rows:], np.s_[:, :columns], np.s_[:, columns:]
    part = halves[rng.integers(4)]
    spoiled = image.copy()
    spoiled[part] = other[part]
    return spoiled


def blend(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Mix the image with the other image, which gets a weight of 35 to 65 %."""
    weight = rng.uniform(0.35, 0.65)
    return _to_levels((1 - weight) * image + weight * other)


def quarters(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Put the four quarters of the image into another order."""
    height, width = image.shape[:2]
    rows, columns = height // 2, width // 2
    corners = [(top, left) for top in (0, height - rows) for left in (0, width - columns)]
    spoiled = image.copy()
    for (top, left), number in zip(corners, _new_order(4, rng).tolist(), strict=True):
        from_top, from_left = corners[number]
        spoiled[top : top + rows, left : left + columns] = image[
            from_top : from_top + rows, from_left : from_left + columns
        ]
    return spoiled


def warp(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Bend the image: its points move by smooth random distances, 4 to 10 % of the side (RMS)."""
    side, shape = min(image.shape[:2]), image.shape[:2]
    moves = gaussian_filter(rng.normal(size=(2, *shape)), (0, side / 8, side / 8), mode="wrap")
    moves *= rng.uniform(0.04, 0.1) * side / moves.std()
    return _sampled(image, *(np.indices(shape) + moves))


def scratch(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Draw a straight line of one colour, 30 to 80 % of the side long and 1.5 to 4 % wide."""
    side, middle = min(image.shape[:2]), np.array(image.shape[1::-1]) * rng.uniform(0.25, 0.75, 2)
    angle = rng.uniform(0, np.pi)
    reach = rng.uniform(0.15, 0.4) * side * np.array([np.cos(angle), np.sin(angle)])
    width_px = max(1, round(rng.uniform(0.015, 0.04) * side))
    canvas = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    ends = [*(middle - reach).tolist(), *(middle + reach).tolist()]
    ImageDraw.Draw(canvas).line(ends, _random_colour(image, rng), width_px)
    return np.array(canvas).reshape(image.shape)


def blot(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Draw a filled ellipse of one colour, with diameters of 10 to 30 % of the side."""
    side, middle = min(image.shape[:2]), np.array(image.shape[1::-1]) * rng.uniform(0.25, 0.75, 2)
    radii = rng.uniform(0.05, 0.15, 2) * side
    canvas = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    box = [*(middle - radii).tolist(), *(middle + radii).tolist()]
    ImageDraw.Draw(canvas).ellipse(box, _random_colour(image, rng))
    return np.array(canvas).reshape(image.shape)


def upside_down(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the image by 180 degrees."""
    return image[::-1, ::-1]


def quarter_turn(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the image, which is square, by 90 or 270 degrees."""
    return np.rot90(image, rng.choice([1, 3]))


def channels(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Exchange the colour channels."""
    return image[..., _new_order(3, rng)]


def hue(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Turn the hue by 60 to 300 degrees."""
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(rng.uniform(60, 300) / 360 * 256)
    return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))


def blur(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Blur the image with a Gaussian whose deviation is 3 to 8 % of the side."""
    sigma_px = rng.uniform(0.03, 0.08) * min(image.shape[:2])
    return _to_levels(gaussian_filter(image.astype(np.float64), (sigma_px, sigma_px, 0)))


def noise(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Add Gaussian noise with a deviation of 10 to 40 levels."""
    return _to_levels(image + rng.normal(0, rng.uniform(10, 40), image.shape))


def scale(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Shrink the content to 50 to 75 % of its size, or enlarge it by the inverse."""
    factor = rng.uniform(0.5, 0.75)
    if rng.random() < 0.5:
        factor = 1 / factor
    middle = (np.array(image.shape[:2]) - 1).reshape(2, 1, 1) / 2
    return _sampled(image, *((np.indices(image.shape[:2]) - middle) * factor + middle))


def place(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Move the content in any direction, by 15 to 35 % of the side."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.35) * min(image.shape[:2])
    moved = length * np.array([np.sin(angle), np.cos(angle)]).reshape(2, 1, 1)
    return _sampled(image, *(np.indices(image.shape[:2]) - moved))


def brightness(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    """Darken the image to 40 to 70 % of its levels, or brighten it by as much towards white."""
    factor = rng.uniform(0.4, 0.7)
    if rng.random() < 0.5:
        return _to_levels(image * factor)
    return _to_levels(255 - (255.0 - image) * factor)


FAMILIES = {
    "paste": Family(paste, "pieces of another image"),
    "half": Family(half, "halves of another image"),
    "blend": Family(blend, "two images in one"),
    "quarters": Family(quarters, "exchanged quarters"),
    "warp": Family(warp, "bent shapes"),
    "scratch": Family(scratch, "scratches"),
    "blot": Family(blot, "blots"),
    "upside-down": Family(upside_down, "upside-down images"),
    "quarter-turn": Family(quarter_turn, "quarter turns"),
    "channels": Family(channels, "changes of colour", needs_colour=True),
    "hue": Family(hue, "changes of hue", needs_colour=True),
    "blur": Family(blur, "blur"),
    "noise": Family(noise, "noise"),
    "scale": Family(scale, "changes of size"),
    "place": Family(place, "changes of place"),
    "brightness": Family(brightness, "changes of brightness"),
}
"""Name -> family."""


def _new_order(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random order of `count` things in which not all are where they were."""
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).any():
            return order


def _to_levels(values: Float) -> Picture:
    return values.round().clip(0, 255).astype(np.uint8)


def _random_colour(image: Picture, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, (image.shape[2],)).tolist())


def _sampled(image: Picture, rows: Float, columns: Float) -> Picture:
    """Return the image at other places, interpolated linearly. Its border is repeated outside.

    Args:
        image: uint8 [H, H, C].
        rows: row of each new pixel in the image, float64 [h, w].
        columns: column of each new pixel, float64 [h, w].
    """
    planes = [
        map_coordinates(
            image[..., channel].astype(np.float64), (rows, columns), order=1, mode="nearest"
        )
        for channel in range(image.shape[2])
    ]
    return _to_levels(np.stack(planes, axis=-1))
