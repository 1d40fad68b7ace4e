"""Writing of one tar of a shard set and its index. Their bytes depend on the samples alone."""

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
    """Samples in the form in which a tar holds them."""

    keys: np.ndarray
    """The keys of the samples as numbers: int64 [N]."""
    sizes: dict[str, np.ndarray]
    """Extension, in the order of the tar -> the size of each sample's data, bytes: int64 [N]."""
    data: bytes | memoryview
    """The members, sample by sample."""


def pack_raw(
    keys: np.ndarray,
    extension: str,
    size: int,
    fill: Callable[[np.ndarray], None],
    labels: np.ndarray | None,
) -> Packed:
    """Make members of a tar from raw samples, without a copy of their pixels.

    Args:
        keys: Keys as numbers, int64 [N].
        extension: The file extension of the images.
        size: The size of each image, bytes.
        fill: Writes the pixels into uint8 [N,size], whose rows are contiguous.
        labels: int64 [N], or None if the set is unlabelled.
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
    """Make members of a tar from encoded images; `keys` and `labels` are as in `pack_raw`."""
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
    """A tar that is written some samples at a time, in the order of their keys."""

    def __init__(self, path: Path) -> None:
        """Create the file `path` (`<...>.tar`), which must not exist."""
        self._path = path
        self._out = open(path, "xb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._packed: list[Packed] = []

    def add(self, packed: Packed) -> None:
        """Append samples."""
        self._write(packed.data)
        self._packed.append(dataclasses.replace(packed, data=b""))

    def _write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self._bytes += len(data)
        rest = memoryview(data)
        with naming(self._path):
            while rest:
                # A disk that is nearly full may take only a part; then the next write raises.
                rest = rest[self._out.write(rest) :]

    def close(self) -> None:
        """Close the tar as it is, finished or not."""
        self._out.close()

    def finish(self) -> Shard:
        """End the tar, write its index beside it, sync both, and return their description."""
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
        """Return the place of each component: members follow each other, sample by sample."""
        extensions = list(self._packed[0].sizes)
        sizes = np.stack(
            [np.concatenate([packed.sizes[e] for packed in self._packed]) for e in extensions],
            axis=1,
        )  # [samples, components]
        ends = np.cumsum(BLOCK_BYTES + padded(sizes)).reshape(sizes.shape)
        offsets = ends - padded(sizes)
        return {e: Component(offsets[:, i], sizes[:, i]) for i, e in enumerate(extensions)}
