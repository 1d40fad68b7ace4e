"""Conversion of an image to the channels and the size of a set.

It uses Pillow, because the code of the papers uses Pillow too.
"""

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
"""The rule for resizing images to a square, with bicubic or bilinear interpolation. `-crop`
and `-pad` keep the aspect ratio; without them, the image is squashed to the square. `-crop` resizes
the shorter side to the size of the set and keeps the middle square (torchvision's `Resize(size)`
and `CenterCrop(size)`). `-pad` resizes the longer side to the size of the set and fills the margins
with the background colour."""
RESIZES: tuple[Resize, ...] = get_args(Resize)
Fit = Literal["squash", "crop", "pad"]
"""The way to make an image square: squash = change the aspect ratio; crop = keep the middle square;
pad = add margins."""
FITS: tuple[Fit, ...] = get_args(Fit)
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MAX_PIXELS = 89_478_485
"""The largest number of pixels of an image, which is Pillow's own limit (0.27 GB as RGB). A larger
image is refused before memory is allocated for it."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels: channels -> mode."""


class BadImage(Exception):
    """An image that cannot be used. The message is the reason in one line, without a file name."""


def to_image(pixels: np.ndarray) -> Image.Image:
    """Convert pixels, uint8 [H,W,1] or [H,W,3], to a Pillow image of mode L or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of mode L or RGB to pixels. Returns uint8 [H,W,1] or [H,W,3]."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to mode RGB (`channels` = 3) or mode L (`channels` = 1).

    An image that has this mode already is returned unchanged.
    """
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def fit_of(rule: Resize) -> Fit:
    """Return how the resizing rule makes an image square: "squash", "crop" or "pad"."""
    return "crop" if rule.endswith("-crop") else "pad" if rule.endswith("-pad") else "squash"


def fit(image: Image.Image, size_px: int, rule: Resize, background: str = "#000") -> Image.Image:
    """Resize an image to `size_px` x `size_px`.

    An image that has this size already is returned unchanged.

    Args:
        image: An image of mode L or RGB.
        size_px: The side of the square in pixels.
        rule: The resizing rule.
        background: The colour of the margins, if `rule` ends in `-pad`.

    Raises:
        BadImage: `rule` ends in `-crop`, and the image is so long and thin that the resized image
            would have more than MAX_PIXELS pixels before the middle square is cut out.
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
