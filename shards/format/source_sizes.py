"""The size that each image of a set had in its source, before it was resized: `sizes.bin`.

The file is little-endian uint32 [samples, 2]. Row i has the height and width of sample i, px, after
the turn that its EXIF orientation asks for. A set without resized images has no such file, because
each image had the size of the set.
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
    """Write sizes, integers [samples,2], to the new file `path`, and return its sha256."""
    data = sizes.astype(SIZE).tobytes()
    write_file(path, [data])
    return hashlib.sha256(data).hexdigest()


def parse_sizes(data: bytes, samples: int, path: Path) -> np.ndarray:
    """Return the sizes in `data`, the content of `path`: uint32 [samples,2], read-only.

    Raises:
        UserError: `data` does not have `samples` sizes, or a size is 0.
    """
    if len(data) != 2 * SIZE.itemsize * samples:
        raise UserError(f"{path}: {len(data)} bytes, not the sizes of {samples} images")
    sizes = np.frombuffer(data, SIZE).reshape(-1, 2)
    if not sizes.all():
        raise UserError(f"{path}: sample {int(np.argmin(sizes.all(1)))} has a size of 0 px")
    return sizes


def shape_note(sizes: np.ndarray, rule: Resize) -> str:
    """Describe what a rule has done to images that are not square; "" if all are square.

    Args:
        sizes: Height and width of each image, integers [samples,2].
        rule: The rule by which they were resized.
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
