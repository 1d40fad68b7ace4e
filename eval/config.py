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


@dataclass(frozen=True)
class ScoreConfig:
    """Score how out-of-distribution (OOD) images are, with the teacher of a training run.

    Each image of the test set and of the OOD sets is compared with all in-distribution training
    images (the bank) in feature space (paper, Eq. 6). A higher score is more OOD; AUROC takes OOD
    as the positive class. The name of an OOD set is the name of its folder.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run directory that train/main.py wrote; its newest complete checkpoint is used."""
    in_dist_train: Folder
    """Shard set of in-distribution training images: the bank."""
    in_dist_test: Folder
    """Shard set of in-distribution test images."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")]
    """One or more shard sets of OOD images."""
    out: Folder
    """Folder to write; one of an earlier scoring is replaced once the new one is complete."""
    baselines: bool = False
    """Also score by raw pixels and by the run's network at its initial weights."""
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

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: an option is out of range; the message names it.
        """
        if not self.ood:
            raise UserError("--ood: expected at least one folder")
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise UserError(f"--tau is {self.tau}, expected a number > 0")
        for option, value in (("--batch", self.batch), ("--num-threads", self.num_threads)):
            if value < 1:
                raise UserError(f"{option} is {value}, expected >= 1")
