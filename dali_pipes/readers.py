"""Where the images of a step come from: streamed from the shards, or held in memory.

Samples are read with one positioned read each, straight from the tars by the offsets of their
index: any order at no cost, hence a truly global shuffle, and a file that is cut under a running
job is an error that names the shard where a mapped file is a crash.
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
    """Pixels by sample id."""

    def read(self, ids: np.ndarray) -> Tensor:
        """uint8 [B, H, W, C] of the samples `ids` (int64 [B])."""


class StreamReader:
    """Reads (and decodes) the samples of each step from the shards."""

    def __init__(self, shards: ShardSet) -> None:
        """Read from an open set."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> Tensor:
        """See `Reader`; on the CPU."""
        return torch.from_numpy(self._shards.read(ids))


class EncodedReader:
    """Reads the samples of each step from the shards and leaves decoding to who asks."""

    def __init__(self, shards: ShardSet) -> None:
        """Read from an open set of encoded images."""
        self._shards = shards

    def read(self, ids: np.ndarray) -> list[np.ndarray]:
        """The files of the samples `ids` (int64 [B]): each uint8 [bytes]."""
        return self._shards.read_files(ids)


class ResidentReader:
    """Holds all pixels of a set on a device; its shards are not read again."""

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
        """See `Reader`; on its device."""
        if self._pixels.device.type == "cpu":
            return torch.from_numpy(self._pixels.numpy()[ids])
        return self._pixels[to_device(ids, self._pixels.device)]


def open_readers(
    sets: Mapping[str, ShardSet], config: LoaderConfig, device: torch.device
) -> dict[str, Reader]:
    """A reader of pixels for each stream, as configured; resident ones on `device`.

    Raises:
        UserError: the pixels take more than the budget, or a shard is not as it was built.
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
