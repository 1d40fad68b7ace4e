"""Score single images from Python: is an image like those that the run was trained on?

    from eval.detector import Detector
    detector = Detector.load("out/run", in_dist_train="shards/train", calibration="shards/test")
    found = detector.score(["photo.jpg", "other.png"])  # .score, .p_value, .is_ood, .errors

`eval/score.py --images` and `eval/export.py` use the same detector.
Legend: N images that are scored, M images of the bank, n images of the calibration set, d feature
width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.config import FPR, DetectorConfig, Device, Precision
from eval.decisions.conformal import Calibration
from eval.decisions.images import Pixels, Read, rule_of
from eval.decisions.verdicts import Verdicts, judge
from eval.features.checks import MIN_NORM
from eval.features.networks import Network, cache_of, teacher_network
from eval.results.collect import provenance_of
from eval.results.scoring import Provenance
from eval.scores.cosine import score as eq6_log_form
from eval.sets.leakage import Shared, check_overlap
from eval.sets.opening import BANK, TEST, open_sets
from shards.errors import UserError
from shards.pixels.fitted import Item
from shards.pixels.limits import read_picture
from shards.pixels.target import Target
from train.teacher import LoadedTeacher, load_teacher
from train.world import World, pick_device

IMAGES = "images"


@dataclass(frozen=True)
class Detector:
    """A detector of out-of-distribution (OOD) images: a trained teacher, a bank, a calibration set.

    The score of an image is Eq. 6 of the paper in its log form (`eval/scores/cosine.py`): it
    compares the teacher's feature of the image with the features of all images of the bank. A
    higher score is more OOD. The p-value of an image is the probability that an in-distribution
    image scores as high (`eval/decisions/conformal.py`); it comes from the scores of the
    calibration set. Make a detector with `Detector.load`, and score images with `score`.
    """

    teacher: LoadedTeacher
    network: Network
    """The network that makes the teacher's features."""
    bank: Tensor
    """Features of the bank: float32 [M, d] on the device."""
    calibration_ids: NDArray[np.int64]
    """Ids of the calibration images, [n], ascending; images that are in the bank too are left
    out."""
    calibration_features: Tensor
    """Features of the calibration images, in the order of their ids: float32 [n, d]."""
    calibration_scores: NDArray[np.float64]
    """Scores of the calibration images, in the order of their ids: [n]."""
    rule: Target
    """The rule by which an image of any size becomes the pixels that the network takes."""
    tau: float
    """Temperature of Eq. 6."""
    provenance: Provenance
    """The checkpoint, the sets and the images that they share, for results.json."""

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        in_dist_train: Path | str,
        calibration: Path | str,
        allow_overlap: bool = DetectorConfig.allow_overlap,
        device: Device = DetectorConfig.device,
        precision: Precision = DetectorConfig.precision,
        batch: int = DetectorConfig.batch,
        tau: float = DetectorConfig.tau,
        num_threads: int = DetectorConfig.num_threads,
        cache: Path | str | None = None,
    ) -> Detector:
        """Load the newest checkpoint of a run, and compute the features of both sets.

        Features that were computed before are read from the cache.

        Args:
            run: directory that train/main.py wrote.
            in_dist_train: shard set of in-distribution training images: the bank.
            calibration: shard set of other in-distribution images. n of them can promise a
                false-positive rate of 1 / (n + 1) or more.
            allow_overlap: True to accept a calibration set that shares images with the bank, or
                that the run was trained on. Images of the bank are then left out of the
                calibration.
            device: "cuda", "cpu", or "auto" for cuda if there is a GPU.
            precision: "fp32", or "bf16" for autocast in the network; scores are in fp32.
            batch: images in one forward pass.
            tau: temperature of Eq. 6, > 0.
            num_threads: CPU threads that decode and resize the images of the sets.
            cache: folder that keeps features; by default RUN/features.

        Raises:
            UserError: the run or a set is missing or damaged, or an option is out of range. Also
                if the calibration set is the bank, shares images with it, or is a set that the run
                was trained on, unless `allow_overlap` is set; with it, if no calibration image is
                left.
        """
        return cls.of(
            DetectorConfig(
                run=Path(run),
                in_dist_train=Path(in_dist_train),
                calibration=Path(calibration),
                allow_overlap=allow_overlap,
                device=device,
                precision=precision,
                batch=batch,
                tau=tau,
                num_threads=num_threads,
                cache=None if cache is None else Path(cache),
            )
        )

    @classmethod
    def of(cls, config: DetectorConfig) -> Detector:
        """Make the detector of a configuration; see `load`, which raises the same errors."""
        config.check()
        world = World(0, 1, pick_device(config.device))
        with ExitStack() as stack:
            folders = config.in_dist_train, config.calibration
            sets = open_sets(*folders, (), stack, allow_overlap=config.allow_overlap)
            teacher = load_teacher(config.run, world.device)
            overlap = check_overlap(sets, teacher, allow_overlap=config.allow_overlap)
            kept = _calibration_ids(sets.counts[TEST], overlap)
            network = teacher_network(teacher, config, world, cache_of(config))
            features = network.of_sets(sets)
        of_test = features[TEST]
        # All images are scored before some are left out, so that errors name ids of the set.
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
            provenance=provenance_of(sets, teacher, overlap),
        )

    @property
    def calibration(self) -> Calibration:
        """The calibration scores, which give p-values and thresholds."""
        return Calibration(self.calibration_scores)

    def score(
        self, images: Sequence[Path | str | Image.Image | np.ndarray] | np.ndarray, fpr: float = FPR
    ) -> Verdicts:
        """Score N images, and decide for each whether it is OOD.

        Args:
            images: a list of file names, Pillow images, or uint8 arrays [H, W, C] with C = 1 or 3
                (values 0 to 255, RGB); or one array [N, H, W, C]. Images may have any size.
            fpr: false-positive rate: the share of in-distribution images that may be called OOD,
                between 1 / (n + 1) and 1.

        Returns:
            Scores, p-values and decisions, each [N], in the order of `images`. A file that cannot
            be read has the score NaN, and its reason in `errors`.

        Raises:
            UserError: the calibration set is too small for `fpr`, no image can be read, or an image
                has no finite score.
            ValueError: `images` is one image and not a list, an array has another dtype or shape,
                or an image has no pixels.
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
        """Score N images that are read one after the other; see `score`.

        Args:
            reads: N functions, each of which returns an image.
            fpr: false-positive rate.
            names: N names of the images, for messages of errors.
        """
        return judge(reads, self.rule, self.score_pixels, self.calibration, fpr, names)

    def score_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the scores of images that already have the size and channels of the sets.

        Args:
            pixels: uint8 [N, H, W, C].

        Returns:
            [N]; higher = more OOD; NaN for an image whose feature is NaN, Inf or of zero norm. The
            caller knows the names of the images and reports them.
        """
        features = self.network.of_images(Pixels(pixels), range(len(pixels)))
        norms = torch.linalg.vector_norm(features, dim=1)
        has_score = norms.isfinite() & (norms >= MIN_NORM)
        scores = np.full(len(pixels), np.nan)
        if has_score.any():
            scores[has_score.cpu().numpy()] = self.score_features(features[has_score], IMAGES)
        return scores

    def score_features(self, features: Tensor, name: str) -> NDArray[np.float64]:
        """Return the scores of features.

        Args:
            features: float32 [N, d] on the device of the bank.
            name: what messages of errors call the features.

        Returns:
            [N]; higher = more OOD.

        Raises:
            UserError: there are no features, or one is NaN, Inf or of zero norm.
        """
        return _scores(features, self.bank, self.tau, name)


def _scores(features: Tensor, bank: Tensor, tau: float, name: str) -> NDArray[np.float64]:
    return eq6_log_form(features, bank, tau, names=(name, BANK)).cpu().numpy()


def _calibration_ids(count: int, overlap: Sequence[Shared]) -> NDArray[np.int64]:
    """Return the ids of the calibration images, out of `count`, that are not in the bank too.

    An image of the bank has a cosine of 1 with itself. Its score is lower than that of any new
    image, and says nothing about new images.
    """
    in_bank = [shared.ids for shared in overlap if (shared.one, shared.other) == (BANK, TEST)]
    kept = np.setdiff1d(np.arange(count), np.concatenate([*in_bank, np.empty(0, np.int64)]))
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
