"""The IDX files of MNIST and similar data sets, gzipped as they are published, or unpacked.

    train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz]    split "train"
    t10k-images-idx3-ubyte[.gz],  t10k-labels-idx1-ubyte[.gz]     split "test"

A file has a magic number (0x00000803 for images, 0x00000801 for labels), one big-endian uint32 for
each dimension, then the bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import UserError
from shards.sources.arrays import Images

MAX_GZIP_RATIO = 1100
"""The most bytes that one byte of gzip can unpack to, rounded up (DEFLATE reaches 1,032)."""
STEMS = {"train": "train", "test": "t10k"}
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
KMNIST_CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def open_idx(folder: Path, split: str, classes: Sequence[str] = ()) -> Images:
    """Read the gray images of one split into memory (47 MB for 60,000 of 28 x 28 px).

    Args:
        folder: The folder of the official files, or one of these files.
        split: "train" or "test".
        classes: The name of each label; by default its number.

    Raises:
        UserError: A file is missing, damaged or not IDX, the numbers of images and labels differ,
            or a label has no class.
    """
    folder = folder.parent if folder.is_file() else folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of IDX files")
    images_path = _find(folder, f"{STEMS[split]}-images-idx3-ubyte")
    labels_path = _find(folder, f"{STEMS[split]}-labels-idx1-ubyte")
    images = read_idx(images_path, dimensions=3)  # uint8 [N,H,W]
    labels = read_idx(labels_path, dimensions=1)  # uint8 [N]
    return Images([images_path, labels_path], images[..., None], labels, classes)


def _find(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    raise UserError(f"{folder / stem}.gz: missing (and so is {stem})")


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    """Open an IDX file, unpacked; errors in the block become a `UserError` with the path."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def idx_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Yield the unpacked bytes of an IDX file, `block_bytes` at a time.

    Raises:
        UserError: The file is missing, is cut, or is not gzip although its name ends in .gz.
    """
    with _unpacked(path) as file:
        while block := file.read(block_bytes):
            yield block


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of an IDX file of bytes: uint8, with `dimensions` dimensions.

    Raises:
        UserError: The file is cut, is not gzip although its name ends in .gz, or has a wrong magic
            number, wrong dimensions or a wrong length.
    """
    magic = bytes([0, 0, 8, dimensions])
    start = 4 + 4 * dimensions
    with _unpacked(path) as file:
        header = file.read(start)
        if header[:4] != magic:
            there = header[:4].hex()
            raise UserError(f"{path}: starts with {there}, expected {magic.hex()} of an IDX file")
        if len(header) < start:
            raise UserError(f"{path}: cut within its header")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        expected = math.prod(shape)
        if start + expected > path.stat().st_size * (MAX_GZIP_RATIO if path.suffix == ".gz" else 1):
            raise UserError(f"{path}: too short for its dimensions {shape}")
        data = file.read(expected + 1)  # One byte more shows that the file is too long.
    if len(data) != expected:
        there = "more" if len(data) > expected else f"{len(data)}"
        raise UserError(f"{path}: {there} bytes, its dimensions {shape} make {expected}")
    return np.frombuffer(data, np.uint8).reshape(shape)
