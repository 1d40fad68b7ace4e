"""What the CPU tests cannot show; run by `make test-gpu` on a machine with a GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dali_pipes.batch import RGB_STD, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.eval_loader import EvalLoader
from dali_pipes.loader import TrainLoader
from dali_pipes.plan import StreamOrder
from eval.scorer import score
from tests.train_cases import tensors_of, train

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
STD = torch.tensor(RGB_STD).view(3, 1, 1)


@pytest.mark.parametrize(
    ("engine", "space"), [("dali", "view"), ("dali", "source"), ("product", "auto")]
)
@pytest.mark.parametrize("strategy", ["rot-in|perm-4-in", "rot-any-in", "pixperm-in", "blur-in"])
@pytest.mark.parametrize("name", ["rgb_set", "gray_set"])
def test_the_gpu_makes_the_views_of_the_cpu(request, name, engine, space, strategy) -> None:
    shards = request.getfixturevalue(name)
    spec = dataclasses.replace(
        ViewSpec(global_px=64, local_px=32, local_views=3), photometric_space=space
    )
    here, there = (
        next(
            TrainLoader(
                shards, None, spec, strategy, StreamOrder(24, 7), device, LoaderConfig(engine)
            )
        )
        for device in (CPU, GPU)
    )
    for views in ("global_views", "local_views"):
        assert getattr(there, views).device == GPU
        difference = (getattr(here, views) - getattr(there, views).cpu()) * STD
        assert difference.abs().mean() < 0.5


@pytest.mark.parametrize("engine", ["dali", "product"])
@pytest.mark.parametrize("reader", ["stream", "resident"])
def test_a_batch_on_the_gpu_survives_the_next_ones(gray_set, engine, reader) -> None:
    spec = ViewSpec(global_px=28, local_px=14, local_views=2)
    config = LoaderConfig(engine, reader)
    loader = TrainLoader(gray_set, None, spec, "rot-in", StreamOrder(24, 7), GPU, config)
    batch = next(loader)
    kept = batch.global_views.clone()
    for _ in range(5):
        next(loader)
    assert torch.equal(batch.global_views, kept)


def test_evaluation_images_are_those_of_the_cpu(rgb_set) -> None:
    here, there = (
        torch.cat([images.cpu() for _, images in EvalLoader(rgb_set, 64, 50, device)])
        for device in (CPU, GPU)
    )
    assert ((here - there) * STD).abs().mean() < 0.5


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_runs(gray_dir: Path, tmp_path: Path, precision) -> None:
    options = ("--device", "cuda", "--precision", precision)
    first = train(gray_dir, tmp_path / "run", *options)
    assert first.returncode == 0, first.stderr
    assert all(torch.isfinite(value).all() for value in tensors_of(tmp_path / "run", 20).values())


def test_scores_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    test, bank = torch.randn(300, 64), torch.randn(5000, 64)
    assert (score(test, bank) - score(test.to(GPU), bank.to(GPU)).cpu()).abs().max() < 1e-3
