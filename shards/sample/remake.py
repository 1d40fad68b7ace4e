"""A command that makes the sample again from the official files of Fashion-MNIST.

    python -m shards.sample.remake --src DIR --out shards/sample

The new files have the names and the format of the official files, so that any program that reads
Fashion-MNIST can read them. `--part validation` makes files for choosing between recipes. These
files have the same training images as the sample, but their "test" images come from the official
training split. So the choice does not use the test images of the sample.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from shards.disk.publish import replace_file
from shards.errors import UserError
from shards.sources.idx import open_idx, read_idx
from shards.terminal import cli

OFFICIAL_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The SHA-256 digest of each official file after unpacking: file name -> digest. The digests are of
the unpacked files, so that files that were compressed again are accepted too."""
TRAIN_CLASSES = (5, 7, 9)
TRAIN_IMAGES_PER_CLASS = 2_048
TEST_CLASSES = tuple(range(10))
TEST_IMAGES_PER_CLASS = 300


@dataclass(frozen=True)
class RemakeRequest:
    """The options of this command."""

    src: Path
    """Folder that contains the four official files, gzipped or unpacked."""
    out: Path
    """Folder to write the four files to. A file that exists there must have the same content."""
    part: Literal["sample", "validation"] = "sample"
    """The images to write: sample = the sample of this repository; validation = the same training
    images, with test images from the official training split."""


def first_of_each_class(
    labels: np.ndarray, classes: Sequence[int], count: int, skip: int = 0
) -> np.ndarray:
    """Return the positions of the first images of each class.

    Args:
        labels: The label of each image: integers [N].
        classes: The labels of the classes to select.
        count: The number of images to select per class.
        skip: The number of images to skip at the start of each class.

    Returns:
        The positions of the selected images, sorted: int64 [n].
    """
    positions = [np.flatnonzero(labels == label)[skip : skip + count] for label in classes]
    return np.sort(np.concatenate(positions))


def sample_files(src: Path, part: Literal["sample", "validation"]) -> dict[str, bytes]:
    """Make the contents of the four files.

    Args:
        src: The folder of the official files.
        part: The images to select, "sample" or "validation".

    Returns:
        The gzipped content of each file: file name -> content.

    Raises:
        UserError: An official file is missing, or has another content than the official one.
    """
    train_images, train_labels = _official(src, "train")
    train = first_of_each_class(train_labels, TRAIN_CLASSES, TRAIN_IMAGES_PER_CLASS)
    if part == "sample":
        test_images, test_labels = _official(src, "t10k")
        test = first_of_each_class(test_labels, TEST_CLASSES, TEST_IMAGES_PER_CLASS)
    else:
        test_images, test_labels = train_images, train_labels
        test = first_of_each_class(
            test_labels, TEST_CLASSES, TEST_IMAGES_PER_CLASS, skip=TRAIN_IMAGES_PER_CLASS
        )
    return {
        "train-images-idx3-ubyte.gz": _packed(train_images[train]),
        "train-labels-idx1-ubyte.gz": _packed(train_labels[train]),
        "t10k-images-idx3-ubyte.gz": _packed(test_images[test]),
        "t10k-labels-idx1-ubyte.gz": _packed(test_labels[test]),
    }


def _official(src: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the official files of one split, and check their digests.

    Returns:
        The images, uint8 [N,28,28], and their labels, uint8 [N].

    Raises:
        UserError: An official file is missing, or has another content than the official one.
    """
    if not src.is_dir():
        raise UserError(f"{src}: no such folder of official files")
    arrays = []
    for name, dimensions in ((f"{stem}-images-idx3-ubyte", 3), (f"{stem}-labels-idx1-ubyte", 1)):
        path = src / f"{name}.gz" if (src / f"{name}.gz").exists() else src / name
        array = read_idx(path, dimensions)
        if hashlib.sha256(unpacked(array)).hexdigest() != OFFICIAL_SHA256[name]:
            raise UserError(f"{path}: not the official file of Fashion-MNIST (sha256 differs)")
        arrays.append(array)
    return arrays[0], arrays[1]


def unpacked(array: np.ndarray) -> bytes:
    """Return the unpacked content of an IDX file that holds `array`.

    `array` is uint8 and may have any number of dimensions.
    """
    magic = bytes([0, 0, 8, array.ndim])
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _packed(array: np.ndarray) -> bytes:
    return gzip.compress(unpacked(array), compresslevel=9, mtime=0)


def remake(request: RemakeRequest) -> dict[str, bytes]:
    """Write the four files.

    Returns:
        The gzipped content of each file: file name -> content.

    Raises:
        UserError: An official file is missing or wrong, or an output file exists with another
            content. In both cases nothing is written.
    """
    files = sample_files(request.src, request.part)
    for name, content in files.items():
        path = request.out / name
        if path.exists() and path.read_bytes() != content:
            raise UserError(f"{path}: exists with another content; name another output folder")
    request.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(request.out / name, [content])
    return files


def main(argv: Sequence[str] | None = None) -> None:
    """Run this command: write the four files, and print the numbers of images and the size."""
    request = cli.parse(RemakeRequest, argv, description="Remake the sample's files.")
    files = remake(request)
    train, test = open_idx(request.out, "train"), open_idx(request.out, "test")
    mega_bytes = sum(map(len, files.values())) / 1e6
    print(f"{request.out}: {len(train)} training, {len(test)} test images, {mega_bytes:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
