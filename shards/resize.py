"""Bringing an image to the channels and the size of a set, in Pillow, as the papers' code did."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image

Resize = Literal["pillow-bicubic", "pillow-bilinear", "pillow-bilinear-crop"]
"""To the set's square by bicubic or bilinear interpolation, the aspect ratio not kept; or the
shorter side to the set's size by bilinear interpolation, then the middle square (torchvision's
`Resize(size)` and `CenterCrop(size)`)."""
RESIZES: tuple[Resize, ...] = get_args(Resize)
_FILTERS = {
    "pillow-bicubic": Image.Resampling.BICUBIC,
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bilinear-crop": Image.Resampling.BILINEAR,
}
MAX_PIXELS = 89_478_485
"""An image with more is refused before it is made; Pillow's own limit, 0.25 GB as RGB."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""


class BadImage(Exception):
    """An image that cannot be used, and why: in one line, without its name."""


def to_image(pixels: np.ndarray) -> Image.Image:
    """Pixels, uint8 [H,W,1] or [H,W,3], as an image of mode L or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: Image.Image) -> np.ndarray:
    """An image of mode L or RGB as pixels, uint8 [H,W,1] or [H,W,3]."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """An image as RGB (3 channels) or gray (1), by Pillow; as it is when it is that already."""
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def fit(image: Image.Image, size_px: int, rule: Resize) -> Image.Image:
    """An image of mode L or RGB at `size_px` x `size_px`, unless that is its size already.

    Raises:
        BadImage: it is so long and thin that there is no memory for it at that width.
    """
    if image.size == (size_px, size_px):
        return image
    if rule != "pillow-bilinear-crop":
        return image.resize((size_px, size_px), _FILTERS[rule])
    width, height = image.size
    shorter = min(width, height)
    width, height = size_px * width // shorter, size_px * height // shorter
    if width * height > MAX_PIXELS:
        raise BadImage(f"larger than {MAX_PIXELS} pixels when resized: {width} x {height}")
    image = image.resize((width, height), _FILTERS[rule])
    left, top = round((width - size_px) / 2), round((height - size_px) / 2)
    return image.crop((left, top, left + size_px, top + size_px))
