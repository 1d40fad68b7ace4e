"""The options of `python eval/score.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eval.embed import Precision
from eval.scorer import TAU
from shards.cli import UserError

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score how out-of-distribution (OOD) images are, with the teacher of a training run.

    Each image of the test set and of the OOD sets is compared with all in-distribution training
    images (the bank) in feature space (paper, Eq. 6). A higher score is more OOD; AUROC takes OOD
    as the positive class. The name of an OOD set is the name of its folder. With --images, files
    of a folder are scored instead, each with a p-value and a decision.
    """

    run: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """Run directory that train/main.py wrote; its newest complete checkpoint is used. Without one,
    give --backbone or --features."""
    in_dist_train: Folder
    """Shard set of in-distribution training images: the bank."""
    in_dist_test: Folder
    """Shard set of in-distribution test images; what --images is calibrated on."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """One or more shard sets of OOD images."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of image files to score, instead of --ood."""
    fpr: float = 0.05
    """Of --images: the false-positive rate, the share of normal images that may be called OOD."""
    out: Folder
    """Folder to write; one of an earlier scoring is replaced once the new one is complete."""
    baselines: bool = False
    """Also score by raw pixels and by the run's network at its initial weights."""
    backbone: Annotated[tuple[str, ...], tyro.conf.arg(metavar="timm:NAME [...]")] = ()
    """Also score by networks of timm: timm:NAME with its pretrained weights, timm:NAME@FILE with
    those of a file."""
    features: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.npz [...]")] = ()
    """Also score by features that were made elsewhere: arrays [N, d] by the names of the sets
    (in-dist-train, in-dist-test, and each OOD set's)."""
    k: tuple[int, ...] = (5, 50)
    """Neighbours of the k-NN scores."""
    near: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets that are near to the in-distribution, the others being far; by default as the
    protocol has it."""
    allow_overlap: bool = False
    """Score sets that share images, and record how many."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where features and scores are computed; auto = cuda if there is one."""
    precision: Precision = "fp32"
    """Of the network; scores are always computed in fp32."""
    batch: int = 256
    """Images a forward pass."""
    tau: float = TAU
    """Temperature of Eq. 6."""
    num_threads: int = 2
    """CPU threads of the image pipeline."""
    cache: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that keeps features for the next scoring; by default RUN/features."""

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: an option is out of range, or two do not go together; the message names it.
        """
        if bool(self.ood) == (self.images is not None):
            raise UserError("--ood: expected at least one folder, or --images instead, not both")
        if self.run is None and not (self.backbone or self.features):
            raise UserError("RUN: give a run, or --backbone timm:NAME, or --features FILE.npz")
        if self.images is not None:
            self._check_images()
        for name in self.backbone:
            if not name.startswith("timm:"):
                raise UserError(f"--backbone is {name}, expected timm:NAME or timm:NAME@FILE")
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise UserError(f"--tau is {self.tau}, expected a number > 0")
        if not 0 < self.fpr < 1:
            raise UserError(f"--fpr is {self.fpr}, expected a number between 0 and 1")
        for option, value in (
            ("--batch", self.batch),
            ("--num-threads", self.num_threads),
            *(("--k", k) for k in self.k),
        ):
            if value < 1:
                raise UserError(f"{option} is {value}, expected >= 1")

    def _check_images(self) -> None:
        if self.run is None:
            raise UserError("--images needs a RUN, whose teacher scores them")
        for option, value in (
            ("--baselines", self.baselines),
            ("--backbone", self.backbone),
            ("--features", self.features),
            ("--near", self.near),
        ):
            if value:
                raise UserError(f"{option} is for tables, which --images does not make")
