"""Small real images, and shard sets of given pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dali_pipes.parity.photographs import photographs as photograph_pieces
from shards.build import build
from shards.building.build_plan import BuildRequest


def build_npy_set(
    folder: Path,
    name: str,
    pixels: np.ndarray,
    /,
    **fields: object,
) -> Path:
    """Build a shard set of `pixels` (uint8 [N, H, W] or [N, H, W, C]) at their own size.

    `fields` are those of `BuildRequest`; by default a shard has 50 samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.npy"
    np.save(source, pixels)
    out = folder / name
    request = BuildRequest("npy", source, pixels.shape[1], out, shard_samples=50)
    build(BuildRequest(**{**vars(request), **fields}))  # type: ignore[arg-type]
    return out


def smooth_images(count: int, side_px: int, channels: int, seed: int) -> np.ndarray:
    """Return random pictures with structure at several scales: uint8 [count, side, side(, 3)]."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, side_px, side_px, channels))
    for coarse in (3, 7, side_px):
        noise = rng.integers(0, 256, (count, coarse, coarse, channels), dtype=np.uint8)
        for image, small in zip(images, noise, strict=True):
            for channel in range(channels):
                layer = Image.fromarray(small[..., channel]).resize(
                    (side_px, side_px), Image.Resampling.BICUBIC
                )
                image[..., channel] += np.asarray(layer) * (0.5 if coarse < side_px else 0.15)
    levels = np.clip(images, 0, 255).astype(np.uint8)
    return levels[..., 0] if channels == 1 else levels


def photographs(count: int, side_px: int, channels: int) -> np.ndarray:
    """Return pieces of 200 px of two photographs, resized: uint8 [count, side, side, channels]."""
    return photograph_pieces(count, side_px, channels, piece_px=200)
