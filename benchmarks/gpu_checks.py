"""The checks of `benchmarks.gpu_check`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.images import image_set
from benchmarks.options import ScorerOptions, StepOptions
from benchmarks.scorer_figures import measure as measure_scorer
from benchmarks.step_figures import measure as measure_step
from dali_pipes.batch import RGB_STD, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.eval_loader import EvalLoader
from dali_pipes.loader import TrainLoader
from dali_pipes.negatives import needs_aux, parse_negatives
from dali_pipes.step_plan import StreamOrder
from eval.scores.cosine import score
from shards.errors import UserError
from shards.reader import ShardSet
from train.config import RunConfig
from train.recipes import RECIPES
from train.schedules import values_at
from train.state import TrainState
from train.step import train_step
from train.training import build_loader
from train.world import World

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
VIEW_MEAN_LEVELS = 0.5
"""Largest mean difference that the GPU's and the CPU's views may have, in levels of 0..255."""
SCORER_REL_ERROR = 1e-5
"""Largest relative error that Eq. 6 may have against float64."""


STRATEGIES = (
    "none",
    "rot-in",
    "rot90x4-in|rot-any-in",
    "perm-4-in+perm-16-in",
    "pixperm-in|cutperm-in",
    "blur-in",
    "rot-in+rot+2*aux|rot-in",
)
"""The strategies for negatives with which views are compared (see `dali_pipes/negatives.py`)."""
ENGINES = ("dali", "product")


def views_agree(shards: ShardSet, engine: Literal["dali", "product"]) -> dict[str, float]:
    """Compare the views that an engine makes on the CPU and on the GPU with the same parameters.

    Returns:
        Strategy -> mean absolute difference, in levels of 0..255: that of the global views or that
        of the local views, whichever is larger.
    """
    std = torch.tensor(RGB_STD).view(3, 1, 1)
    worst = {}
    for strategy in STRATEGIES:
        here, there = (
            next(
                TrainLoader(
                    shards,
                    shards if needs_aux(parse_negatives(strategy)) else None,
                    ViewSpec(),
                    strategy,
                    StreamOrder(global_batch=16, seed=1),
                    device,
                    LoaderConfig(engine),
                )
            )
            for device in (CPU, GPU)
        )
        worst[strategy] = max(
            float(((ours - theirs.cpu()) * std).abs().mean())
            for ours, theirs in (
                (here.global_views, there.global_views),
                (here.local_views, there.local_views),
            )
        )
    return worst


def resumes(shards: ShardSet, engine: Literal["dali", "product"]) -> bool:
    """Return True if a resumed loader makes the same views as an uninterrupted one, bit for bit."""

    def start() -> TrainLoader:
        config, order = LoaderConfig(engine), StreamOrder(global_batch=16, seed=1)
        return TrainLoader(shards, None, ViewSpec(), "rot-in", order, GPU, config, torch.bfloat16)

    through = start()
    for _ in range(4):
        next(through)
    resumed = start()
    resumed.load_state_dict(through.state_dict())
    return all(
        torch.equal(ours.global_views, theirs.global_views)
        and torch.equal(ours.local_views, theirs.local_views)
        for ours, theirs in ((next(through), next(resumed)) for _ in range(3))
    )


def eval_agrees(shards: ShardSet) -> float:
    """Return the mean absolute difference of evaluation images on CPU and GPU, in levels of 0..255.

    The images are those of the first batch.
    """
    (_, here), (_, there) = (next(iter(EvalLoader(shards, 256, 32, dev))) for dev in (CPU, GPU))
    return float(((here - there.cpu()) * torch.tensor(RGB_STD).view(3, 1, 1)).abs().mean())


def loss_after(config: RunConfig, steps: int) -> float:
    """Take training steps on the GPU, and return the loss of the last step.

    Raises:
        RuntimeError: the host waited for the GPU in a step after the first.
    """
    world = World(rank=0, world_size=1, device=GPU)
    state = TrainState.start(config, GPU)
    loader = build_loader(config, world)
    for _ in range(steps):
        torch.cuda.set_sync_debug_mode("error" if state.step else "default")
        batch, values = next(loader), values_at(config, state.step, 99)
        result = train_step(config, world, state, state.student, batch, values)
        torch.cuda.set_sync_debug_mode("default")
    return float(result.values["loss"])


def loader_rate(
    shards: ShardSet, config: RunConfig, engine: Literal["dali", "product"], steps: int
) -> float:
    """Return the rate of the loader alone, in images per second, with views in bfloat16.

    `steps` steps are timed, after three steps that are not.
    """
    order, loader_config = StreamOrder(config.global_batch, config.seed), LoaderConfig(engine)
    loader = TrainLoader(
        shards, None, config.views, config.negatives, order, GPU, loader_config, torch.bfloat16
    )
    for step in range(steps + 3):
        if step == 3:
            torch.cuda.synchronize()
            started_s = time.perf_counter()
        next(loader)
    torch.cuda.synchronize()
    return config.global_batch * steps / (time.perf_counter() - started_s)


def scorer_error() -> float:
    """Return the largest absolute difference between scores of Eq. 6 on the GPU and on the CPU."""
    torch.manual_seed(0)
    test, bank = torch.randn(2000, 384), torch.randn(20000, 384)
    return float((score(test, bank) - score(test.cuda(), bank.cuda()).cpu()).abs().max())


def run_checks() -> None:
    """Run the checks, and print their results as one line of JSON.

    Raises:
        UserError: there is no GPU.
    """
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
    differences: dict[str, float] = {}
    with image_set(2048) as shards:
        for engine in ENGINES:
            for strategy, difference in views_agree(shards, engine).items():
                differences[f"{engine} {strategy}"] = difference
        differences["evaluation"] = eval_agrees(shards)
        results["resume_bit_for_bit"] = resumed = {e: resumes(shards, e) for e in ENGINES}
        rates = {engine: loader_rate(shards, paper, engine, steps=20) for engine in ENGINES}
        results["loader_images_per_s"] = rates
        losses: dict[str, float] = {}
        for precision in ("bf16", "fp16", "fp32"):
            config = dataclasses.replace(paper, precision=precision, in_dist=shards.directory)
            losses[precision] = loss_after(config, steps=10)
        results["losses"] = losses
    results["step"] = step = measure_step(StepOptions(batch=64, device="cuda", compile=True))
    # The share of a step that the views would take if they were made before it and not during it.
    step_s = step["step_s"]
    assert isinstance(step_s, dict)
    results["loader_fraction_of_step"] = {
        engine: paper.global_batch / step_s["ours bf16"] / rate for engine, rate in rates.items()
    }
    with image_set(256, 96) as shards:  # their colours change after the graph
        for strategy, difference in views_agree(shards, "dali").items():
            differences[f"dali, view space {strategy}"] = difference
    with image_set(256, 256, "jpg") as shards:
        # The GPU's decoder interpolates chroma in another way: shown, not judged.
        results["jpeg_difference_levels"] = views_agree(shards, "dali")["none"]
    results["view_difference_levels"] = differences
    results["scorer_difference"] = scorer_difference = scorer_error()
    results["scorer"] = scorer = measure_scorer(ScorerOptions(device="cuda", rounds=5))
    scorer_rel_error = scorer["max_rel_error"]
    assert isinstance(scorer_rel_error, float)
    results["passed"] = passed = (
        max(differences.values()) <= VIEW_MEAN_LEVELS
        and all(resumed.values())
        and scorer_difference <= 1e-3
        and scorer_rel_error <= SCORER_REL_ERROR
        and all(np.isfinite(loss) for loss in losses.values())
        and all(abs(loss - losses["fp32"]) < 0.05 * losses["fp32"] for loss in losses.values())
    )
    print(json.dumps(results))
    sys.exit(0 if passed else 1)
