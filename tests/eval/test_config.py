"""The options of the command line -> the configuration of one kind of scoring."""

from __future__ import annotations

from pathlib import Path

from eval.config import FeaturesConfig, ImagesConfig, ScoreConfig, SetsConfig
from shards.terminal import cli

SETS = ["--in-dist-train", "a", "--in-dist-test", "b", "--out", "o"]
COMMON = ["--device", "cpu", "--batch", "3", "--tau", "0.1", "--cache", "c", "--allow-overlap"]


def chosen(*argv: str) -> SetsConfig | FeaturesConfig | ImagesConfig:
    options: ScoreConfig = cli.parse(ScoreConfig, argv)
    return options.chosen()


def test_images_are_scored_by_a_detector_that_the_test_set_calibrates() -> None:
    assert chosen("run", *SETS, "--images", "d", "--fpr", "0.1", *COMMON) == ImagesConfig(
        run=Path("run"),
        in_dist_train=Path("a"),
        calibration=Path("b"),
        images=Path("d"),
        out=Path("o"),
        fpr=0.1,
        device="cpu",
        batch=3,
        tau=0.1,
        cache=Path("c"),
        allow_overlap=True,
    )


def test_sets_are_scored_by_every_network_that_is_named() -> None:
    networks = ["--baselines", "--backbone", "timm:x", "--features", "f.npz"]
    assert chosen("run", *SETS, "--ood", "d", "e", *networks, *COMMON) == SetsConfig(
        run=Path("run"),
        in_dist_train=Path("a"),
        in_dist_test=Path("b"),
        ood=(Path("d"), Path("e")),
        out=Path("o"),
        baselines=True,
        backbone=("timm:x",),
        features=(Path("f.npz"),),
        device="cpu",
        batch=3,
        tau=0.1,
        cache=Path("c"),
        allow_overlap=True,
    )


def test_feature_files_alone_need_no_run() -> None:
    found = chosen("--features", "f.npz", "--out", "o", "--k", "3", "--near", "x")
    expected = FeaturesConfig(features=(Path("f.npz"),), out=Path("o"), k=(3,), near=("x",))
    assert found == expected
