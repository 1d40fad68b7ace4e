"""The options of `python eval/score.py`, and the configurations of the three kinds of scoring.

`ScoreConfig` is the command line. `ScoreConfig.chosen` checks the options and returns the
configuration of one kind of scoring: `SetsConfig` (shard sets), `FeaturesConfig` (feature files
alone) or `ImagesConfig` (single images). This file does not import torch, because --help would then
have to wait for the import.
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
"""Default temperature tau of Eq. 6 in the paper."""
ENSEMBLE = "ensemble"
"""The default of --score: the weighted sum of all scores (`eval/ensemble`)."""
EQ6 = "eq6"
"""The key of the paper's score."""
FPR = 0.05
"""Default false-positive rate of decisions."""
NEIGHBOURS = 5, 50
"""Default numbers of neighbours k of the k-NN scores."""
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Options that all kinds of scoring have: how features and scores are computed."""

    allow_overlap: bool = False
    """True to allow sets that share images with each other or with the training set of the run. The
    number of shared images is then recorded."""
    device: Device = "auto"
    """Device on which features and scores are computed. auto = cuda if there is a GPU, otherwise
    cpu."""
    precision: Precision = "fp32"
    """Precision in which the network computes features. Scores are always computed in fp32."""
    batch: int = 256
    """Number of images in one forward pass."""
    score: str = ENSEMBLE
    """The score of the headline and of decisions: ensemble, or one score. The scores of the teacher
    are eq6 (the paper's), knn-5 and mahalanobis. SOURCE/SCORE names a score of another source, for
    example pixels/isolation-forest."""
    tau: float = TAU
    """Temperature tau of Eq. 6 in the paper, > 0."""
    num_threads: int = 2
    """Number of CPU threads that decode and resize images."""
    cache: OptionalFolder = None
    """Folder in which features are kept for the next scoring. The default is RUN/features."""

    def check(self) -> None:
        """Check the values of the options.

        Raises:
            UserError: a value is out of range. The message names the option, its value and what is
                expected.
        """
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise UserError(f"--tau is {self.tau}, expected a number > 0")
        _check_positive("--batch", self.batch)
        _check_positive("--num-threads", self.num_threads)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(CommonConfig):
    """Options that define a detector: a run, its bank, and the calibration set."""

    run: Path
    """Run directory that train/main.py wrote. Its newest complete checkpoint is used."""
    in_dist_train: Path
    """Shard set of in-distribution training images. Their features are the bank."""
    calibration: Path
    """Shard set of in-distribution images that are not in the bank. The p-values and the threshold
    are computed from the scores of these images."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(DetectorConfig):
    """Options for scoring single image files: each gets a score, a p-value and a decision."""

    images: Path
    """Folder or archive of image files, or a single image file."""
    out: Path
    """Output folder."""
    fpr: float = FPR
    """False-positive rate of the decisions, between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class TablesConfig(CommonConfig):
    """Options for scoring a test set against OOD sets, with tables, figures and a report."""

    out: Path
    """Output folder."""
    features: tuple[Path, ...] = ()
    """Feature files (.npz). Each file becomes a row of the tables."""
    k: tuple[int, ...] = NEIGHBOURS
    """Numbers of neighbours of the k-NN scores. Each number is >= 1."""
    near: tuple[str, ...] = ()
    """Names of the OOD sets that are near to the in-distribution set. Empty means that the protocol
    of the sets says which are near."""


@dataclass(frozen=True, kw_only=True)
class SetsConfig(TablesConfig):
    """Options for scoring shard sets with a run's teacher, other networks and feature files."""

    run: Path | None = None
    """Run directory. None means that no teacher is scored."""
    in_dist_train: Path
    """Shard set of in-distribution training images. Their features are the bank."""
    in_dist_test: Path
    """Shard set of in-distribution test images."""
    ood: tuple[Path, ...]
    """Shard sets of OOD images."""
    baselines: bool = False
    """True to score two baselines as well: raw pixels, and the run's network at its initial
    weights."""
    backbone: tuple[str, ...] = ()
    """Names of timm networks that are scored as well, each timm:NAME or timm:NAME@FILE."""
    backbone_px: int | None = None
    """Side in pixels of the images that these networks see. None means the side that each network
    was trained with."""


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(TablesConfig):
    """Options for scoring feature files alone, without images. Each array of the files is a set."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """Options that say what is scored. --help shows these before the options of `CommonConfig`."""

    run: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RUN")] = None
    """Run directory that train/main.py wrote. Its newest complete checkpoint is used. Without RUN,
    give --backbone or --features."""
    in_dist_train: OptionalFolder = None
    """Shard set of in-distribution training images. Their features are the bank."""
    in_dist_test: OptionalFolder = None
    """Shard set of in-distribution test images. With --images, this set is the calibration set:
    p-values and decisions are computed from the scores of its images."""
    ood: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """One or more shard sets of OOD images."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder or archive of image files to score, or a single image file. Give this instead of
    --ood."""
    fpr: float = FPR
    """False-positive rate of the decisions with --images: the share of in-distribution images that
    may be called OOD."""
    out: Folder
    """Output folder. If it holds an earlier scoring, that scoring is replaced once the new one is
    complete."""
    baselines: bool = False
    """True to score two baselines as well: raw pixels, and the run's network at its initial
    weights."""
    backbone: Annotated[tuple[str, ...], tyro.conf.arg(metavar="timm:NAME [...]")] = ()
    """Networks of timm that are scored as well. timm:NAME has its pretrained weights;
    timm:NAME@FILE has the weights in FILE."""
    backbone_px: int | None = None
    """Side in pixels of the images that the networks of --backbone see. By default, the side that
    each network was trained with, which is often 224. The time grows with the square of the
    side, so a smaller one is worth a trial for small images."""
    features: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.npz [...]")] = ()
    """Files of features that were made elsewhere, which are scored as well. A file has one array
    [N, d] per set. The name of an array is the name of its set: in-dist-train, in-dist-test, or the
    name of an OOD set. Without RUN and shard sets, the arrays themselves define the sets."""
    k: tuple[int, ...] = NEIGHBOURS
    """Numbers of neighbours k of the k-NN scores. Each k gives one score."""
    near: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET [SET ...]")] = ()
    """Names of the OOD sets that are near to the in-distribution set; all other OOD sets are far.
    By default, the protocol of the sets says which sets are near."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(CommonConfig, _Request):
    """Score how out-of-distribution (OOD) images are, with the teacher of a training run.

    Each image of the test set and of the OOD sets is compared in feature space with all
    in-distribution training images, which are called the bank (paper, Eq. 6). A higher score means
    more OOD. AUROC takes OOD as the positive class. The name of an OOD set is the name of its
    folder. With --images, the files of a folder are scored instead, and each file gets a p-value
    and a decision. With --features alone, no images are needed.
    """

    def chosen(self) -> SetsConfig | FeaturesConfig | ImagesConfig:
        """Check the options, and return the configuration of the scoring that the options ask for.

        Raises:
            UserError: an option is out of range, or two options cannot be combined. The message
                names the option.
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
        """Check the values of all options, also those that this kind of scoring does not use."""
        super().check()
        if not 0 < self.fpr < 1:
            raise UserError(f"--fpr is {self.fpr}, expected a number between 0 and 1")
        for k in self.k:
            _check_positive("--k", k)
        for name in self.backbone:
            if not name.startswith("timm:"):
                raise UserError(f"--backbone is {name}, expected timm:NAME or timm:NAME@FILE")
        if self.backbone_px is not None:
            _check_positive("--backbone-px", self.backbone_px)
            if not self.backbone:
                raise UserError("--backbone-px is the size of images for --backbone: give both")
        self._check_names()

    def _values_of(self, kind: type[CommonConfig]) -> dict[str, Any]:
        """Return the options that are also fields of `kind`, as name -> value."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}

    def _is_features_alone(self) -> bool:
        """Return True if --features is given, and no option is given that needs images."""
        needs_images = (
            self.run or self.in_dist_train or self.in_dist_test or self.ood or self.images
        )
        return bool(self.features) and not (needs_images or self.backbone or self.baselines)

    def _check_names(self) -> None:
        """Refuse two networks with the same name, because the name is the key in results.json."""
        names = [name.partition("@")[0] for name in self.backbone]
        names += [f"npz:{path.stem}" for path in self.features]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"two networks are called {name}; score them one by one")

    def _check_no_tables(self) -> None:
        """Refuse options that have no effect with --images."""
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
