"""The health monitor: its warnings for reports, one sign of collapse at a time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from train.config import RunConfig
from train.recipes import demo_cpu
from train.watch.collapse import Health

LN_K = math.log(256)
HEALTHY = {
    "step": 400,
    "positive": 4.2,
    "teacher_entropy": 3.6,
    "positive_entropy": 4.7,
    "negative_kl": 0.2,
    "negative_entropy": 5.1,
    "spread": 0.23,
    "occupied": 35.0,
    "skipped": 0.0,
}
"""A report of `demo-cpu`, K = 256."""


def config(**values) -> RunConfig:
    return dataclasses.replace(demo_cpu(), in_dist=Path("x"), out=Path("y"), **values)


def told(changes: dict[str, float], **values) -> str:
    return " / ".join(
        Health(config(**values), steps_per_epoch=96).look({**HEALTHY, **changes}).values()
    )


@pytest.mark.parametrize(
    ("changes", "remedies"),
    [
        # Uniform responses because of the negatives, of the teacher's temperature, and of both.
        (
            {"positive": 0.99 * LN_K, "negative_kl": 0.01, "teacher_entropy": 4.0},
            ["--loss.negative-weight", "--head.prototypes"],
        ),
        (
            {"positive": 1.01 * LN_K, "teacher_entropy": 0.99 * LN_K, "negative_kl": 0.5},
            ["--loss.teacher-temp-start", "--head.prototypes"],
        ),
        (
            {"positive": LN_K, "teacher_entropy": LN_K, "negative_kl": 0.0},
            ["--loss.negative-weight", "--loss.teacher-temp-start", "--head.prototypes"],
        ),
        ({"spread": 0.005}, ["--optim.lr-base", "--loss.centre-momentum"]),
        ({"positive": 0.05}, ["--optim.lr-base", "--loss.centre-momentum"]),
        ({"occupied": 5.0}, ["--optim.lr-base", "--loss.centre-momentum"]),
        ({"negative_entropy": 4.0}, ["--loss.negative-weight", "--negatives"]),
        ({"skipped": 1.0}, ["--optim.lr-base", "--precision fp32"]),
    ],
)
def test_each_sign_names_its_remedies_and_no_other(changes, remedies) -> None:
    options = {word.strip(",;()") for word in told(changes).split() if word.startswith("--")}
    assert options == {remedy.split()[0] for remedy in remedies}


def test_a_healthy_run_hears_nothing() -> None:
    assert told({}) == ""
    without = {k: v for k, v in HEALTHY.items() if not k.startswith("negative")}
    assert Health(config(negatives="none"), 96).look(without) == {}


def test_the_uniform_start_is_no_collapse_until_the_warm_up_is_over() -> None:
    start = {"positive": LN_K, "teacher_entropy": LN_K, "spread": 0.001, "occupied": 0.0}
    assert told({**start, "step": 200}) == "" != told({**start, "step": 201})
    optim = dataclasses.replace(demo_cpu().optim, warmup_epochs=4)
    assert (
        told({**start, "step": 384}, optim=optim) == "" != told({**start, "step": 385}, optim=optim)
    )


def test_float16_may_search_for_its_scale() -> None:
    # 50 steps between two reports, of which a tenth may be skipped.
    assert told({"skipped": 5.0}, precision="fp16") == ""
    assert "--optim.lr-base" in told({"skipped": 6.0}, precision="fp16")
    assert told({"skipped": 16.0, "step": 50}, precision="fp16") == ""


def test_a_report_of_skipped_steps_only_is_about_them() -> None:
    nothing = {k: math.nan for k in HEALTHY if k not in ("step", "skipped")}
    text = told({**nothing, "skipped": 50.0})
    assert "50 steps were skipped" in text and " / " not in text
