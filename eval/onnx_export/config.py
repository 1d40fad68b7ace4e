"""The options of `python eval/export.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eval.config import FPR, TAU, DetectorConfig, Device, Folder, OptionalFolder
from shards.errors import UserError

FULL = "full"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a run as one ONNX file: pixels in, score out, with what decisions need.

    The file is checked in onnxruntime: its scores of the calibration images must be those of the
    run.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory that train/main.py wrote; its newest complete checkpoint is used."""
    in_dist_train: Folder
    """Shard set of in-distribution training images: the bank."""
    calibration: Folder
    """Shard set of other in-distribution images; p-values and the threshold are taken from it."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")]
    """New file."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Shard sets of OOD images, on which the loss of AUROC by a compressed bank is measured."""
    fpr: float = FPR
    """False-positive rate at which the file decides unless another is asked for."""
    bank: Annotated[str, tyro.conf.arg(metavar="full|N")] = FULL
    """All features of the bank, or N weighted centres of them."""
    device: Device = "cpu"
    """Where features are computed. The file is held against them on a CPU, where a GPU's rounding
    of resized images may count as a difference; auto = cuda if there is one, quicker for a large
    bank."""
    batch: int = 256
    """Images a forward pass."""
    tau: float = TAU
    """Temperature of Eq. 6."""
    allow_overlap: bool = False
    """Take sets that share images, or that the run was trained on, and record how many. Images of
    the bank are left out of the calibration."""
    cache: OptionalFolder = None
    """Folder that keeps features; by default RUN/features."""

    @property
    def detector(self) -> DetectorConfig:
        """The configuration of the detector that is exported."""
        return DetectorConfig(
            run=self.run,
            in_dist_train=self.in_dist_train,
            calibration=self.calibration,
            allow_overlap=self.allow_overlap,
            device=self.device,
            batch=self.batch,
            tau=self.tau,
            cache=self.cache,
        )

    def check(self) -> int:
        """The number of centres that are asked for; 0 = the full bank.

        Raises:
            UserError: --bank is neither.
        """
        if self.bank == FULL:
            return 0
        if not self.bank.isdecimal() or int(self.bank) < 1:
            raise UserError(f"--bank is {self.bank}, expected full or a number of centres")
        return int(self.bank)
