"""Bringing an image to the channels and the size of a set, in Pillow, as the papers' code did."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image

Resize = Literal[
    "pillow-bicubic",
    "pillow-bilinear",
    "pillow-bicubic-crop",
    "pillow-bilinear-crop",
    "pillow-bicubic-pad",
    "pillow-bilinear-pad",
]
"""To the set's square by bicubic or bilinear interpolation, the aspect ratio not kept; with `-crop`
the shorter side to the set's size and then the middle square (torchvision's `Resize(size)` and
`CenterCrop(size)`); with `-pad` the longer side, and a margin of the background's colour."""
RESIZES: tuple[Resize, ...] = get_args(Resize)
Fit = Literal["squash", "crop", "pad"]
"""What becomes of the aspect ratio."""
FITS: tuple[Fit, ...] = get_args(Fit)
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
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


def fit_of(rule: Resize) -> Fit:
    """What a rule does to images that are not square."""
    return "crop" if rule.endswith("-crop") else "pad" if rule.endswith("-pad") else "squash"


def fit(image: Image.Image, size_px: int, rule: Resize, background: str = "#000") -> Image.Image:
    """An image of mode L or RGB at `size_px` x `size_px`, unless that is its size already.

    Args:
        image: Of mode L or RGB.
        size_px: The side of the square.
        rule: How it is brought to that.
        background: The colour of the margins of a `-pad` rule.

    Raises:
        BadImage: It is so long and thin that there is no memory for it at that width.
    """
    if image.size == (size_px, size_px):
        return image
    resample = _FILTERS[rule.split("-")[1]]
    how = fit_of(rule)
    if how == "squash":
        return image.resize((size_px, size_px), resample)
    if how == "pad":
        longer = max(image.size)
        width, height = (max(1, round(side * size_px / longer)) for side in image.size)
        page = Image.new(image.mode, (size_px, size_px), background)
        corner = (size_px - width) // 2, (size_px - height) // 2
        page.paste(image.resize((width, height), resample), corner)
        return page
    width, height = image.size
    shorter = min(width, height)
    width, height = size_px * width // shorter, size_px * height // shorter
    if width * height > MAX_PIXELS:
        raise BadImage(f"larger than {MAX_PIXELS} pixels when resized: {width} x {height}")
    image = image.resize((width, height), resample)
    left, top = round((width - size_px) / 2), round((height - size_px) / 2)
    return image.crop((left, top, left + size_px, top + size_px))
