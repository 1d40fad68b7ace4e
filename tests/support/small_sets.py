"""Small shard sets of random images, and a run on them, for tests of the scoring command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dali_pipes.batch import ViewSpec
from shards.build import build
from shards.building.build_plan import BuildRequest
from shards.reader import ShardSet
from train.checkpoint import Snapshot
from train.config import HeadConfig, ModelConfig, RunConfig
from train.state import TrainState

SIDE_PX = 8
CPU = torch.device("cpu")


def npy_request(source: Path, out: Path) -> dict[str, Any]:
    return {"source": "npy", "src": source, "split": "test", "size_px": SIDE_PX, "out": out}


def npy_set(out: Path, count: int, seed: int, channels: int = 3, **options) -> Path:
    """A set of random images; `seed` decides the images and nothing else."""
    rng = np.random.default_rng(seed)
    source = out.parent / f"{out.name}-source.npy"
    shape = (count, SIDE_PX, SIDE_PX, channels)
    np.save(source, rng.integers(1, 256, shape, dtype=np.uint8))
    build(BuildRequest(**npy_request(source, out), shard_samples=10, **options))
    return out


def folder_set(out: Path, count: int, seed: int, **options) -> Path:
    """A labelled set of image files with names, classes `boat` and `tree`."""
    rng = np.random.default_rng(seed)
    source = out.parent / f"{out.name}-source"
    for i in range(count):
        path = source / ("boat", "tree")[i % 2] / f"image, {i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(1, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)).save(path)
    request = {**npy_request(source, out), "source": "class-folders"}
    build(BuildRequest(**request, protocol="p", **options))
    return out


def write_sets(root: Path) -> Path:
    """Folders: train (30 images), test (12), ood-a (14), ood-b (9, labelled, named)."""
    npy_set(root / "train", 30, seed=0)
    npy_set(root / "test", 12, seed=1)
    npy_set(root / "ood-a", 14, seed=20)
    folder_set(root / "ood-b", 9, seed=3)
    return root


def write_run(
    directory: Path, train: Path, change: Callable[[torch.nn.Module], None], **fields: Any
) -> Path:
    """A run of three steps, so to say; `change` is done to its teacher, `fields` to its options."""
    config = RunConfig(
        in_dist=Path("train"),
        out=directory,
        negatives="rot-in",
        global_batch=10,
        views=ViewSpec(global_px=SIDE_PX, local_px=4),  # images keep their size: an easy oracle
        model=ModelConfig(patch_px=4, width=12, depth=1, heads=2),
        head=HeadConfig(prototypes=8, hidden=8, bottleneck=4),
    )
    config = replace(config, **fields)
    state = TrainState.start(config, CPU)
    state.step = 3
    change(state.teacher)
    with ShardSet.open(train) as shards:
        manifests = {"in-dist": shards.manifest.sha256}
    Snapshot.of(state, {"manifests": manifests}, config).write(config)
    return directory


def write_trained_run(directory: Path, train: Path, noise: float = 0.3, **fields: Any) -> Path:
    """A run whose teacher differs from its initial weights."""
    generator = torch.Generator().manual_seed(1)

    def change(teacher):
        for parameter in teacher.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))

    return write_run(directory, train, change, **fields)


def score_command(
    run: Path, sets: Path, out: Path, *more: str, ood: Sequence[str | Path] = ("ood-a", "ood-b")
) -> list[str]:
    """Arguments of `eval/score.py` for a run and the sets of `write_sets`, by Eq. 6."""
    paths = [str(sets / name) for name in ood]
    sources = ["--in-dist-train", str(sets / "train"), "--in-dist-test", str(sets / "test")]
    options = ["--score", "eq6", "--k", "1", "5", "--device", "cpu"]
    return [str(run), *sources, "--ood", *paths, "--out", str(out), *options, *more]


def results_of(out: Path) -> dict[str, Any]:
    """Content of results.json."""
    return json.loads((out / "results.json").read_text())
