"""A temporary shard set for the benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet


@contextmanager
def image_set(
    count: int, side_px: int = 32, encoding: Literal["raw", "jpg"] = "raw"
) -> Iterator[ShardSet]:
    """Build a set of `count` smooth random RGB images of `side_px` x `side_px`, and yield it.

    The set is removed at the end of the block.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((count, 3, 6, 6), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=side_px, mode="bicubic").clamp(0, 1)
    pixels = (smooth.movedim(1, -1) * 255).round().byte().numpy()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "images.npy", Path(folder) / "shards"
        np.save(source, pixels)
        build(BuildRequest("npy", source, size_px=side_px, out=out, encoding=encoding))
        yield ShardSet.open(out)
