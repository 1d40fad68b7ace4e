"""The options of `python eval/score.py`; without torch, so that --help need not wait for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from shards.errors import UserError

TAU = 0.04
"""Of Eq. 6, as the paper has it."""
Precision = Literal["fp32", "bf16"]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score how out-of-distribution (OOD) images are, with the teacher of a training run.

    Each image of the test set and of the OOD sets is compared with all in-distribution training
    images (the bank) in feature space (paper, Eq. 6). A higher score is more OOD; AUROC takes OOD
    as the positive class. The name of an OOD set is the name of its folder. With --images, files
    of a folder are scored instead, each with a p-value and a decision. --features alone needs no
    images at all.
    """

    run: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """Run directory that train/main.py wrote; its newest complete checkpoint is used. Without one,
    give --backbone or --features."""
    in_dist_train: OptionalFolder = None
    """Shard set of in-distribution training images: the bank."""
    in_dist_test: OptionalFolder = None
    """Shard set of in-distribution test images; what --images is calibrated on."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """One or more shard sets of OOD images."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder or archive of image files to score, or one such file, instead of --ood."""
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
    (in-dist-train, in-dist-test, and each OOD set's). Without RUN and shard sets, every array is
    a set."""
    k: tuple[int, ...] = (5, 50)
    """Neighbours of the k-NN scores."""
    near: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets that are near to the in-distribution, the others being far; by default as the
    protocol has it."""
    allow_overlap: bool = False
    """Score sets that share images, or that the run was trained on, and record how many."""
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
    cache: OptionalFolder = None
    """Folder that keeps features for the next scoring; by default RUN/features."""

    @property
    def in_dist(self) -> tuple[Path, Path] | None:
        """The folders of bank and test set; None where features alone are scored."""
        if self.in_dist_train is None or self.in_dist_test is None:
            return None
        return self.in_dist_train, self.in_dist_test

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: an option is out of range, or two do not go together; the message names it.
        """
        self._check_sets()
        if self.run is None and not (self.backbone or self.features):
            raise UserError("RUN: give a run, or --backbone timm:NAME, or --features FILE.npz")
        if self.images is not None:
            self._check_images()
        for name in self.backbone:
            if not name.startswith("timm:"):
                raise UserError(f"--backbone is {name}, expected timm:NAME or timm:NAME@FILE")
        self._check_names()
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

    def _check_sets(self) -> None:
        folders = {"--in-dist-train": self.in_dist_train, "--in-dist-test": self.in_dist_test}
        needs_images = self.run or self.images or self.ood or self.backbone or self.baselines
        if self.features and not needs_images and not any(folders.values()):
            return
        for option, folder in folders.items():
            if folder is None:
                raise UserError(
                    f"{option}: expected a folder of shards; only --features alone needs none"
                )
        if bool(self.ood) == (self.images is not None):
            raise UserError("--ood: expected at least one folder, or --images instead, not both")

    def _check_names(self) -> None:
        """In results.json each network has one place."""
        names = [name.partition("@")[0] for name in self.backbone]
        names += [f"npz:{path.stem}" for path in self.features]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two networks are called {name}; score them one by one")

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
