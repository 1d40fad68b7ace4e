"""The peers of `benchmarks.shards`, and the files that they convert."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image
from sklearn.datasets import load_sample_images

SIZE_PX = 32
COPY_BLOCK_BYTES = 1 << 20


def write_jpegs(folder: Path, count: int) -> tuple[float, str]:
    """Write `count` JPEG files of two photographs, which differ in crop, zoom, flip and size.

    Their sizes in pixels and bytes are about the sizes in ImageNet: 60 % have 500 x 375 px, and the
    others have four other sizes, of which one is upright and one is larger.

    Returns:
        The mean size of a file in kB, and the mean width and height in pixels as text.
    """
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    sizes = [(500, 375)] * 6 + [(375, 500), (500, 333), (400, 300), (640, 480)]
    shapes = []
    for i in range(count):
        width, height = sizes[rng.integers(len(sizes))]
        photograph = photographs[i % 2]
        zoom = rng.uniform(1.0, 2.0)
        scale = min(photograph.width / width, photograph.height / height) / zoom
        crop_width, crop_height = width * scale, height * scale
        left = rng.uniform(0, photograph.width - crop_width)
        top = rng.uniform(0, photograph.height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        image = photograph.resize((width, height), Image.Resampling.BICUBIC, box)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.save(folder / f"{i:05d}.jpg", quality=int(rng.integers(95, 99)))
        shapes.append((width, height))
    mean_kb = sum(path.stat().st_size for path in folder.iterdir()) / count / 1e3
    return mean_kb, " x ".join(f"{mean:.0f}" for mean in np.mean(shapes, axis=0))


def small_image(path: Path) -> np.ndarray:
    """Decode and resize an image with Pillow, as a plain script does.

    Returns:
        uint8 [SIZE_PX, SIZE_PX, 3].
    """
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    return np.asarray(small)


def decode_only(path: Path) -> int:
    """Decode and resize an image file, write nothing, and return the number of its values."""
    return small_image(path).size


def serial_writer(paths: Sequence[Path], out: Path) -> None:
    """Decode, resize and write all images in one process, with webdataset's ShardWriter."""
    out.mkdir()
    with webdataset.ShardWriter(f"{out}/set-%05d.tar", maxcount=10_000, verbose=0) as writer:
        for i, path in enumerate(paths):
            writer.write({"__key__": f"{i:09d}", "bin": small_image(path).tobytes()})


def plain_copy(source: Path, copy: Path, digests: int = 0) -> None:
    """Copy a file, sync the copy, and compute the sha256 of the content `digests` times."""
    sums = [hashlib.sha256() for _ in range(digests)]
    with open(source, "rb", buffering=0) as read, open(copy, "xb", buffering=0) as written:
        while block := read.read(COPY_BLOCK_BYTES):
            for one in sums:
                one.update(block)
            written.write(block)
        os.fsync(written.fileno())
