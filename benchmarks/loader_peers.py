"""The peers of `benchmarks.loader`, their images, and the measurement of one peer.

A peer is an endless iterator of batches. It is started once and prepares some batches in advance.
Before a peer is timed, its prepared batches are taken and not counted. After the timing, the
benchmark waits until the peer has prepared as many batches again, so that no peer works while
another one is timed.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import v2  # type: ignore[import-untyped]

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from shards.terminal.environment import usable_cpus

CPUS = usable_cpus()
CPU = torch.device("cpu")
BATCH = 64
"""Number of images in a batch, for all peers except torchvision's."""
TORCHVISION_BATCH = 8
"""Number of images in a batch of torchvision's peer. This peer is slow, and small batches keep its
rounds short. Its rate does not depend on the size of a batch."""
PREFETCH = 2
"""Number of batches that a worker of torch's DataLoader prepares in advance, which is the default.
"""
AHEAD = 4
"""Largest number of batches that DALI or the engine `product` prepares in advance."""
JPEG_QUALITY = 90

Images = np.ndarray | Sequence[bytes]
"""Pixels, uint8 [N, H, W, 3], or JPEG files."""


@dataclass
class Peer:
    """An endless iterator of batches, and the facts that its measurement needs."""

    batches: Iterator
    batch: int = BATCH
    ahead: int = AHEAD
    """Largest number of batches that the peer prepares in advance."""
    at_once: int = 1
    """Number of batches that are made in parallel. A multiple of this number is timed."""

    def images_per_s(self, seconds: float) -> float:
        """Return the rate of the peer in images per second, timed over at least `seconds`."""
        for _ in range(self.ahead):
            next(self.batches)
        start_s = time.perf_counter()
        for count in itertools.count(1):
            next(self.batches)
            spent_s = time.perf_counter() - start_s
            if spent_s >= seconds and count % self.at_once == 0:
                break
        rate = count * self.batch / spent_s
        time.sleep(1.2 * self.ahead * self.batch / rate)
        return rate


# --- images ---


def pieces(count: int, window_px: int, side_px: int, seed: int) -> np.ndarray:
    """Return random square pieces of scikit-learn's two photographs, resized.

    Args:
        count: number of pieces.
        window_px: side of a piece in the photograph, in pixels.
        side_px: side of a piece after the resize, in pixels.
        seed: seed of the places of the pieces.

    Returns:
        uint8 [count, side_px, side_px, 3].
    """
    rng = np.random.default_rng(seed)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    out = np.empty((count, side_px, side_px, 3), np.uint8)
    for i, pixels in enumerate(out):
        photograph = photographs[i % 2]
        left = int(rng.integers(photograph.width - window_px + 1))
        top = int(rng.integers(photograph.height - window_px + 1))
        box = (left, top, left + window_px, top + window_px)
        size = (side_px, side_px)
        pixels[...] = np.asarray(photograph.resize(size, Image.Resampling.BICUBIC, box))
    return out


def raw_set(folder: Path, name: str, pixels: np.ndarray) -> ShardSet:
    """Build a shard set of raw images from `pixels`, uint8 [N, H, W, 3], and open it."""
    np.save(folder / f"{name}.npy", pixels)
    side_px, out = pixels.shape[1], folder / name
    build(BuildRequest("npy", folder / f"{name}.npy", size_px=side_px, out=out))
    return ShardSet.open(out)


def jpeg_set(folder: Path, name: str, pixels: np.ndarray) -> tuple[ShardSet, list[bytes]]:
    """Encode images as JPEG; return a shard set of these files, and the content of each file.

    `pixels` are the images, uint8 [N, H, W, 3].
    """
    files = []
    source = folder / f"{name}-files"
    source.mkdir()
    for i, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY)
        files.append(file.getvalue())
        (source / f"{i:05d}.jpg").write_bytes(files[-1])
    side_px, out = pixels.shape[1], folder / name
    build(BuildRequest("folder", source, size_px=side_px, out=out, encoding="jpg"))
    return ShardSet.open(out), files


# --- peers ---


class TorchvisionViews(Dataset):
    """A data set of DINO's multi-crop views, made with torchvision's transforms of Pillow images.

    With auxiliary images, the views include the negatives of `combined`: one global and N local
    views of the image and of its auxiliary image, each turned by 90, 180 or 270 degrees.
    """

    def __init__(self, images: Images, spec: ViewSpec, aux: Images | None = None) -> None:
        """Store the images, and make the transforms. Image i is paired with auxiliary image i."""
        self.images = images
        self.aux = aux
        size, local_size = spec.global_px, spec.local_px
        self.global_views = [
            _transform(spec, size, spec.global_scale, blur_p, solarize_p)
            for blur_p, solarize_p in ((spec.blur_p[0], 0.0), (spec.blur_p[1], spec.solarize_p))
        ]
        local = _transform(spec, local_size, spec.local_scale, spec.blur_p[2], 0.0)
        self.local_views = [local] * spec.local_views

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        """Return all views of one image."""
        image = _image(self.images[index])
        views = [view(image) for view in self.global_views + self.local_views]
        if self.aux is not None:
            for base in (image, _image(self.aux[index])):
                a_global = self.global_views[int(torch.randint(2, ()))]
                for view in [a_global, *self.local_views]:
                    turns = int(torch.randint(1, 4, ()))
                    views.append(torch.rot90(view(base), turns, (-2, -1)))
        return views


def _image(data: np.ndarray | bytes) -> Image.Image:
    if isinstance(data, bytes):
        return Image.open(io.BytesIO(data)).convert("RGB")
    return Image.fromarray(data)


def _transform(
    spec: ViewSpec, side_px: int, scale: tuple[float, float], blur_p: float, solarize_p: float
) -> v2.Compose:
    jitter = v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue_deg / 360)
    return v2.Compose(
        [
            v2.RandomResizedCrop(side_px, scale, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(spec.flip_p),
            v2.RandomApply([jitter], spec.jitter_p),
            v2.RandomGrayscale(spec.gray_p),
            v2.RandomApply([v2.GaussianBlur(9, spec.blur_sigma_px)], blur_p),
            v2.RandomSolarize(128, solarize_p),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([m / 255 for m in RGB_MEAN], [s / 255 for s in RGB_STD]),
        ]
    )


def torchvision_peer(images: Images, spec: ViewSpec, aux: Images | None = None) -> Peer:
    """Return the peer that makes `TorchvisionViews` in torch's DataLoader.

    The DataLoader has one worker process per core, and each worker has one thread.
    """
    data = TorchvisionViews(images, spec, aux)
    # Practically endless. With replacement, indices are drawn when they are needed.
    sampler = RandomSampler(data, replacement=True, num_samples=1 << 40)
    loader = DataLoader(
        data, TORCHVISION_BATCH, sampler=sampler, num_workers=CPUS, prefetch_factor=PREFETCH
    )
    return Peer(iter(loader), TORCHVISION_BATCH, PREFETCH * CPUS, at_once=CPUS)


def our_peer(
    shards: ShardSet,
    spec: ViewSpec,
    engine: Literal["auto", "dali"],
    dtype: torch.dtype,
    aux: ShardSet | None = None,
) -> Peer:
    """Return the peer that is this project's training loader, on all cores.

    Images are read from the shards at each step. With auxiliary images, the negatives are
    `combined`; without, there are no negatives.
    """
    config = LoaderConfig(engine=engine, threads=CPUS)
    negatives = "none" if aux is None else "combined"
    order = StreamOrder(BATCH, seed=0)
    return Peer(TrainLoader(shards, aux, spec, negatives, order, CPU, config, dtype))
