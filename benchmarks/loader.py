"""Images a second of the training loader, against torchvision's transforms in a DataLoader.

`python -m benchmarks.loader`: both make the same views (2 global of 256 px and 8 local of 128 px,
as in the paper; torchvision's blur has a window of 9) of the same 32 px images on the same number
of cores, in turn, several times. The JSON line has the median of each peer and of the ratio, and
the smallest and largest ratio.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dali_pipes.batch import RGB_MEAN, RGB_STD, ViewSpec
from dali_pipes.inputs import StreamOrder
from dali_pipes.loader import TrainLoader
from shards import cli
from shards.build import build
from shards.plan import BuildRequest
from shards.reader import ShardSet

CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class BenchConfig:
    """What to time."""

    repeats: int = 5
    """Rounds; each times every peer once."""
    steps: int = 16
    """Batches timed in a round, after one that is not; both peers have a few made in advance."""
    batch: int = 64
    """Images a batch."""
    workers: int = CPUS
    """Threads of DALI, processes of the DataLoader."""
    views: ViewSpec = field(default_factory=ViewSpec)


class TorchvisionViews(Dataset):
    """DINO's multi-crop by torchvision on Pillow images, the usual way."""

    def __init__(self, images: np.ndarray, spec: ViewSpec) -> None:
        """Take uint8 [N, H, W, 3]."""
        self.images = images
        sizes = [spec.global_px] * 2 + [spec.local_px] * spec.local_views
        scales = [spec.global_scale] * 2 + [spec.local_scale] * spec.local_views
        blur = [spec.blur_p[0], spec.blur_p[1]] + [spec.blur_p[2]] * spec.local_views
        solarize = [0.0, spec.solarize_p] + [0.0] * spec.local_views
        self.transforms = [
            self._transform(spec, *args) for args in zip(sizes, scales, blur, solarize, strict=True)
        ]

    @staticmethod
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

    def __len__(self) -> int:
        """Images."""
        return len(self.images)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        """All views of one image."""
        image = Image.fromarray(self.images[index])
        return [transform(image) for transform in self.transforms]


def images_per_s(batches: Iterator, config: BenchConfig) -> float:
    """The rate over `config.steps` batches after the first."""
    next(batches)
    start_s = time.perf_counter()
    for _ in range(config.steps):
        next(batches)
    return config.steps * config.batch / (time.perf_counter() - start_s)


def main(argv: Sequence[str] | None = None) -> None:
    """Time the peers in turn and print what came out."""
    config = cli.parse(BenchConfig, argv, description=__doc__)
    count = config.batch * (config.steps + 4 * config.workers)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", pixels)
        out = Path(folder) / "shards"
        build(BuildRequest("npy", Path(folder) / "images.npy", size_px=32, out=out))
        shards = ShardSet.open(out)

        def oodino() -> Iterator:
            order = StreamOrder(config.batch, seed=0)
            cpu = torch.device("cpu")
            return TrainLoader(shards, None, config.views, "none", order, cpu, config.workers)

        def torchvision() -> Iterator:
            data = TorchvisionViews(pixels, config.views)
            return iter(DataLoader(data, config.batch, shuffle=True, num_workers=config.workers))

        peers: dict[str, Callable[[], Iterator]] = {"oodino": oodino, "torchvision": torchvision}
        rates: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(config.repeats):
            for name, start in peers.items():
                rates[name].append(images_per_s(start(), config))

    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    table = Table("loader", "images/s, median", "min", "max")
    for name, values in rates.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{value:.0f}" for value in row))
    Console().print(table)
    print(
        json.dumps(
            {
                "cpus": CPUS,
                "repeats": config.repeats,
                **{f"{name}_img_s": round(statistics.median(v), 1) for name, v in rates.items()},
                "ratio_torchvision": round(statistics.median(ratios), 2),
                "ratio_min": round(min(ratios), 2),
                "ratio_max": round(max(ratios), 2),
            }
        )
    )


if __name__ == "__main__":
    cli.run(main)
