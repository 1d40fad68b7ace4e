"""Remakes the sample from the official files of Fashion-MNIST.

    python -m shards.sample.remake --src DIR --out shards/sample

The result has the names and the format of the official files, so any reader of Fashion-MNIST reads
it. `--part validation` makes files for the choice between recipes: they have the same training
images, but their "test" images come from the official training split. So the test images of the
sample stay unseen.
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
"""The sha256 of the official files, unpacked, so that files that were compressed again pass too."""
TRAIN_CLASSES = (5, 7, 9)
TRAIN_IMAGES_PER_CLASS = 2_048
TEST_CLASSES = tuple(range(10))
TEST_IMAGES_PER_CLASS = 300


@dataclass(frozen=True)
class RemakeRequest:
    """The part of the official files to write, and its place."""

    src: Path
    """Folder of the four official files, gzipped or unpacked."""
    out: Path
    """Folder for the four files of the sample; files that are there must have the same content."""
    part: Literal["sample", "validation"] = "sample"
    """"sample", or "validation": the test images are taken from the official training split."""


def first_of_each_class(
    labels: np.ndarray, classes: Sequence[int], count: int, skip: int = 0
) -> np.ndarray:
    """Return sorted positions of `count` images a class, after its first `skip`: int64 [n]."""
    positions = [np.flatnonzero(labels == label)[skip : skip + count] for label in classes]
    return np.sort(np.concatenate(positions))


def sample_files(src: Path, part: Literal["sample", "validation"]) -> dict[str, bytes]:
    """Return file name -> gzipped content of the four files of a part.

    Raises:
        UserError: An official file is missing, or its content is not the official one.
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
    """Read and check a split: images uint8 [N,28,28] and labels uint8 [N]."""
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
    """Return the content of an IDX file that holds a uint8 array of any number of dimensions."""
    magic = bytes([0, 0, 8, array.ndim])
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _packed(array: np.ndarray) -> bytes:
    return gzip.compress(unpacked(array), compresslevel=9, mtime=0)


def remake(request: RemakeRequest) -> dict[str, bytes]:
    """Write the four files and return them by name.

    Raises:
        UserError: An official file is wrong, or an output file exists with another content. Then
            nothing is written.
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
    """Write the files, and print one line about them."""
    request = cli.parse(RemakeRequest, argv, description="Remake the sample's files.")
    files = remake(request)
    train, test = open_idx(request.out, "train"), open_idx(request.out, "test")
    mega_bytes = sum(map(len, files.values())) / 1e6
    print(f"{request.out}: {len(train)} training, {len(test)} test images, {mega_bytes:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
