"""Writing of one tar of a shard set and its index. The bytes depend only on the samples."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.disk.file_system import naming
from shards.disk.publish import sync_file, write_file
from shards.format.index import Component, Index, format_index
from shards.format.tar import BLOCK_BYTES, END, blank_members, members, padded
from shards.manifest import LABEL, Shard


@dataclass(frozen=True)
class Packed:
    """Some samples as members of a tar, ready to be appended to the tar."""

    keys: np.ndarray
    """The key of each sample as a number: int64 [N]."""
    sizes: dict[str, np.ndarray]
    """The size of each sample's data in bytes: extension -> int64 [N]. The extensions are in the
    order of the tar."""
    data: bytes | memoryview
    """The bytes of all members, sample by sample."""


def pack_raw(
    keys: np.ndarray,
    extension: str,
    size: int,
    fill: Callable[[np.ndarray], None],
    labels: np.ndarray | None,
) -> Packed:
    """Make members of a tar from images that are stored as raw pixels.

    Unlabelled images are not copied, because `fill` writes their pixels between the headers.

    Args:
        keys: The keys as numbers: int64 [N].
        extension: The file extension of the images.
        size: The size of each image in bytes.
        fill: A function that writes the pixels of all images into an array uint8 [N,size]. Each row
            of the array is contiguous in memory.
        labels: The label of each image: int64 [N]. None if the set is unlabelled.
    """
    whole, data = blank_members(keys, extension, size)
    fill(data)
    sizes = np.full(len(keys), size, np.int64)
    if labels is None:
        return Packed(keys, {extension: sizes}, whole.reshape(-1).data)
    return _with_labels(keys, extension, sizes, list(whole), labels)


def pack_encoded(
    keys: np.ndarray, extension: str, images: Sequence[bytes], labels: np.ndarray | None
) -> Packed:
    """Make members of a tar from encoded images.

    Args:
        keys: The keys as numbers: int64 [N].
        extension: The file extension of the images.
        images: The content of each image file: N byte strings.
        labels: The label of each image: int64 [N]. None if the set is unlabelled.
    """
    sizes = np.array([len(image) for image in images], np.int64)
    parts = members(keys, extension, images)
    if labels is None:
        return Packed(keys, {extension: sizes}, b"".join(parts))
    return _with_labels(keys, extension, sizes, parts, labels)


def _with_labels(
    keys: np.ndarray,
    extension: str,
    sizes: np.ndarray,
    image_members: Sequence[Any],
    labels: np.ndarray,
) -> Packed:
    texts = [b"%d" % label for label in labels.tolist()]
    pairs = zip(image_members, members(keys, LABEL, texts), strict=True)
    return Packed(
        keys,
        {extension: sizes, LABEL: np.array([len(text) for text in texts], np.int64)},
        b"".join(part for pair in pairs for part in pair),
    )


class ShardWriter:
    """A writer of one tar, which gets some samples at a time in the order of their keys."""

    def __init__(self, path: Path) -> None:
        """Create the file `path`, which must end in .tar and must not exist yet."""
        self._path = path
        self._out = open(path, "xb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._packed: list[Packed] = []

    def add(self, packed: Packed) -> None:
        """Append samples to the tar."""
        self._write(packed.data)
        self._packed.append(dataclasses.replace(packed, data=b""))

    def _write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._bytes += len(data)
        rest = memoryview(data)
        with naming(self._path):
            while rest:
                # If the disk is nearly full, only a part may be written. The next write raises.
                rest = rest[self._out.write(rest) :]

    def close(self) -> None:
        """Close the file of the tar, even if the tar is not finished."""
        self._out.close()

    def finish(self) -> Shard:
        """Finish the tar, and write its index file beside it.

        Returns:
            The description of the tar and the index, after both files are on the disk.
        """
        self._write(END)
        sync_file(self._out)
        self._out.close()
        keys = np.concatenate([packed.keys for packed in self._packed])
        index = format_index(Index(keys, self._components())).encode()
        write_file(self._path.with_suffix(".idx"), [index])
        return Shard(
            file=self._path.name,
            samples=len(keys),
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            idx_sha256=hashlib.sha256(index).hexdigest(),
        )

    def _components(self) -> dict[str, Component]:
        """Compute the place of each member: all members follow each other, sample by sample."""
        extensions = list(self._packed[0].sizes)
        sizes = np.stack(
            [np.concatenate([packed.sizes[e] for packed in self._packed]) for e in extensions],
            axis=1,
        )  # [samples, components]
        ends = np.cumsum(BLOCK_BYTES + padded(sizes)).reshape(sizes.shape)
        offsets = ends - padded(sizes)
        return {e: Component(offsets[:, i], sizes[:, i]) for i, e in enumerate(extensions)}
