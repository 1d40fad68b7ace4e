"""Is this image like those that the run was trained on: three lines of Python tell.

    from eval.detector import Detector
    detector = Detector.load("out/run", in_dist_train="shards/train", calibration="shards/test")
    found = detector.score(["photo.jpg", "other.png"])  # .score, .p_value, .is_ood, .errors

The same detector is behind `eval/score.py --images` and `eval/export.py`.
Legend: N images, M of the bank, n that it is calibrated on, d width of a feature.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.config import ScoreConfig
from eval.decisions.conformal import Calibration
from eval.decisions.images import Item, Pixels, Read, rule_of
from eval.decisions.verdicts import Verdicts, judge
from eval.features.checks import MIN_NORM
from eval.features.networks import Network, of_teacher
from eval.results.collect import described
from eval.scores.cosine import score as eq6_log_form
from eval.sets.leakage import Shared, check_overlap
from eval.sets.opening import BANK, TEST, open_sets
from shards.errors import UserError
from shards.pixels.limits import read_picture
from shards.pixels.target import Target
from train.teacher import LoadedTeacher, load_teacher
from train.world import World, pick_device

IMAGES = "images"
FPR = 0.05


@dataclass(frozen=True)
class Detector:
    """A trained teacher, its bank, and the scores of images that are known to be normal."""

    teacher: LoadedTeacher
    network: Network
    """Makes the teacher's features."""
    bank: Tensor
    """float32 [M, d] on the device."""
    calibration_ids: NDArray[np.int64]
    """[n], ascending: the images of the calibration set, less those that the bank has too."""
    calibration_features: Tensor
    """float32 [n, d], in the order of these ids."""
    calibration_scores: NDArray[np.float64]
    """[n], likewise."""
    rule: Target
    """What is done to the pixels of an image."""
    tau: float
    described: dict[str, Any]
    """What it is made of, for results.json."""

    @classmethod
    def load(
        cls, run: Path | str, *, in_dist_train: Path | str, calibration: Path | str, **options: Any
    ) -> Detector:
        """Load the newest checkpoint of a run and embed both sets, unless they were before.

        Args:
            run: directory that train/main.py wrote.
            in_dist_train: shard set of in-distribution training images, the bank.
            calibration: shard set of other in-distribution images; n of them can promise a
                false-positive rate of 1 / (n + 1) or more.
            options: further fields of `eval.config.ScoreConfig`: device, batch, cache, tau, ...

        Raises:
            UserError: the run or a set is not as it must be; or the calibration set is the bank,
                shares images with it, or is a set that the run was trained on. With
                `allow_overlap` it may share images, or be such a set: images of the bank are left
                out of the calibration, and it is refused if none is left.
        """
        return cls.of(
            ScoreConfig(
                run=Path(run),
                in_dist_train=Path(in_dist_train),
                in_dist_test=Path(calibration),
                images=Path(),
                out=Path(),
                **options,
            )
        )

    @classmethod
    def of(cls, config: ScoreConfig) -> Detector:
        """The detector of a command with --images; raises as `load` does."""
        config.check()
        assert config.run is not None and config.in_dist is not None
        world = World(0, 1, pick_device(config.device))
        with ExitStack() as stack:
            sets = open_sets(*config.in_dist, (), stack, allow_overlap=config.allow_overlap)
            teacher = load_teacher(config.run, world.device)
            overlap = check_overlap(sets, teacher, allow_overlap=config.allow_overlap)
            kept = _calibration_ids(sets.counts[TEST], overlap)
            network = of_teacher(teacher, config, world)
            features = network.of_sets(sets)
        of_test = features[TEST]
        # Scored before some are left out, so that an error tells the ids of the set.
        scores = _scores(of_test, features[BANK], config.tau, TEST)
        return cls(
            teacher=teacher,
            network=network,
            bank=features[BANK],
            calibration_ids=kept,
            calibration_features=of_test[torch.from_numpy(kept).to(of_test.device)],
            calibration_scores=scores[kept],
            rule=rule_of(sets.manifests[TEST], sets.manifests[BANK]),
            tau=config.tau,
            described=described(sets, teacher, overlap),
        )

    @property
    def calibration(self) -> Calibration:
        """What p-values are taken from."""
        return Calibration(self.calibration_scores)

    def score(
        self, images: Sequence[Path | str | Image.Image | np.ndarray] | np.ndarray, fpr: float = FPR
    ) -> Verdicts:
        """Score images and decide.

        Args:
            images: names of files, Pillow images, or uint8 arrays [H, W, C] with C 1 or 3, also as
                one array [N, H, W, C]; of any size.
            fpr: share of in-distribution images that may be called OOD.

        Raises:
            UserError: the rate cannot be promised, not one image can be read, or an image has no
                finite score.
            ValueError: an array is not of that kind, an image has no pixels, or it is one image
                that is not in a list.
        """
        if isinstance(images, str | Path | Image.Image):
            raise ValueError(f"images is {images!r}, expected a list of images: put it in one")
        names = [
            str(image) if isinstance(image, Path | str) else f"images[{number}]"
            for number, image in enumerate(images)
        ]
        reads = [_read(image, name) for image, name in zip(images, names, strict=True)]
        return self.judge(reads, fpr, names)

    def judge(self, reads: Sequence[Read], fpr: float, names: Sequence[str]) -> Verdicts:
        """`score` for images that are read when their turn comes; an error calls them `names`."""
        return judge(reads, self.rule, self.score_pixels, self.calibration, fpr, names)

    def score_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Eq. 6 in log form of images [N, H, W, C] that are as those of the sets: [N].

        NaN for one whose feature is NaN, Inf or of zero norm: who asked knows what it is called.
        """
        features = self.network.of_images(Pixels(pixels), range(len(pixels)))
        norms = torch.linalg.vector_norm(features, dim=1)
        has_score = norms.isfinite() & (norms >= MIN_NORM)
        scores = np.full(len(pixels), np.nan)
        if has_score.any():
            scores[has_score.cpu().numpy()] = self.score_features(features[has_score], IMAGES)
        return scores

    def score_features(self, features: Tensor, name: str) -> NDArray[np.float64]:
        """Eq. 6 in log form of float32 [N, d]; an error calls them `name`."""
        return _scores(features, self.bank, self.tau, name)


def _scores(features: Tensor, bank: Tensor, tau: float, name: str) -> NDArray[np.float64]:
    return eq6_log_form(features, bank, tau, names=(name, BANK)).cpu().numpy()


def _calibration_ids(count: int, overlap: Sequence[Shared]) -> NDArray[np.int64]:
    """Of `count` images, those that the bank does not have: no p-value may be taken from the rest.

    An image of the bank has a cosine of 1 with itself, and so a score as no new image has.
    """
    of_bank = [shared.ids for shared in overlap if (shared.one, shared.other) == (BANK, TEST)]
    kept = np.setdiff1d(np.arange(count), np.concatenate([*of_bank, np.empty(0, np.int64)]))
    if not len(kept):
        raise UserError(f"{TEST}: all {count} images are in {BANK} too, none is left to calibrate")
    if len(kept) < count:
        print(
            f"{count - len(kept):,} of {count:,} images of {TEST} are in {BANK} too, and are left "
            "out of the calibration",
            file=sys.stderr,
        )
    return kept


def _read(image: Path | str | Image.Image | np.ndarray, name: str) -> Read:
    if isinstance(image, Path | str):
        return partial(read_picture, Path(image))
    if isinstance(image, np.ndarray) and (
        image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"{name} is {image.dtype} {list(image.shape)}, expected uint8 [H, W, 1 or 3]"
        )
    size = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
    if 0 in size:
        raise ValueError(f"{name} has a height of {size[0]} px and a width of {size[1]} px")
    return partial(_itself, image)


def _itself(image: Item) -> Item:
    return image
