"""Conversion of one image to the levels, channels and size of a set.

The image may be the content of a file, an array or a Pillow image. Both the build of a set and the
scoring of single images use this file. So an image gets the same pixels, and the same score,
whether it comes from a set or not.
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
"""An image: the content of an image file, a Pillow image, or pixels as uint8 [H, W, 1 or 3]."""


def fitted(item: Item, target: Target) -> tuple[Image.Image, tuple[int, int]]:
    """Convert an image to the levels, channels and size of a set.

    Returns:
        The converted image, of mode L or RGB, and the height and width (px) of the upright image
        before it was resized.

    Raises:
        BadImage: The image cannot be used. The message is the reason.
    """
    image = _in_levels(item, target)
    size = image.height, image.width
    return fit(image, target.size_px, target.resize, target.background), size


def keeps_file(item: Item, target: Target) -> TypeGuard[bytes]:
    """True if a set stores this file without encoding it again.

    The set must store JPEG files, and the file must be a JPEG that already has the form of the set.
    """
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
    except OSError as error:  # Pillow opens a file without its pixels, and loads them only here.
        raise BadImage(f"cannot be decoded: {error}") from error
