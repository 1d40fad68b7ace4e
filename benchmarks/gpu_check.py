"""Everything that only a GPU can show, in one run: `make gpu-check`.

The graph on the GPU and its agreement with the graph on the CPU, a training step in every
precision, the scorer, and the loader's throughput. Prints one line of JSON at the end; exits with
status 1 if a check failed, 2 if there is no GPU.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from dali_pipes.batch import RGB_STD, Batch
from dali_pipes.config import LoaderConfig
from dali_pipes.eval_loader import EvalLoader
from dali_pipes.loader import TrainLoader
from dali_pipes.plan import StreamOrder
from eval.scorer import score
from shards import cli
from shards.build import build
from shards.cli import UserError
from shards.plan import BuildRequest
from shards.reader import ShardSet
from train.config import RunConfig
from train.main import train_step
from train.recipes import RECIPES
from train.schedules import values_at
from train.state import TrainState
from train.world import World

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
VIEW_MEAN_LEVELS = 0.5
"""Largest mean difference between the GPU's and the CPU's views, in levels of 0..255."""


@contextmanager
def image_set(count: int) -> Iterator[ShardSet]:
    """Smooth random RGB images of 32 px."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((count, 3, 6, 6), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 1)
    pixels = (smooth.movedim(1, -1) * 255).round().byte().numpy()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "images.npy", Path(folder) / "shards"
        np.save(source, pixels)
        build(BuildRequest("npy", source, size_px=32, out=out))
        yield ShardSet.open(out)


def views_agree(shards: ShardSet, config: RunConfig) -> dict[str, float]:
    """Mean difference of the views of the same draws on both devices, in levels."""
    batches: list[Batch] = []
    for device in (CPU, GPU):
        order = StreamOrder(global_batch=16, seed=1)
        batches.append(next(TrainLoader(shards, None, config.views, "rot-in", order, device)))
    here, there = batches
    std = torch.tensor(RGB_STD).view(3, 1, 1)
    differences = {
        "global": ((here.global_views - there.global_views.cpu()) * std).abs(),
        "local": ((here.local_views - there.local_views.cpu()) * std).abs(),
    }
    return {name: float(difference.mean()) for name, difference in differences.items()}


def eval_agrees(shards: ShardSet) -> float:
    """Mean difference of evaluation images on both devices, in levels."""
    (_, here), (_, there) = (next(iter(EvalLoader(shards, 256, 32, dev))) for dev in (CPU, GPU))
    return float(((here - there.cpu()) * torch.tensor(RGB_STD).view(3, 1, 1)).abs().mean())


def train_steps(shards: ShardSet, config: RunConfig, steps: int) -> dict[str, float]:
    """Loss, step time and memory of real steps on real batches."""
    world = World(rank=0, world_size=1, device=GPU)
    state = TrainState.start(config, GPU)
    order = StreamOrder(config.global_batch, config.seed)
    loader = TrainLoader(
        shards, None, config.views, config.negatives, order, GPU, LoaderConfig(threads=8)
    )
    torch.cuda.reset_peak_memory_stats()
    wait_s, started_s = 0.0, 0.0
    for step in range(steps + 3):
        if step == 3:
            torch.cuda.synchronize()
            wait_s, started_s = 0.0, time.perf_counter()
        waited_from_s = time.perf_counter()
        batch = next(loader)
        wait_s += time.perf_counter() - waited_from_s
        report = train_step(config, world, state, state.student, batch, values_at(config, step, 99))
    torch.cuda.synchronize()
    spent_s = time.perf_counter() - started_s
    return {
        "loss": float(report["loss"].detach()),
        "step_ms": 1000 * spent_s / steps,
        "images_per_s": config.global_batch * steps / spent_s,
        "data_wait_pct": 100 * wait_s / spent_s,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def loader_rate(shards: ShardSet, config: RunConfig, steps: int) -> float:
    """Images a second of the loader alone."""
    order = StreamOrder(config.global_batch, config.seed)
    loader = TrainLoader(
        shards, None, config.views, config.negatives, order, GPU, LoaderConfig(threads=8)
    )
    for step in range(steps + 3):
        if step == 3:
            torch.cuda.synchronize()
            started_s = time.perf_counter()
        next(loader)
    torch.cuda.synchronize()
    return config.global_batch * steps / (time.perf_counter() - started_s)


def scorer_error() -> float:
    """Largest difference from the CPU's float32 scores."""
    torch.manual_seed(0)
    test, bank = torch.randn(2000, 384), torch.randn(20000, 384)
    return float((score(test, bank) - score(test.cuda(), bank.cuda()).cpu()).abs().max())


def main() -> None:
    """Run the checks and print them."""
    if not torch.cuda.is_available():
        raise UserError("no CUDA device is available here")
    paper = dataclasses.replace(
        RECIPES["icann22-paper-cifar10"](),
        in_dist=Path("unused"),
        out=Path("unused"),
        negatives="rot-in",
        global_batch=64,
    )
    results: dict[str, object] = {"gpu": torch.cuda.get_device_name(0), "torch": torch.__version__}
    with image_set(2048) as shards:
        results["view_difference_levels"] = views = views_agree(shards, paper)
        results["eval_difference_levels"] = evaluation = eval_agrees(shards)
        results["loader_images_per_s"] = loader_rate(shards, paper, steps=20)
        losses = {}
        for precision in ("bf16", "fp32"):
            config = dataclasses.replace(paper, precision=precision)
            results[f"train_{precision}"] = measured = train_steps(shards, config, steps=10)
            losses[precision] = measured["loss"]
    results["scorer_difference"] = difference = scorer_error()
    results["passed"] = passed = (
        max(views.values()) <= VIEW_MEAN_LEVELS
        and evaluation <= VIEW_MEAN_LEVELS
        and difference <= 1e-3
        and all(np.isfinite(loss) for loss in losses.values())
        and abs(losses["bf16"] - losses["fp32"]) < 0.05 * losses["fp32"]
    )
    print(json.dumps(results))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    cli.run(main)
