"""The IDX files of MNIST and similar data sets, either gzipped (as published) or unpacked.

    train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz]    split "train"
    t10k-images-idx3-ubyte[.gz],  t10k-labels-idx1-ubyte[.gz]     split "test"

A file starts with a magic number: 0x00000803 for images, 0x00000801 for labels. Then it has the
size of each dimension as a big-endian uint32, and then the array as bytes.
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
"""The upper limit of unpacked bytes per gzipped byte. DEFLATE reaches 1,032 at most."""
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
    """Read the gray images of one split into memory. 60,000 images of 28 x 28 px take 47 MB.

    Args:
        folder: The folder of the official files, or the path of one of these files.
        split: "train" or "test".
        classes: The class name of each label. By default, the name is the label as text.

    Raises:
        UserError: A file is missing, is damaged or is not an IDX file. Or the number of labels is
            not the number of images. Or a label has no class name.
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
    """Open an IDX file, and unpack it if it is gzipped.

    Errors of reading or unpacking in the block become `UserError` with the path.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def idx_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Yield the unpacked content of an IDX file in blocks of at most `block_bytes` bytes.

    Raises:
        UserError: The file is missing or cut short, or its name ends in .gz but it is not gzip.
    """
    with _unpacked(path) as file:
        while block := file.read(block_bytes):
            yield block


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array that an IDX file holds.

    Args:
        path: The file. It is unpacked if its name ends in .gz.
        dimensions: The number of dimensions that the array must have.

    Raises:
        UserError: The file is missing or cut short, has a wrong magic number, wrong dimensions or a
            wrong length, or its name ends in .gz but it is not gzip.
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
