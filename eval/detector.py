"""Score single images from Python: is an image like the images that the run was trained on?

    from eval.detector import Detector
    detector = Detector.load("out/run", in_dist_train="shards/train", calibration="shards/test")
    found = detector.score(["photo.jpg", "other.png"])  # .score, .p_value, .is_ood, .errors

`eval/score.py --images` and `eval/export.py` use the same detector.
Legend: N images that are scored, M images of the bank, n images of the calibration set, d feature
width.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eval.config import FPR, DetectorConfig, Device, Precision
from eval.decisions.conformal import Calibration
from eval.decisions.images import Read, read_of, rule_of
from eval.decisions.verdicts import Scored, Verdicts, judge
from eval.ensemble.ensemble import Ensemble, tuned
from eval.ensemble.sources import Source, all_sources, member_key, sources_of
from eval.features.checks import MIN_NORM, check_features
from eval.features.in_memory import ImagesInMemory
from eval.features.networks import Network, cache_of, teacher_network
from eval.intervals import Interval
from eval.outliers.tuning_images import TuningImages, tuning_part
from eval.results.collect import provenance_of
from eval.results.scoring import Provenance
from eval.sets.leakage import Shared, check_overlap
from eval.sets.opening import BANK, TEST, open_sets
from shards.errors import UserError, printable
from shards.pixels.target import Target
from train.teacher import LoadedTeacher, load_teacher
from train.world import World, pick_device

IMAGES = "images"


@dataclass(frozen=True)
class Detector:
    """A detector of out-of-distribution (OOD) images: a trained teacher, a bank, a calibration set.

    The score of an image is the weighted sum of many scores (`eval/ensemble/ensemble.py`), or one
    of them, for example Eq. 6 of the paper. Each compares the image with the images of the bank. A
    higher score means more OOD. The p-value of an image is the probability that an in-distribution
    image has a score as high (`eval/decisions/conformal.py`). It is computed from the scores of the
    calibration set. Every second image of that set tunes the ensemble, and is left out of the
    p-values. Make a detector with `Detector.load`, and score images with `score`.
    """

    teacher: LoadedTeacher
    network: Network
    """The network that computes the teacher's features."""
    bank: Tensor
    """The teacher's features of the bank, float32 [M, d] on the device."""
    ensemble: Ensemble
    """The score: a weighted sum, or one score alone."""
    calibration_ids: NDArray[np.int64]
    """Ids of the calibration images, int64 [n], ascending. Images that are also in the bank, or
    that tuned the ensemble, are left out."""
    calibration_features: Tensor
    """The teacher's features of the calibration images, float32 [n, d], in the order of
    `calibration_ids`."""
    calibration_scores: NDArray[np.float64]
    """Scores of the calibration images, float64 [n], in the order of `calibration_ids`."""
    rule: Target
    """The rule that turns an image of any size into the pixels that the network takes."""
    tau: float
    """Temperature tau of Eq. 6 in the paper."""
    provenance: Provenance
    """Facts for results.json: the checkpoint, the sets, and the images that sets share."""

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
        score: str = DetectorConfig.score,
        tau: float = DetectorConfig.tau,
        num_threads: int = DetectorConfig.num_threads,
        cache: Path | str | None = None,
    ) -> Detector:
        """Load the newest checkpoint of a run, and compute the features of both sets.

        The sets are the bank and the calibration set. Features that were computed before are read
        from the cache.

        Args:
            run: directory that train/main.py wrote.
            in_dist_train: shard set of in-distribution training images. Their features are the
                bank.
            calibration: shard set of in-distribution images that are not in the bank. The smallest
                false-positive rate that n of them allow is 1 / (n + 1). If the score is the
                ensemble, n is half of the set, because the other half tunes the ensemble.
            allow_overlap: True to accept a calibration set that shares images with the bank, or
                that the run was trained on. Images of the bank are then left out of the
                calibration.
            device: "cuda", "cpu", or "auto" for cuda if there is a GPU, else cpu.
            precision: precision of the network: "fp32", or "bf16" for autocast to bfloat16. Scores
                are always in fp32.
            batch: number of images in one forward pass.
            score: the score of the images: "ensemble", or one score. See `CommonConfig.score`.
            tau: temperature of Eq. 6, > 0.
            num_threads: number of CPU threads that decode and resize the images of the sets.
            cache: folder in which features are kept. The default is RUN/features.

        Raises:
            UserError: the run or a set is missing or damaged, an option is out of range, or there
                is no score of the name `score`. If
                `allow_overlap` is False, also if the calibration set is the bank, shares images
                with the bank, or is a set that the run was trained on. If `allow_overlap` is True,
                also if no calibration image is left.
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
                score=score,
                tau=tau,
                num_threads=num_threads,
                cache=None if cache is None else Path(cache),
            )
        )

    @classmethod
    def of(cls, config: DetectorConfig) -> Detector:
        """Return the detector of a configuration. Raises the same errors as `load`."""
        config.check()
        world = World(0, 1, pick_device(config.device))
        with ExitStack() as stack:
            folders = config.in_dist_train, config.calibration
            sets = open_sets(*folders, (), stack, allow_overlap=config.allow_overlap)
            teacher = load_teacher(config.run, world.device)
            overlap = check_overlap(sets, teacher, allow_overlap=config.allow_overlap)
            kept = _calibration_ids(sets.counts[TEST], overlap)
            cache = cache_of(config)
            network = teacher_network(teacher, config, world, cache)
            features = network.of_sets(sets)
            for name, values in features.items():
                check_features(name, values)
            sources = all_sources(teacher, config, world, cache)
            only = member_key(config.score)
            if only is not None:
                sources = sources_of(only, sources)
            tuning, calibration = (kept, kept) if only else tuning_part(kept)
            if not len(calibration):
                raise UserError(
                    f"{TEST}: {len(kept)} images are too few for the ensemble, which is tuned on "
                    "half of them; give more images, or choose one score with --score"
                )
            ensemble = tuned(
                sources,
                lambda source: source.of_bank(sets.shards[BANK]),
                TuningImages.read(sets.shards[TEST], tuning),
                _tell,
                only=only,
            )
            rows = torch.from_numpy(calibration)
            terms = ensemble.terms(
                lambda source: source.network.of_shards(sets.shards[TEST])[rows.to(world.device)]
            )
        return cls(
            teacher=teacher,
            network=network,
            bank=features[BANK],
            ensemble=ensemble,
            calibration_ids=calibration,
            calibration_features=features[TEST][rows.to(world.device)],
            calibration_scores=terms.sum(1),
            rule=rule_of(sets.manifests[TEST], sets.manifests[BANK]),
            tau=config.tau,
            provenance=provenance_of(sets, teacher, overlap),
        )

    @property
    def sight(self) -> Mapping[str, Interval]:
        """What this detector sees without one real outlier: family of synthetic outliers -> AUROC.

        The outliers are made of the tuning images. `eval.ensemble.sight` says it in words.
        """
        return self.ensemble.of_sum

    @property
    def calibration(self) -> Calibration:
        """The calibration scores in the form that gives p-values and thresholds."""
        return Calibration(self.calibration_scores)

    def score(
        self, images: Sequence[Path | str | Image.Image | np.ndarray] | np.ndarray, fpr: float = FPR
    ) -> Verdicts:
        """Score N images, and decide for each image whether it is OOD.

        Args:
            images: a list of file names, Pillow images, or uint8 arrays [H, W, C] with C = 1 or 3
                (values 0 to 255, RGB); or one array [N, H, W, C]. Images may have any size.
            fpr: false-positive rate: the share of in-distribution images that may be called OOD,
                between 1 / (n + 1) and 1.

        Returns:
            Scores, p-values and decisions, each [N], in the order of `images`. A file that cannot
            be read has the score NaN, and the reason is in `errors`.

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
        reads = [read_of(image, name) for image, name in zip(images, names, strict=True)]
        return self.judge(reads, fpr, names)

    def judge(self, reads: Sequence[Read], fpr: float, names: Sequence[str]) -> Verdicts:
        """Score N images, which are read in order while they are scored. See `score`.

        Args:
            reads: N functions. Each reads one image.
            fpr: false-positive rate.
            names: N names of the images, for error messages.
        """
        return judge(reads, self.rule, self.score_pixels, self.calibration, fpr, names)

    def score_pixels(self, pixels: NDArray[np.uint8]) -> Scored:
        """Return the scores of images that already have the size and channels of the sets.

        Args:
            pixels: uint8 [N, H, W, C].

        Returns:
            N scores. NaN for an image of which a network's feature is NaN, Inf or of zero norm. The
            caller reports such images, because it knows their names.
        """
        images = ImagesInMemory(pixels)
        has_score = np.ones(len(images), np.bool_)

        def features_of(source: Source) -> Tensor:
            features = source.network.of_images(images, range(len(images)))
            if not source.is_rival:
                norms = torch.linalg.vector_norm(features, dim=1)
                bad = ~norms.isfinite() | (norms < MIN_NORM)
                has_score[bad.cpu().numpy()] = False
            return features

        terms = self.ensemble.terms(features_of)
        members = [member.key for member in self.ensemble.weighing]
        loudest = np.nan_to_num(terms, nan=-np.inf).argmax(1)
        scores = np.where(has_score, terms.sum(1), np.nan)
        return Scored(scores, [members[number] for number in loudest])


def _tell(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _calibration_ids(count: int, overlap: Sequence[Shared]) -> NDArray[np.int64]:
    """Return the ids of the calibration images that are not in the bank.

    An image of the bank has a cosine of 1 with itself. Its score is lower than the score of any new
    image, so it says nothing about new images.

    Args:
        count: number of images in the calibration set.
        overlap: the images that sets share.

    Raises:
        UserError: all images are in the bank.
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
