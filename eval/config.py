"""The options of `python eval/score.py`, and the three kinds of scoring that they can ask for.

`ScoreConfig` is the command line. `ScoreConfig.chosen` checks it and returns the configuration of
one kind of scoring: `SetsConfig`, `FeaturesConfig` or `ImagesConfig`. This file does not import
torch, so that --help need not wait for it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from shards.errors import UserError

TAU = 0.04
"""The temperature of Eq. 6 in the paper."""
FPR = 0.05
"""The false-positive rate of decisions, unless another is asked for."""
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The options of every scoring: how features and scores are computed."""

    allow_overlap: bool = False
    """Score sets that share images with each other or with the training set of the run, and record
    how many."""
    device: Device = "auto"
    """Device that computes features and scores; auto = cuda if there is a GPU, else cpu."""
    precision: Precision = "fp32"
    """Precision of the network; scores are always computed in fp32."""
    batch: int = 256
    """Images in one forward pass."""
    tau: float = TAU
    """Temperature of Eq. 6."""
    num_threads: int = 2
    """CPU threads that decode and resize images."""
    cache: OptionalFolder = None
    """Folder that keeps features for the next scoring; by default RUN/features."""

    def check(self) -> None:
        """Refuse values that are out of range.

        Raises:
            UserError: names the option, its value and what is expected.
        """
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise UserError(f"--tau is {self.tau}, expected a number > 0")
        _check_positive("--batch", self.batch)
        _check_positive("--num-threads", self.num_threads)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(CommonConfig):
    """A detector of OOD images: a run, its bank, and the images that it is calibrated on."""

    run: Path
    """Run directory that train/main.py wrote; its newest complete checkpoint is used."""
    in_dist_train: Path
    """Shard set of in-distribution training images: the bank."""
    calibration: Path
    """Shard set of other in-distribution images. The p-values and the threshold come from the
    scores of its images."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(DetectorConfig):
    """Scoring of the image files in a folder, with a p-value and a decision for each."""

    images: Path
    """Folder or archive of image files, or one such file."""
    out: Path
    """Folder to write."""
    fpr: float = FPR
    """False-positive rate of the decisions, between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class TablesConfig(CommonConfig):
    """Scoring of an in-distribution test set against OOD sets: tables, figures and a report."""

    out: Path
    """Folder to write."""
    features: tuple[Path, ...] = ()
    """Feature files (.npz), each a row of the tables."""
    k: tuple[int, ...] = (5, 50)
    """Numbers of neighbours of the k-NN scores, each >= 1."""
    near: tuple[str, ...] = ()
    """OOD sets that are near to the in-distribution; empty: as the protocol has it."""


