"""Readers that return the images of a step, from the shards or from memory.

Each sample is read directly from its tar, with one read at the offset that the index gives. So
samples can be read in any order at the same cost, and the shuffle covers the whole set. If a shard
becomes shorter during a run, the reader raises an error that names the shard. A memory-mapped file
would crash the process instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dali_pipes.config import LoaderConfig
from dali_pipes.transfer import to_device
from shards.errors import UserError
from shards.reader import ShardSet
from shards.verify import verify_shards

READ_AT_ONCE = 4096


class Reader(Protocol):
    """A reader that returns the pixels of samples."""

    def read(self, ids: np.ndarray) -> Tensor:
        """Return the pixels of the samples with the ids `ids`: int64 [B] -> uint8 [B, H, W, C]."""


class StreamReader:
    """A reader that reads samples from the shards at each call, and decodes them if necessary."""

    def __init__(self, shards: ShardSet) -> None:
        """Prepare to read from an open set."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> Tensor:
        """Return the pixels of samples, on the CPU; see `Reader.read`."""
        return torch.from_numpy(self._shards.read(ids))


class EncodedReader:
    """A reader that returns image files without decoding them; DALI decodes them later."""

    def __init__(self, shards: ShardSet) -> None:
        """Prepare to read from an open set of PNG or JPEG images."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the content of the image file of each sample in `ids`, int64 [B].

        Returns:
            B arrays, each uint8 [number of bytes].
        """
        return self._shards.read_files(ids)


class ResidentReader:
    """A reader that holds all pixels of a set in the memory of a device."""

    def __init__(self, shards: ShardSet, device: torch.device) -> None:
        """Check every byte of the shards against the manifest, and load all pixels.

        Raises:
            UserError: A shard was changed since it was built.
        """
        verify_shards(shards.directory, full=True)
        shape = len(shards), *shards.manifest.sample_shape
        self._pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        for part in torch.arange(len(shards)).split(READ_AT_ONCE):
            self._pixels[part[0] : part[-1] + 1] = torch.from_numpy(shards.read(part.numpy()))

    def read(self, ids: np.ndarray) -> Tensor:
        """Return the pixels of samples, on the reader's device; see `Reader.read`."""
        if self._pixels.device.type == "cpu":
            return torch.from_numpy(self._pixels.numpy()[ids])
        return self._pixels[to_device(ids, self._pixels.device)]


def open_readers(
    sets: Mapping[str, ShardSet], config: LoaderConfig, device: torch.device
) -> dict[str, Reader]:
    """Open one reader of pixels per stream, of the kind that `config.reader` names.

    Args:
        sets: Stream ("in-dist" or "aux") -> set.
        config: The options of the loader.
        device: The device whose memory holds the pixels of resident readers.

    Raises:
        UserError: The pixels need more memory than allowed, or a shard was changed since it was
            built.
    """
    if config.reader == "stream":
        return {stream: StreamReader(shards) for stream, shards in sets.items()}
    size_gb = {
        stream: len(shards) * math.prod(shards.manifest.sample_shape) / 1e9
        for stream, shards in sets.items()
    }
    if sum(size_gb.values()) > config.resident_gb:
        sizes = ", ".join(
            f"{sets[stream].directory} {size:.2f} GB" for stream, size in size_gb.items()
        )
        raise UserError(
            f"loader.reader is resident, but the pixels take more than loader.resident_gb "
            f"{config.resident_gb:g} ({sizes}); use loader.reader stream"
        )
    return {stream: ResidentReader(shards, device) for stream, shards in sets.items()}
