"""Is this image like those that the run was trained on: three lines of Python tell.

    from eval.detector import Detector
    detector = Detector.load("out/run", in_dist_train="shards/train", calibration="shards/test")
    found = detector.score(["photo.jpg", "other.png"])  # .score, .p_value, .is_ood, .errors

The same detector is behind `eval/score.py --images` and `eval/export.py`.
Legend: N images, M of the bank, n of the calibration set, d width of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.config import ScoreConfig
from eval.conformal import Calibration
from eval.contents import refuse, shared_images
from eval.images import Item, Pixels, Read, rule_of
from eval.networks import Network, of_teacher
from eval.results import described
from eval.scorer import score as eq6_log_form
from eval.sets import BANK, TEST, open_sets, refuse_trained_on
from eval.verdicts import Verdicts, judge
from shards.convert import Target
from train.checkpoint import LoadedTeacher, load_teacher
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
    calibration_features: Tensor
    """float32 [n, d], row i = id i of the calibration set."""
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
            UserError: the run or a set is not as it must be, or the calibration set is the bank,
                shares images with it, or is the set that the run was trained on.
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
            sets = open_sets(*config.in_dist, (), stack)
            overlap = shared_images(sets.shards)
            if not config.allow_overlap:
                refuse(overlap)
            teacher = load_teacher(config.run, world.device)
            refuse_trained_on(sets, teacher)
            network = of_teacher(teacher, config, world)
            features = network.of_sets(sets)
        return cls(
            teacher=teacher,
            network=network,
            bank=features[BANK],
            calibration_features=features[TEST],
            calibration_scores=_scores(features[TEST], features[BANK], config.tau, TEST),
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
            UserError: the rate cannot be promised, or not one image can be read.
            ValueError: an array is not of that kind, or it is one image that is not in a list.
        """
        if isinstance(images, str | Path | Image.Image):
            raise ValueError(f"images is {images!r}, expected a list of images: put it in one")
        return self.judge([_read(image) for image in images], fpr)

    def judge(self, reads: Sequence[Read], fpr: float) -> Verdicts:
        """`score` for images that are read when their turn comes."""
        return judge(reads, self.rule, self.score_pixels, self.calibration, fpr)

    def score_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Eq. 6 in log form of images [N, H, W, C] that are as those of the sets: [N]."""
        features = self.network.of_images(Pixels(pixels), range(len(pixels)))
        return self.score_features(features, IMAGES)

    def score_features(self, features: Tensor, name: str) -> NDArray[np.float64]:
        """Eq. 6 in log form of float32 [N, d]; an error calls them `name`."""
        return _scores(features, self.bank, self.tau, name)


def _scores(features: Tensor, bank: Tensor, tau: float, name: str) -> NDArray[np.float64]:
    return eq6_log_form(features, bank, tau, names=(name, BANK)).cpu().numpy()


def _read(image: Path | str | Image.Image | np.ndarray) -> Read:
    if isinstance(image, Path | str):
        return Path(image).read_bytes
    if isinstance(image, np.ndarray) and (
        image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"an image is {image.dtype} {list(image.shape)}, expected uint8 [H, W, 1 or 3]"
        )
    return partial(_itself, image)


def _itself(image: Item) -> Item:
    return image
