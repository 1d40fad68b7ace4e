"""One image as a set has it: from a file's content, an array or a Pillow image to fitted pixels.

A build stores these pixels, and the scorer gives them to images that are in no set. Both use this
file, so an image has the same pixels, and gets the same score, either way.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from PIL import Image

from shards.pixels.decode import decode, is_stored_as_is
from shards.pixels.levels import to_levels
from shards.pixels.resize import BadImage, fit, in_channels, to_image
from shards.pixels.target import Target

Item = bytes | Image.Image | np.ndarray
"""An image: the content of its file, a Pillow image, or pixels, uint8 [H, W, 1 or 3]."""


def fitted(item: Item, target: Target) -> tuple[Image.Image, tuple[int, int]]:
    """Bring an image to the levels, channels and size of a set.

    Returns:
        The image, of mode L or RGB, and the height and width in pixels that it had before.

    Raises:
        BadImage: It cannot be used; the message says why.
    """
    image = _in_levels(item, target)
    size = image.height, image.width
    return fit(image, target.size_px, target.resize, target.background), size


def keeps_file(item: Item, target: Target) -> TypeGuard[bytes]:
    """True if a set of JPEGs stores this file as it is, because it needs no change."""
    return (
        target.encoding == "jpg"
        and isinstance(item, bytes)
        and is_stored_as_is(item, target.size_px, target.channels)
    )


def _in_levels(item: Item, target: Target) -> Image.Image:
    understood = target.channels, target.background, target.intensity
    if isinstance(item, bytes):
        return decode(item, *understood)
    if isinstance(item, np.ndarray):
        return in_channels(to_image(item), target.channels)
    try:
        return to_levels(item, *understood)
    except OSError as error:  # Pillow loads the pixels of an opened file only now.
        raise BadImage(f"cannot be decoded: {error}") from error
