"""Random access to the samples of a shard set by id, for training and evaluation.

Samples are read with `os.preadv` and not with a memory map. If a tar becomes shorter while it is
open, `preadv` returns too few bytes, and the reader raises an error that names the file. With a
memory map, the process would be killed (SIGBUS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.errors import UserError
from shards.format.index import Index
from shards.format.json_lines import read_json_lines
from shards.format.source_sizes import parse_sizes
from shards.format.tar import sample_key
from shards.manifest import LABEL, NAMES_FILE_NAME, SIZES_FILE_NAME, Manifest
from shards.pixels.decode import decode
from shards.pixels.resize import BadImage, to_pixels
from shards.verify import verify_and_index


class ShardSet:
    """An open shard set, with one file descriptor per shard.

    Several threads may read from it at the same time.
    """

    def __init__(self, directory: Path, manifest: Manifest, indexes: list[Index]) -> None:
        """Open the tars of a set that has been verified. Call `ShardSet.open` instead."""
        self.directory = directory
        self.manifest = manifest
        self._files: list[int] = []
        self._shard_ends = np.cumsum([shard.samples for shard in manifest.shards])
        extension = manifest.extensions[0]
        images = [index.components[extension] for index in indexes]
        self._offsets = np.concatenate([component.offsets for component in images])
        self._sizes = np.concatenate([component.sizes for component in images])
        self._keys = np.concatenate([index.keys for index in indexes])
        self._label_places = [index.components.get(LABEL) for index in indexes]
        self._labels: np.ndarray | None = None
        self._source_sizes: np.ndarray | None = None
        try:
            for shard in manifest.shards:
                self._files.append(os.open(directory / shard.file, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise UserError(f"{directory / shard.file}: {error.strerror}") from error

    @classmethod
    def open(cls, directory: Path) -> ShardSet:
        """Check the set in a folder without reading all tars, and open its tars.

        Raises:
            UserError: The set was damaged or edited since it was built, or a file cannot be opened.
        """
        return cls(directory, *verify_and_index(directory))

    def __len__(self) -> int:
        """Return the number of samples in the set."""
        return self.manifest.samples

    @property
    def channels(self) -> int:
        """The number of channels of the images: 1 (gray) or 3 (RGB)."""
        return self.manifest.channels

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return the pixels of samples, in the order of `ids`.

        PNG and JPEG images are decoded with Pillow.

        Args:
            ids: Sample ids, int64 [B], in the range 0 to len(self) - 1. An id may occur more than
                once.

        Returns:
            uint8 [B, H, W, C], a new array.

        Raises:
            IndexError: An id is out of range.
            UserError: A tar became shorter since it was opened, the disk fails, or an image can no
                longer be decoded.
        """
        out = np.empty((len(ids), *self.manifest.sample_shape), np.uint8)
        if self.manifest.encoding != "raw":
            for pixels, file, sample_id in zip(out, self.read_files(ids), ids, strict=True):
                pixels[...] = self._decoded(file.tobytes(), int(sample_id))
            return out
        memory, start = out.reshape(-1).data, 0
        for shard, offset, size in self._places(ids):
            self._read_into(memory[start : start + size], shard, offset)
            start += size
        return out

    def read_files(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the content of the image file of each sample in `ids`, without decoding it.

        Returns:
            One array per sample, uint8 [number of bytes].

        Raises:
            IndexError: An id is out of range.
            UserError: A tar became shorter since it was opened, or the disk fails.
        """
        files = []
        for shard, offset, size in self._places(ids):
            file = np.empty(size, np.uint8)
            self._read_into(file.data, shard, offset)
            files.append(file)
        return files

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """Return the labels of samples, int64 [B], in the order of `ids`.

        The first call reads the labels of all samples and keeps them in memory.

        Raises:
            IndexError: An id is out of range.
            UserError: The set is unlabelled, or a label in a tar is not the number of a class.
        """
        ids = self._checked(ids)
        if not self.manifest.classes:
            raise UserError(f"{self.directory}: the set is unlabelled")
        if self._labels is None:
            self._labels = np.concatenate([self._shard_labels(i) for i in range(len(self._files))])
        return self._labels[ids]

    def names(self) -> list[str]:
        """Return the names that the samples have in their source, in the order of sample ids.

        Raises:
            UserError: A line of names.jsonl is not a name, or there is not one line per sample.
        """
        names = read_json_lines(self.directory / NAMES_FILE_NAME, str)
        if len(names) != len(self):
            path = self.directory / NAMES_FILE_NAME
            raise UserError(f"{path}: {len(names)} names, but {len(self)} samples")
        return names

    def source_sizes(self, ids: np.ndarray) -> np.ndarray | None:
        """Return the sizes that images had in their source, before they were resized.

        Args:
            ids: Sample ids, int64 [B], in the range 0 to len(self) - 1.

        Returns:
            int64 [B, 2], the height and width of each image in pixels. None if the set was built
            by an early version, which did not store these sizes.

        Raises:
            IndexError: An id is out of range.
            UserError: The file sizes.bin became shorter since the set was opened.
        """
        ids = self._checked(ids)
        manifest = self.manifest
        if manifest.resize == "none":
            return np.tile(np.array(manifest.sample_shape[:2], np.int64), (len(ids), 1))
        if not manifest.sizes_sha256:
            return None
        if self._source_sizes is None:
            path = self.directory / SIZES_FILE_NAME
            self._source_sizes = parse_sizes(path.read_bytes(), len(self), path)
        return self._source_sizes[ids].astype(np.int64)

    def close(self) -> None:
        """Close the tars. The set cannot be read afterwards."""
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> ShardSet:
        """Return the set itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the tars."""
        self.close()

    def _places(self, ids: np.ndarray) -> Iterator[tuple[int, int, int]]:
        """Yield, for each sample in `ids`, the number of its shard and its image's offset and size.

        The offset and the size are in bytes in the tar.
        """
        ids = self._checked(ids)
        shards = np.searchsorted(self._shard_ends, ids, side="right").tolist()
        return zip(shards, self._offsets[ids].tolist(), self._sizes[ids].tolist(), strict=True)

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        if not self._files:
            raise ValueError(f"{self.directory}: read after close")
        ids = np.asarray(ids)
        if ids.ndim != 1 or (len(ids) and not np.issubdtype(ids.dtype, np.integer)):
            raise TypeError(f"ids are {ids.dtype} {ids.shape}, expected integers [B]")
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            raise IndexError(f"ids from {ids.min()} to {ids.max()}, expected 0 to {len(self) - 1}")
        return ids.astype(np.int64, copy=False)

    def _read_into(self, memory: memoryview, shard: int, offset: int) -> None:
        try:
            count = os.preadv(self._files[shard], [memory], offset)
        except OSError as error:
            raise UserError(f"{self._path(shard)}: {error.strerror}") from error
        if count != len(memory):
            place = f"at {offset + count} bytes"
            raise UserError(f"{self._path(shard)}: cut since it was opened ({place})")

    def _path(self, shard: int) -> Path:
        return self.directory / self.manifest.shards[shard].file

    def _decoded(self, data: bytes, sample_id: int) -> np.ndarray:
        key = sample_key(self._keys[sample_id])
        shard = int(np.searchsorted(self._shard_ends, sample_id, side="right"))
        try:
            pixels = to_pixels(decode(data, self.manifest.channels))
        except BadImage as error:
            raise UserError(f"{self._path(shard)}: {key} {error}") from error
        if pixels.shape != self.manifest.sample_shape:
            raise UserError(f"{self._path(shard)}: {key} is an image of {pixels.shape}")
        return pixels

    def _shard_labels(self, shard: int) -> np.ndarray:
        """Return the labels of all samples of one shard, int64 [number of samples]."""
        component = self._label_places[shard]
        assert component is not None
        classes = len(self.manifest.classes)
        label_of = {b"%d" % label: label for label in range(classes)}
        labels = np.empty(len(component.offsets), np.int64)
        places = zip(component.offsets.tolist(), component.sizes.tolist(), strict=True)
        for i, (offset, size) in enumerate(places):
            text = bytearray(min(size, 20))
            self._read_into(memoryview(text), shard, offset)
            label = label_of.get(bytes(text))
            if label is None:
                first_id = self._shard_ends[shard] - len(labels)
                name = f"{sample_key(self._keys[first_id + i])}.{LABEL}"
                raise UserError(f"{self._path(shard)}: {name} is not a label of {classes} classes")
            labels[i] = label
        return labels
