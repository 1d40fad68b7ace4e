"""Conversion of an image to the channels and the size of a set, by Pillow like the papers' code."""

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
"""The rule by which images are resized to the square of the set, by bicubic or bilinear
interpolation. Without an ending, the aspect ratio is not kept. With `-crop`, the shorter side gets
the set's size and the middle square is kept (torchvision's `Resize(size)` and `CenterCrop(size)`).
With `-pad`, the longer side gets the set's size and the margins get the background's colour."""
RESIZES: tuple[Resize, ...] = get_args(Resize)
Fit = Literal["squash", "crop", "pad"]
"""The treatment of the aspect ratio."""
FITS: tuple[Fit, ...] = get_args(Fit)
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MAX_PIXELS = 89_478_485
"""The largest image, pixels (Pillow's own limit; 0.25 GB as RGB). A larger one is refused before
memory is taken for it."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels."""


class BadImage(Exception):
    """An image that cannot be used. The message is the reason in one line, without a file name."""


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels, uint8 [H,W,1] or [H,W,3], as an image of mode L or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return an image of mode L or RGB as pixels, uint8 [H,W,1] or [H,W,3]."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to mode RGB (3 channels) or L (1), unless it has that mode already."""
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def fit_of(rule: Resize) -> Fit:
    """Return what a rule does to images that are not square."""
    return "crop" if rule.endswith("-crop") else "pad" if rule.endswith("-pad") else "squash"


def fit(image: Image.Image, size_px: int, rule: Resize, background: str = "#000") -> Image.Image:
    """Resize an image to `size_px` x `size_px`, unless it has that size already.

    Args:
        image: An image of mode L or RGB.
        size_px: The side of the square.
        rule: The rule of resizing.
        background: The colour of the margins of a `-pad` rule.

    Raises:
        BadImage: The image is so long and thin that it would have more than MAX_PIXELS before its
            middle square is cut out.
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
