"""Training sets that teach little: which ones are refused, and which get a warning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from shards.errors import UserError
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images
from train.config import RunConfig
from train.recipes import auto, demo_cpu
from train.reports.run_notes import notes
from train.reports.set_sizes import check_images, told_of_sizes
from train.world import World


@pytest.mark.parametrize(
    ("count", "what"), [(1, "one image"), (2, "2 images, all equal"), (90, "90 images, all equal")]
)
def test_images_that_do_not_differ_are_refused(tmp_path, count, what) -> None:
    same = np.repeat(smooth_images(1, 8, 3, seed=0), count, axis=0)
    with ShardSet.open(build_npy_set(tmp_path, "same", same)) as shards:
        with pytest.raises(UserError, match=f"^--aux .*same: has {what}: there is nothing to"):
            check_images("--aux", shards)
    if count > 1:
        same[-1, -1, -1, -1] ^= 1
        with ShardSet.open(build_npy_set(tmp_path, "other", same)) as shards:
            check_images("--in-dist", shards)


def config(base: RunConfig, **values) -> RunConfig:
    return dataclasses.replace(base, in_dist=Path("x"), out=Path("y"), **values)


def test_sets_that_the_recipes_were_made_for_are_passed_over_in_silence() -> None:
    assert told_of_sizes(config(demo_cpu()), 6144, None, 96) == []
    paper = RunConfig(in_dist=Path("x"), out=Path("y"))
    assert told_of_sizes(paper, 50_000, 1_281_167, 195) == []


@pytest.mark.parametrize(
    ("run", "in_dist", "aux", "steps", "expected"),
    [
        (config(auto(20)), 20, None, 1, "20 images: little to learn from"),
        (config(auto(20)), 20, None, 1, "the run has 1,100 epochs; the paper has 500"),
        (config(auto(20)), 20, None, 1, "a batch of 20 is a whole pass over the 20 images"),
        (
            config(auto(100)),
            100,
            None,
            1,
            "64 is a whole pass over the 100 images, and leaves some",
        ),
        (config(auto(20)), 20, None, 1, "more prototypes (256) than images (20)"),
        (
            config(demo_cpu(), epochs=2),
            6144,
            None,
            96,
            "begins after step 200, and the run has 192",
        ),
        (config(demo_cpu()), 6144, 63, 96, "--aux has 63 images, fewer than the batch of 64"),
    ],
)
def test_what_little_can_be_learned_from_is_told(run, in_dist, aux, steps, expected) -> None:
    assert [line for line in told_of_sizes(run, in_dist, aux, steps) if expected in line]


@pytest.mark.parametrize(
    ("epochs", "reported", "told"),
    [
        (
            1,
            [50, 96],
            "Collapse was not looked for: the monitor begins after step 200, and the last",
        ),
        (12, [50], "Collapse was not looked for"),  # stopped early
        (12, [200], "Collapse was not looked for"),
        (12, [200, 250], "None. The monitor looked for collapse in the reports after step 200."),
        (1, [], "the last report is of step 0"),
    ],
)
def test_notes_do_not_call_clean_what_nobody_looked_at(epochs, reported, told) -> None:
    optim = dataclasses.replace(demo_cpu().optim, warmup_epochs=0.5)
    run = config(demo_cpu(), epochs=epochs, optim=optim)
    state = cast(Any, SimpleNamespace(step=reported[-1] if reported else 0))
    world = World(0, 1, torch.device("cpu"))
    reports = [{"step": step} for step in reported]
    text = notes(run, world, state, 96 * epochs, reports, [])
    of_monitor = text.split("## Warnings of the health monitor\n\n")[1].split("\n\n## ")[0]
    assert told in of_monitor and ("None." in of_monitor) == ("None." in told)
    assert ("curves.png" in text) == bool(reports)
    reports = [{"step": step, "warnings": {"skipped steps": "so"}} for step in reported]
    warned = notes(run, world, state, 96 * epochs, reports, [])
    assert "None." not in warned and (not reported or "- skipped steps, " in warned)
