"""Readers of the images of a step: from the shards, or from memory.

Each sample is read by one positioned read, directly from its tar, at the offset in the index. So
any order costs the same, and the shuffle is global. A memory-mapped file would crash the process
when a shard is cut off during a run; here this is an error that names the shard.
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
    """A reader of pixels by sample id."""

    def read(self, ids: np.ndarray) -> Tensor:
        """Return the pixels of the samples `ids` (int64 [B]): uint8 [B, H, W, C]."""


class StreamReader:
    """Reads, and decodes, the samples of each step from the shards."""

    def __init__(self, shards: ShardSet) -> None:
        """Read from an open set."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> Tensor:
        """Return pixels on the CPU; see `Reader`."""
        return torch.from_numpy(self._shards.read(ids))


class EncodedReader:
    """Reads the samples of each step from the shards; the caller decodes them."""

    def __init__(self, shards: ShardSet) -> None:
        """Read from an open set of encoded images."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the image files of the samples `ids` (int64 [B]): each uint8 [bytes]."""
        return self._shards.read_files(ids)


class ResidentReader:
    """Holds all pixels of a set on a device and reads its shards only once."""

    def __init__(self, shards: ShardSet, device: torch.device) -> None:
        """Check every byte of the shards against the manifest, and load them.

        Raises:
            UserError: a shard is not as it was built.
        """
        verify_shards(shards.directory, full=True)
        shape = len(shards), *shards.manifest.sample_shape
        self._pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        for part in torch.arange(len(shards)).split(READ_AT_ONCE):
            self._pixels[part[0] : part[-1] + 1] = torch.from_numpy(shards.read(part.numpy()))

    def read(self, ids: np.ndarray) -> Tensor:
        """Return pixels on the reader's device; see `Reader`."""
        if self._pixels.device.type == "cpu":
            return torch.from_numpy(self._pixels.numpy()[ids])
        return self._pixels[to_device(ids, self._pixels.device)]


def open_readers(
    sets: Mapping[str, ShardSet], config: LoaderConfig, device: torch.device
) -> dict[str, Reader]:
    """Return the configured reader of pixels for each stream; resident pixels are on `device`.

    Raises:
        UserError: the pixels need more memory than allowed, or a shard is not as it was built.
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