@dataclass(frozen=True, kw_only=True)
class SetsConfig(TablesConfig):
    """Scoring of shard sets, by the teacher of a run, by other networks, by feature files."""

    run: Path | None = None
    """Run directory; None: without a teacher."""
    in_dist_train: Path
    """Shard set of in-distribution training images: the bank."""
    in_dist_test: Path
    """Shard set of in-distribution test images."""
    ood: tuple[Path, ...]
    """Shard sets of OOD images."""
    baselines: bool = False
    """True to add raw pixels, and the run's network at its initial weights."""
    backbone: tuple[str, ...] = ()
    """Networks of timm: timm:NAME or timm:NAME@FILE."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(TablesConfig):
    """Scoring of feature files alone: the sets are their arrays, and there are no images."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The options that say what is scored; --help shows them before those of every scoring."""

    run: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """Run directory that train/main.py wrote; its newest complete checkpoint is used. Without RUN,
    give --backbone or --features."""
    in_dist_train: OptionalFolder = None
    """Shard set of in-distribution training images: the bank."""
    in_dist_test: OptionalFolder = None
    """Shard set of in-distribution test images. With --images, it is the calibration set: p-values
    and decisions come from the scores of its images."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Shard sets of OOD images, one or more."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder or archive of image files to score, or one such file, instead of --ood."""
    fpr: float = FPR
    """False-positive rate of --images: the share of normal images that may be called OOD."""
    out: Folder
    """Folder to write. The folder of an earlier scoring is replaced once the new one is
    complete."""
    baselines: bool = False
    """Also score by raw pixels, and by the run's network at its initial weights."""
    backbone: Annotated[tuple[str, ...], tyro.conf.arg(metavar="timm:NAME [...]")] = ()
    """Also score by networks of timm: timm:NAME with its pretrained weights, timm:NAME@FILE with
    the weights in a file."""
    features: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.npz [...]")] = ()
    """Also score by features that were made elsewhere: one array [N, d] for each set, under the
    name of the set (in-dist-train, in-dist-test, and each OOD set's). Without RUN and shard sets,
    every array is a set."""
    k: tuple[int, ...] = (5, 50)
    """Numbers of neighbours of the k-NN scores."""
    near: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """OOD sets that are near to the in-distribution; all others are far. By default, the protocol
    of the sets says which."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(CommonConfig, _Request):
    """Score how out-of-distribution (OOD) images are, with the teacher of a training run.

    Each image of the test set and of the OOD sets is compared with all in-distribution training
    images (the bank) in feature space (paper, Eq. 6). A higher score is more OOD; AUROC takes OOD
    as the positive class. An OOD set has the name of its folder. With --images, the files of a
    folder are scored instead, and each gets a p-value and a decision. --features alone needs no
    images at all.
    """

    def chosen(self) -> SetsConfig | FeaturesConfig | ImagesConfig:
        """Check the options and return the configuration of the scoring that they ask for.

        Raises:
            UserError: an option is out of range, or two do not go together; the message names it.
        """
        self.check()
        if self._is_features_alone():
            return FeaturesConfig(**self._values_of(TablesConfig))
        bank = _given("--in-dist-train", self.in_dist_train)
        test = _given("--in-dist-test", self.in_dist_test)
        if bool(self.ood) == (self.images is not None):
            raise UserError("--ood: expected at least one folder, or --images instead, not both")
        if self.run is None and not (self.backbone or self.features):
            raise UserError("RUN: give a run, or --backbone timm:NAME, or --features FILE.npz")
        if self.images is None:
            return SetsConfig(**self._values_of(SetsConfig))
        if self.run is None:
            raise UserError("--images needs a RUN, whose teacher scores them")
        self._check_no_tables()
        return ImagesConfig(
            **self._values_of(CommonConfig),
            run=self.run,
            in_dist_train=bank,
            calibration=test,
            images=self.images,
            out=self.out,
            fpr=self.fpr,
        )

    def check(self) -> None:
        """Refuse values that are out of range, whatever is scored."""
        super().check()
        if not 0 < self.fpr < 1:
            raise UserError(f"--fpr is {self.fpr}, expected a number between 0 and 1")
        for k in self.k:
            _check_positive("--k", k)
        for name in self.backbone:
            if not name.startswith("timm:"):
                raise UserError(f"--backbone is {name}, expected timm:NAME or timm:NAME@FILE")
        self._check_names()

    def _values_of(self, kind: type[CommonConfig]) -> dict[str, Any]:
        """The options that have the names of the fields of `kind`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}

    def _is_features_alone(self) -> bool:
        """True if --features is given, and nothing that needs images."""
        needs_images = (
            self.run or self.in_dist_train or self.in_dist_test or self.ood or self.images
        )
        return bool(self.features) and not (needs_images or self.backbone or self.baselines)

    def _check_names(self) -> None:
        """Refuse two networks with one name, because each has one place in results.json."""
        names = [name.partition("@")[0] for name in self.backbone]
        names += [f"npz:{path.stem}" for path in self.features]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two networks are called {name}; score them one by one")

    def _check_no_tables(self) -> None:
        """Refuse options that --images has no use for."""
        for option, value in (
            ("--baselines", self.baselines),
            ("--backbone", self.backbone),
            ("--features", self.features),
            ("--near", self.near),
        ):
            if value:
                raise UserError(f"{option} is for tables, which --images does not make")


def _given(option: str, folder: Path | None) -> Path:
    if folder is None:
        raise UserError(f"{option}: expected a folder of shards; only --features alone needs none")
    return folder


def _check_positive(option: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{option} is {value}, expected >= 1")
