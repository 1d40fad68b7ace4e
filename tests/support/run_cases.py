"""A small trained run with its sets, for tests of what is done with a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dali_pipes.batch import ViewSpec
from eval.config import EQ6
from eval.detector import Detector
from tests.support.image_sets import build_npy_set, smooth_images
from tests.support.small_sets import write_trained_run
from train.config import ModelConfig

SIZE_PX, VIEW_PX = 14, 32


@dataclass(frozen=True)
class RunCase:
    """The folders of a run and of its sets."""

    run: Path
    train: Path
    calibration: Path
    other: Path

    def detector(self, **options) -> Detector:
        options = {"score": EQ6, **options}
        return Detector.load(
            self.run, in_dist_train=self.train, calibration=self.calibration, **options
        )


def write_run_case(folder: Path, channels: int, calibrated_on: int = 39) -> RunCase:
    """Make a run with a checkpoint of step 3, and sets of smooth images; `other` is noise."""

    def smooth(name: str, count: int, seed: int) -> Path:
        return build_npy_set(folder, name, smooth_images(count, SIZE_PX, channels, seed))

    shape = (12, SIZE_PX, SIZE_PX, 3)[: 4 if channels == 3 else 3]
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    case = RunCase(
        run=folder / "run",
        train=smooth("train", 50, seed=10),
        calibration=smooth("calibration", calibrated_on, seed=11),
        other=build_npy_set(folder, "other", noise),
    )
    write_run(case.run, case.train, VIEW_PX)
    return case


def write_run(run: Path, train: Path, view_px: int) -> None:
    """Write a checkpoint of a network that differs from its start."""
    write_trained_run(
        run,
        train,
        noise=0.1,
        views=ViewSpec(global_px=view_px, local_px=view_px // 2),
        model=ModelConfig(patch_px=8, width=32, depth=2, heads=2),
    )
