"""What the CPU tests cannot show; run by `make test-gpu` on a machine with a GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dali_pipes.batch import RGB_STD, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.eval_loader import EvalLoader
from dali_pipes.loader import TrainLoader
from dali_pipes.step_plan import StreamOrder
from eval.config import TAU
from eval.scores.all_scores import all_scores
from eval.sets.opening import BANK, TEST
from tests.support.train_cases import tensors_of, train
from train.world import World

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


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_runs(gray_dir: Path, tmp_path: Path, precision) -> None:
    options = ("--device", "cuda", "--precision", precision)
    first = train(gray_dir, tmp_path / "run", *options)
    assert first.returncode == 0, first.stderr
    assert all(torch.isfinite(value).all() for value in tensors_of(tmp_path / "run", 20).values())


def test_scores_are_those_of_the_cpu() -> None:
    """And so are the AUROCs: no two images of different kinds are as close as rounding moves them.

    Cosines are float32 on both, and off by less than 1e-6 (test_cosine.py); in Eq. 6 they are
    multiplied by 1 / tau = 25. TF32 would be off by more than a hundred times as much. Mahalanobis
    is float64.
    """
    torch.manual_seed(0)
    middle = torch.full((64,), 0.5)
    features = {
        BANK: middle + torch.randn(5000, 64),
        TEST: middle + torch.randn(60, 64),
        "ood": middle * torch.rand(50, 1) + torch.randn(50, 64),
    }
    here, there = (
        all_scores(
            {name: values.to(device) for name, values in features.items()},
            TAU,
            (1, 20),
            World(0, 1, device),
            "random",
            has_covariance=True,
            teacher=None,
            tell=pytest.fail,
        )
        for device in (CPU, GPU)
    )
    assert list(there) == list(here) == ["eq6", "max-cosine", "knn-1", "knn-20", "mahalanobis"]
    for score, of_sets in here.items():
        rounding = {"eq6": 2e-5, "mahalanobis": 1e-7}.get(score, 2e-6)
        for name, values in of_sets.items():
            np.testing.assert_allclose(there[score][name], values, rtol=0, atol=rounding)
        assert np.abs(of_sets[TEST][:, None] - of_sets["ood"]).min() > 2 * rounding
        is_ood = np.arange(60 + 50) >= 60
        areas = [
            roc_auc_score(is_ood, np.concatenate([found[score][TEST], found[score]["ood"]]))
            for found in (here, there)
        ]
        assert areas[0] == pytest.approx(areas[1], abs=1e-6) and 0.55 < areas[0] < 0.99
