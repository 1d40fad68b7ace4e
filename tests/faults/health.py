"""T9: runs that cannot learn get a warning with a fitting remedy; healthy runs get none."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import torch

from shards import sets
from tests.faults.trial import Trial
from tests.support.paths import ROOT
from train.config import HeadConfig, ModelConfig, RunConfig
from train.recipes import demo_cpu
from train.training import train
from train.world import World

LOG_STEPS = 20
WITHIN_STEPS = 260
SICK: dict[str, tuple[dict[str, object], str, str]] = {
    "centring_off": ({"loss.centre_momentum": 1.0}, "collapse to a point", "--loss.centre"),
    "teacher_temp_too_high": (
        {"loss.teacher_temp_start": 0.1, "loss.teacher_temp_end": 0.1},
        "uniform response",
        "--loss.teacher-temp-start",
    ),
    "lr_x_100": ({"optim.lr_base": 0.8}, "collapse to a point", "--optim.lr-base"),
    "lambda_too_large": (
        {"loss.negative_weight": 30.0},
        "uniform response",
        "--loss.negative-weight",
    ),
}
"""Changes that make a run fail, the kind of its warning, and the words it must have."""


def small_run(in_dist: Path, out: Path, seed: int = 0) -> RunConfig:
    """Return `demo-cpu` with a smaller network and two passes over the sample: 384 steps."""
    demo = demo_cpu()
    return dataclasses.replace(
        demo,
        in_dist=in_dist,
        out=out,
        seed=seed,
        epochs=2,
        global_batch=32,
        log_steps=LOG_STEPS,
        checkpoint_steps=10_000,
        device="cpu",
        views=dataclasses.replace(demo.views, local_views=2),
        model=ModelConfig(patch_px=7, width=48, depth=2, heads=3),
        head=HeadConfig(prototypes=256, hidden=128, bottleneck=32),
        optim=dataclasses.replace(demo.optim, warmup_epochs=0.75, freeze_last_layer_epochs=0.25),
    )


def with_values(config: RunConfig, values: dict[str, object]) -> RunConfig:
    """Return the run with some fields changed, named `part.field`."""
    for name, value in values.items():
        part, field = name.split(".")
        changed = dataclasses.replace(getattr(config, part), **{field: value})
        config = dataclasses.replace(config, **{part: changed})
    return config


def warnings_of(config: RunConfig) -> list[tuple[int, str, str]]:
    """Train, and return the warnings of the run: step, kind and text."""
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with (config.out.parent / "output.txt").open("a") as output:
        with contextlib.redirect_stdout(output):
            train(config, World(rank=0, world_size=1, device=torch.device("cpu")))
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["step"], kind, text)
        for line in lines
        for kind, text in line.get("warnings", {}).items()
    ]


def drill(trial: Trial) -> dict[str, object]:
    """Train sick and healthy runs on the sample."""
    with contextlib.redirect_stdout(io.StringIO()):
        sets.main(
            ["--protocol", "fashion-footwear", "--src", str(ROOT / "shards" / "sample")]
            + ["--out", str(trial.folder / "shards"), "--only", "in-dist-train"]
        )
    in_dist = trial.folder / "shards" / "in-dist-train"
    first_told = {}
    for name, (values, kind, remedy) in SICK.items():
        told = warnings_of(with_values(small_run(in_dist, trial.folder / name), values))
        right = [step for step, found, text in told if found == kind and remedy in text]
        first_told[name] = min(right, default=None)
        trial.expect(min(right, default=999) <= WITHIN_STEPS, f"{name}: was told {told[:3]}")
        others = {found for _, found, _ in told} - {kind, "skipped steps"}
        trial.expect(not others, f"{name}: was also told of {others}")
    seeds = trial.count(2, 5)
    false_alarms = 0
    for seed in range(seeds):
        told = warnings_of(small_run(in_dist, trial.folder / f"healthy-{seed}", seed))
        false_alarms += bool(told)
        trial.expect(not told, f"healthy, seed {seed}: was told {told[:3]}")
    return {"told_at_step": first_told, "healthy_seeds": seeds, "false_alarms": false_alarms}
