"""The recipe `auto`, and the fields that a command line may override."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from train.config_checks import check_config
from train.recipes import auto, demo_cpu, icann22_paper_cifar10, parse_run


def test_auto_is_the_demo_at_its_size_and_the_papers_loss_at_its() -> None:
    demo, paper = demo_cpu(), icann22_paper_cifar10()
    small, large = auto(6144, 28), auto(50_000, 32)
    assert (small.head, small.loss, small.views) == (demo.head, demo.loss, demo.views)
    assert (small.epochs, small.model) == (demo.epochs, demo.model)
    assert large.head.prototypes == paper.head.prototypes == 4096
    assert large.loss.negative_weight == pytest.approx(paper.loss.negative_weight)
    assert large.loss.teacher_temp_start == pytest.approx(0.055)
    assert large.loss.teacher_temp_end == pytest.approx(0.01)


def test_auto_gives_large_images_the_papers_network_and_views() -> None:
    paper, ours = icann22_paper_cifar10(), auto(50_000, 96)
    assert (ours.model, ours.views, ours.global_batch) == (paper.model, paper.views, 256)
    assert ours.negatives == "rot-in"


def test_more_images_mean_more_prototypes_and_a_larger_lambda() -> None:
    runs = [auto(samples, 32) for samples in (500, 6144, 12_000, 25_000, 50_000, 1_000_000)]
    prototypes = [run.head.prototypes for run in runs]
    weights = [run.loss.negative_weight for run in runs]
    assert prototypes == [256, 256, 512, 2048, 4096, 4096]
    assert weights == sorted(weights) and weights[0] == 0.5 and weights[-1] == 1.0


@given(st.integers(2, 2_000_000), st.integers(2, 600))
def test_auto_can_run_whatever_the_images_are(samples: int, side_px: int) -> None:
    run = dataclasses.replace(auto(samples, side_px), in_dist=Path("x"), out=Path("y"))
    check_config(run)
    steps = run.epochs * (samples // run.global_batch)
    assert run.global_batch <= samples and steps >= 1100
    if side_px <= 64:
        assert side_px / 2 < run.views.global_px <= side_px
        assert run.views.global_px == 2 * run.views.local_px
    # Warm-up and freezing have the same share of the run as in the tuned recipes.
    base = demo_cpu() if side_px <= 64 else icann22_paper_cifar10()
    assert run.optim.warmup_epochs / run.epochs == pytest.approx(
        base.optim.warmup_epochs / base.epochs
    )


@pytest.mark.slow
def test_what_is_given_counts_before_what_auto_finds(gray_dir: Path) -> None:
    def parsed(*options: str):
        return parse_run(["auto", "--in-dist", str(gray_dir), "--out", "run", *options])

    samples = json.loads((gray_dir / "manifest.json").read_text())["samples"]
    assert parsed().global_batch == min(64, samples)
    assert parsed("--head.prototypes", "33").head.prototypes == 33
    assert parsed("--head.prototypes", "33").loss == parsed().loss
    assert parsed().in_dist == gray_dir


def test_the_length_that_is_given_carries_the_warm_up(gray_dir: Path) -> None:
    samples = json.loads((gray_dir / "manifest.json").read_text())["samples"]
    for options, epochs in ((["--epochs", "4"], 4), (["--epochs=1"], 1)):
        run = parse_run(["auto", "--in-dist", str(gray_dir), "--out", "run", *options])
        check_config(run)
        assert run.epochs == epochs
        assert run.optim.warmup_epochs == pytest.approx(epochs / 8)  # 1.5 of the demo's 12
        assert run.optim.freeze_last_layer_epochs == pytest.approx(epochs / 24)
    batch = samples // 3
    run = parse_run(
        ["auto", "--in-dist", str(gray_dir), "--out", "run", "--global_batch", str(batch)]
    )
    assert run.global_batch == batch
    assert 1100 <= run.epochs * 3 < 1103


def test_a_network_by_name_needs_no_option_besides(gray_dir: Path) -> None:
    run = parse_run(
        ["auto", "--in-dist", str(gray_dir), "--out", "run", "--model.name", "resnet18"]
        + ["--model.drop-path", "0"]
    )
    check_config(run)
    assert run.model.name == "resnet18" and run.epochs >= 12


def test_auto_without_shards_says_so() -> None:
    with pytest.raises(UserError, match="no/such"):
        parse_run(["auto", "--in-dist", "no/such", "--out", "run"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--head.prototypes", "1"], "head.prototypes is 1, expected at least 2"),
        (["--seed", str(1 << 63)], f"seed is {1 << 63}, expected less than 2\\^63"),
        (["--elastic", "--compat.centre-first-rows"], "elastic is on, but compat.centre"),
    ],
)
def test_what_a_run_cannot_mean_is_refused(options: list[str], told: str) -> None:
    run = parse_run(["demo-cpu", "--in-dist", "x", "--out", "y", *options])
    with pytest.raises(UserError, match=f"^{told}"):
        check_config(run)
