"""Image files, Pillow images and arrays -> pixels, with the conversion rule of a shard set.

An image therefore has the same pixels and the same score whether it comes from a folder or from a
shard set. This file needs neither torch nor DALI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import UserError
from shards.manifest import Manifest
from shards.pixels.decode import decode, encode
from shards.pixels.fitted import Item, fitted, keeps_file
from shards.pixels.levels import WHITE
from shards.pixels.limits import read_picture
from shards.pixels.resize import RESIZES, BadImage, Resize, to_pixels
from shards.pixels.target import Target
from shards.sources.archives import open_files
from shards.sources.kinds import HEAD_BYTES, tell, why_no_image

CHUNK_BYTES = 64 << 20
"""Largest size in bytes of the pixels of a chunk of images. One chunk is in memory at a time."""

Read = Callable[[], Item]
"""A function that reads one image. It is called only when the image is needed."""


@dataclass(frozen=True)
class Chunk:
    """Some consecutive images of a sequence. Each image has a number, its place in the sequence."""

    numbers: list[int]
    """Numbers of the images that can be read."""
    pixels: np.ndarray
    """Pixels of the images that can be read, uint8 [len(numbers), H, W, C]."""
    unreadable: dict[int, str]
    """Number of each image that cannot be read -> the reason."""


def rule_of(calibration: Manifest, bank: Manifest) -> Target:
    """Return the rule that makes an image comparable with the images of the calibration set.

    If no image of the calibration set was resized, its manifest has no resize rule. Then the resize
    rule of the bank is used. If the bank has none either, the default of `shards.build` is used.
    """
    rules: dict[str, Resize] = {rule: rule for rule in RESIZES}
    resize = rules.get(calibration.resize) or rules.get(bank.resize) or RESIZES[0]
    size_px, _, channels = calibration.sample_shape
    return Target(
        size_px,
        channels,
        calibration.encoding,
        resize,
        calibration.background or bank.background or WHITE,
        calibration.intensity or bank.intensity,
    )


def read_of(image: Path | str | Image.Image | np.ndarray, name: str) -> Read:
    """Return a function that reads an image.

    Args:
        image: a file name, a Pillow image, or an array, uint8 [H, W, 1 or 3].
        name: name of the image, for error messages.

    Raises:
        ValueError: the array has another dtype or shape, or the image has no pixels.
    """
    if isinstance(image, Path | str):
        return partial(read_picture, Path(image))
    if isinstance(image, np.ndarray) and (
        image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"{name} is {image.dtype} {list(image.shape)}, expected uint8 [H, W, 1 or 3]"
        )
    size = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
    if 0 in size:
        raise ValueError(f"{name} has a height of {size[0]} px and a width of {size[1]} px")
    return partial(_itself, image)


def _itself(image: Item) -> Item:
    return image


def folder_images(folder: Path) -> tuple[list[str], list[Read]]:
    """List the files in a folder or an archive, in the order of their names.

    If `folder` is a single image file, the list has only this file. A file whose name or content is
    not an image is in the list too. When such a file is read, `BadImage` is raised. Hidden files
    and links are left out, and a note on stderr tells how many files were left out.

    Returns:
        Names relative to the folder, and functions that read the files, in the same order.

    Raises:
        UserError: there is no such folder, archive or image, or it holds no image.
    """
    if folder.is_file() and why_no_image(folder.name, partial(_head, folder)) is None:
        return [folder.name], [partial(read_picture, folder)]
    files = open_files(folder)
    files.images()  # raises if there is no image
    tell(folder, files.lost)
    reads: list[Read] = [
        partial(_no_image, files.no_images[number])
        if number in files.no_images
        else partial(files.read_image, number)
        for number in range(len(files.names))
    ]
    return files.names, reads


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def read_chunks(reads: Sequence[Read], rule: Target) -> Iterator[Chunk]:
    """Read images in threads, and yield them in chunks.

    An image that cannot be read raises no error. The chunk lists it as unreadable.
    """
    size = max(1, CHUNK_BYTES // rule.sample_bytes)
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(reads), size):
            numbers = range(first, min(first + size, len(reads)))
            found = pool.map(lambda number: _pixels_or_reason(reads[number], rule), numbers)
            pixels, unreadable = {}, {}
            for number, item in zip(numbers, found, strict=True):
                if isinstance(item, str):
                    unreadable[number] = item
                else:
                    pixels[number] = item
            shape = (0, rule.size_px, rule.size_px, rule.channels)
            together = np.stack(list(pixels.values())) if pixels else np.empty(shape, np.uint8)
            yield Chunk(list(pixels), together, unreadable)


def prepare(item: Item, rule: Target) -> np.ndarray:
    """Return the pixels that an image would have in a shard set with this rule.

    Returns:
        uint8 [size_px, size_px, C].

    Raises:
        BadImage: the image cannot be used. The message says why.
    """
    image, _ = fitted(item, rule)
    if rule.encoding == "jpg" and not keeps_file(item, rule):
        image = decode(encode(image, "jpg"), rule.channels)
    return to_pixels(image)


def _pixels_or_reason(read: Read, rule: Target) -> np.ndarray | str:
    try:
        return prepare(read(), rule)
    except (BadImage, UserError) as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


def _no_image(why: str) -> Item:
    raise BadImage(why)
