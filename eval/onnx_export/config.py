"""The options of `python eval/export.py`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eval.config import ENSEMBLE, EQ6, FPR, TAU, DetectorConfig, Device, Folder, OptionalFolder
from shards.errors import UserError

FULL = "full"
"""The value of --bank that keeps all features."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a run as one ONNX file, from pixels to scores, with the threshold for decisions.

    Before the file is written, it is checked: onnxruntime must give the calibration images the same
    scores as the run.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory that train/main.py wrote. Its newest complete checkpoint is used."""
    in_dist_train: Folder
    """Shard set of in-distribution training images. Their features are the bank."""
    calibration: Folder
    """Shard set of in-distribution images that are not in the bank: the calibration set. The
    p-values and the threshold are computed from the scores of these images."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")]
    """ONNX file to write. It must not exist yet."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Shard sets of OOD images. They are used to measure how much AUROC drops when the bank is
    compressed."""
    fpr: float = FPR
    """Default false-positive rate of decisions with this file. The user of the file may give
    another rate."""
    bank: Annotated[str, tyro.conf.arg(metavar="full|N")] = FULL
    """Size of the bank in the file: full = all features of the bank, N = at most N weighted
    centres. A number needs --score eq6."""
    score: str = ENSEMBLE
    """The score: ensemble, or one score, as in eval/score.py."""
    device: Device = "cpu"
    """Device on which features are computed; auto = cuda if there is a GPU, else cpu. cuda is
    faster for a large bank. The file is always checked on a CPU, and this check may fail with cuda,
    because a GPU may round resized images differently."""
    batch: int = 256
    """Number of images in one forward pass."""
    tau: float = TAU
    """Temperature tau of Eq. 6 in the paper, > 0."""
    allow_overlap: bool = False
    """True to accept sets that share images with each other or with the training set of the run.
    The number of shared images is then recorded. Images of the bank are left out of the
    calibration."""
    cache: OptionalFolder = None
    """Folder in which features are kept for the next scoring. The default is RUN/features."""

    @property
    def detector(self) -> DetectorConfig:
        """The configuration of the detector that is exported."""
        names = {field.name for field in dataclasses.fields(DetectorConfig)}
        return DetectorConfig(**{name: vars(self)[name] for name in names & vars(self).keys()})

    def centres(self) -> int:
        """Return the number of centres of the bank. 0 means the full bank.

        Raises:
            UserError: --bank is neither "full" nor a number >= 1, or is a number without Eq. 6.
        """
        if self.bank == FULL:
            return 0
        if not self.bank.isdecimal() or int(self.bank) < 1:
            raise UserError(f"--bank is {self.bank}, expected full or a number of centres")
        if self.score != EQ6:
            raise UserError(
                f"--bank is {self.bank}, but --score is {self.score}: only the bank of --score "
                f"{EQ6} can be compressed"
            )
        return int(self.bank)
