"""The size that each image of a set had in its source, before it was resized: `sizes.bin`.

Row i is of sample i: height and width, px, as little-endian uint32 [samples, 2]; of an image that
its EXIF orientation turns, those after the turn. A set of which no image was resized has no such
file: each image had the set's own size.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from shards.disk import write_file
from shards.errors import UserError
from shards.pixels.resize import Resize, fit_of

SIZE = np.dtype("<u4")


def write_sizes(path: Path, sizes: np.ndarray) -> str:
    """Write the new file `path` of sizes, integers [samples,2]; returns its digest."""
    data = sizes.astype(SIZE).tobytes()
    write_file(path, [data])
    return hashlib.sha256(data).hexdigest()


def parse_sizes(data: bytes, samples: int, path: Path) -> np.ndarray:
    """The sizes in what was read of `path`: uint32 [samples,2], not to be written to.

    Raises:
        UserError: they are not those of so many images.
    """
    if len(data) != 2 * SIZE.itemsize * samples:
        raise UserError(f"{path}: {len(data)} bytes, not the sizes of {samples} images")
    sizes = np.frombuffer(data, SIZE).reshape(-1, 2)
    if not sizes.all():
        raise UserError(f"{path}: sample {int(np.argmin(sizes.all(1)))} has a size of 0 px")
    return sizes


def shape_note(sizes: np.ndarray, rule: Resize) -> str:
    """What a rule has done to images that are not square; "" if all are.

    Args:
        sizes: Height and width of each image, integers [samples,2].
        rule: How they were resized.
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
