"""The file `sizes.bin`, which holds the size that each image had before it was resized.

It is little-endian uint32 [samples, 2]. Row i has the height and width of sample i in pixels, after
the EXIF rotation. If no image of a set was resized, the set has no such file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from shards.disk.publish import write_file
from shards.errors import UserError
from shards.pixels.resize import Resize, fit_of

SIZE = np.dtype("<u4")


def write_sizes(path: Path, sizes: np.ndarray) -> str:
    """Write the sizes of images to a new file.

    Args:
        path: The file, which must not exist yet.
        sizes: The height and width of each image in pixels: integers [samples,2].

    Returns:
        The SHA-256 digest of the file, in hexadecimal.
    """
    data = sizes.astype(SIZE).tobytes()
    write_file(path, [data])
    return hashlib.sha256(data).hexdigest()


def parse_sizes(data: bytes, samples: int, path: Path) -> np.ndarray:
    """Parse the content of a file `sizes.bin`.

    Args:
        data: The content of the file.
        samples: The number of samples of the set.
        path: The path of the file, for error messages.

    Returns:
        The height and width of each image in pixels, as a read-only array uint32 [samples,2].

    Raises:
        UserError: `data` does not hold exactly `samples` sizes, or a height or width is 0.
    """
    if len(data) != 2 * SIZE.itemsize * samples:
        raise UserError(f"{path}: {len(data)} bytes, not the sizes of {samples} images")
    sizes = np.frombuffer(data, SIZE).reshape(-1, 2)
    if not sizes.all():
        raise UserError(f"{path}: sample {int(np.argmin(sizes.all(1)))} has a size of 0 px")
    return sizes


def shape_note(sizes: np.ndarray, rule: Resize) -> str:
    """Return a note about how resizing changed the images that are not square.

    The note is empty if all images are square.

    Args:
        sizes: The height and width of each image before it was resized: integers [samples,2].
        rule: The rule that was used to resize the images.
    """
    ratios = sizes.max(axis=1) / sizes.min(axis=1)
    count = int((ratios > 1).sum())
    if not count:
        return ""
    most, typical = float(ratios.max()), float(np.median(ratios[ratios > 1]))
    done = {
        "squash": f"were squashed, by a factor of {typical:.2f} in the median, {most:.2f} at most; "
        "--fit crop or --fit pad keeps their shapes",
        "crop": f"lost what is outside of their middle square: {1 - 1 / typical:.0%} of their "
        f"area in the median, {1 - 1 / most:.0%} at most",
        "pad": f"have margins: {1 - 1 / typical:.0%} of their area in the median, "
        f"{1 - 1 / most:.0%} at most",
    }[fit_of(rule)]
    return f"{count:,} of {len(sizes):,} images are not square and {done}"
