"""The options of `python eval/export.py`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eval.config import FPR, TAU, DetectorConfig, Device, Folder, OptionalFolder
from shards.errors import UserError

FULL = "full"
"""Value of --bank that keeps all features."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a run as one ONNX file, from pixels to scores, with the threshold for decisions.

    The file is checked before it is written: onnxruntime must give the calibration images the same
    scores as the run.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory that train/main.py wrote; its newest complete checkpoint is used."""
    in_dist_train: Folder
    """Shard set of in-distribution training images: the bank."""
    calibration: Folder
    """Shard set of other in-distribution images: the calibration set. p-values and the threshold
    come from the scores of its images."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")]
    """File to write; it must not exist yet."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Shard sets of OOD images; the loss of AUROC by a compressed bank is measured on them."""
    fpr: float = FPR
    """False-positive rate of the file's decisions, unless the user of the file gives another."""
    bank: Annotated[str, tyro.conf.arg(metavar="full|N")] = FULL
    """Features to keep: full = all features of the bank, N = N weighted centres of them."""
    device: Device = "cpu"
    """Device that computes features; auto = cuda if there is a GPU, else cpu. cuda is faster for a
    large bank. But the file is checked on a CPU, and a GPU may round resized images differently:
    the check may fail then."""
    batch: int = 256
    """Images in one forward pass."""
    tau: float = TAU
    """Temperature of Eq. 6."""
    allow_overlap: bool = False
    """Accept sets that share images with each other or with the training set of the run, and record
    how many. Images of the bank are left out of the calibration."""
    cache: OptionalFolder = None
    """Folder that keeps features for the next time; by default RUN/features."""

    @property
    def detector(self) -> DetectorConfig:
        """The configuration of the detector that is exported."""
        names = {field.name for field in dataclasses.fields(DetectorConfig)}
        return DetectorConfig(**{name: vars(self)[name] for name in names & vars(self).keys()})

    def centres(self) -> int:
        """Return the number of centres of the bank; 0 for the full bank.

        Raises:
            UserError: --bank is neither "full" nor a number >= 1.
        """
        if self.bank == FULL:
            return 0
        if not self.bank.isdecimal() or int(self.bank) < 1:
            raise UserError(f"--bank is {self.bank}, expected full or a number of centres")
        return int(self.bank)
