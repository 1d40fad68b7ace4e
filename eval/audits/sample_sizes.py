"""Sample sizes: how precise an AUROC can be with a number of images, before any score is known.

The functions here return warnings about sets that are too small. The command line prints these
warnings before the work starts, and the results show them first.

Legend: N in-distribution test images, M OOD images, A an AUROC.

Hanley and McNeil (1982) give the variance of A from the numbers of images alone,

    (A (1 - A) + (M - 1) (Q1 - A^2) + (N - 1) (Q2 - A^2)) / (N M),  Q1 = A / (2 - A),
                                                                   Q2 = 2 A^2 / (1 + A)

This formula is evaluated at A = 0.9, a typical published AUROC. As in `intervals.py`, the
interval is symmetric in logit(A), and is never narrower than min(N, M) pairs of images can justify.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtri

from eval.config import ENSEMBLE
from eval.decisions.conformal import check_fpr, rate_of_one_set
from eval.intervals import TAIL
from eval.outliers.tuning_images import tuning_part
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import BANK, TEST, EvalSets
from shards.errors import UserError, few
from shards.reader import ShardSet
from shards.similarity.equal import all_equal

LIKELY_AUROC = 0.9
"""AUROC for which intervals are computed before the scores are known."""
WIDE, HOPELESS = 0.05, 0.2
"""Widths of a 95 % interval. Above the first width, a result says little. Above the second width, a
result is hopeless."""
MOST_IMAGES = 1 << 20
"""Largest number of images that a warning may ask for."""
NAMED_SETS = 3
"""Largest number of sets that a warning names."""


def expected_interval(in_dist: int, ood: int, auroc: float = LIKELY_AUROC) -> tuple[float, float]:
    """Return both ends of the 95 % interval that an AUROC would have, in [0, 1].

    Args:
        in_dist: number N of in-distribution images, at least 1.
        ood: number M of OOD images, at least 1.
        auroc: A, in (0, 1).
    """
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (ood - 1) * (q1 - auroc**2) + (in_dist - 1) * (q2 - auroc**2)
    half = -ndtri(TAIL) * np.sqrt(variance / (in_dist * ood)) / (auroc * (1 - auroc))
    low, high = expit(logit(auroc) + np.array([-half, half]))
    perfect_low = TAIL ** (1 / min(in_dist, ood))
    return float(min(low, perfect_low)), float(max(high, 1 - perfect_low))


def expected_width(in_dist: int, ood: int) -> float:
    """Return the width of the 95 % interval that an AUROC would have (see `expected_interval`)."""
    low, high = expected_interval(in_dist, ood)
    return high - low


def ood_images_needed(in_dist: int) -> int | None:
    """Return the smallest number of OOD images for which the 95 % interval is narrow enough.

    The interval of the AUROC must not be wider than `WIDE`. None means that no number of OOD images
    up to `MOST_IMAGES` is enough.

    Args:
        in_dist: number of in-distribution images.
    """
    if expected_width(in_dist, MOST_IMAGES) > WIDE:
        return None
    return _fewest(lambda count: expected_width(in_dist, count) <= WIDE)


def images_needed() -> int:
    """Return the smallest number of images per kind for which the 95 % interval is narrow enough.

    The interval of the AUROC must not be wider than `WIDE`. There are two kinds, in-distribution
    and OOD, with the same number of images.
    """
    return _fewest(lambda count: expected_width(count, count) <= WIDE)


def _fewest(is_enough: Callable[[int], bool]) -> int:
    """Return the smallest number from 1 to `MOST_IMAGES` for which `is_enough` is True.

    If a number is enough, all larger numbers must be enough too.
    """
    low, high = 1, MOST_IMAGES
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low


def sizes_that_say_little(
    counts: Mapping[str, int], equal: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Return warnings about sets that are too small.

    Args:
        counts: set -> number of its images. The bank is one of the sets.
        equal: sets whose images are all equal. Such a set counts as one image.

    Returns:
        Warnings about hopelessly small sets, then warnings about other small sets (see `WIDE` and
        `HOPELESS`).
    """
    hopeless: list[str] = []
    little: list[str] = []
    for name in equal:
        if counts[name] > 1:
            hopeless.append(
                f"All {counts[name]:,} images of {name} are equal and say no more than one image"
            )
    effective = {name: 1 if name in equal else count for name, count in counts.items()}
    of_size: dict[int, list[str]] = {}
    for name, count in effective.items():
        if name not in (BANK, TEST):
            of_size.setdefault(count, []).append(name)
    for count, names in sorted(of_size.items()):
        low, high = expected_interval(effective[TEST], count)
        if high - low > WIDE:
            lines = hopeless if high - low > HOPELESS else little
            lines.append(
                f"{_images(effective[TEST])} of {TEST} and {_images(count)} of "
                f"{few(names, NAMED_SETS)}: an AUROC of {100 * LIKELY_AUROC:g} % would have a 95 % "
                f"interval of {100 * low:.0f} to {100 * high:.0f} %; {_needed(effective[TEST])} "
                f"would narrow it to {100 * WIDE:g} points"
            )
    return hopeless, little


def _needed(in_dist: int) -> str:
    ood = ood_images_needed(in_dist)
    if ood is None:
        return f"{images_needed():,} images of either kind"
    return f"{_images(ood)} of an OOD set"


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")


def sets_of_equal_images(sets: EvalSets, files: Sequence[FeatureFile] = ()) -> list[str]:
    """Return the names of the sets whose images are all equal, pixel by pixel.

    Args:
        sets: the sets. Each set is read only until two images differ.
        files: feature files. If there are no images, the features are compared instead.
    """
    if sets.shards:
        return [name for name, shards in sets.shards.items() if all_equal(len(shards), shards.read)]
    return [
        name
        for name, count in sets.counts.items()
        if files and all(all_equal(count, file.rows(name).__getitem__) for file in files)
    ]


def check_calibration(directory: Path, fpr: float, score: str) -> list[str]:
    """Return warnings about a calibration set that is too small, before anything is computed.

    Images that are also in the bank are left out later, and the rate is then checked again.

    Args:
        directory: folder of the calibration set.
        fpr: false-positive rate, in (0, 1).
        score: the score. The ensemble is tuned on half of the set.

    Raises:
        UserError: the set is too small for the rate, or is not a shard set.
    """
    with ShardSet.open(directory) as shards:
        count = len(shards)
        if count == 0:
            return []  # an empty set is refused when the sets are opened
        if score == ENSEMBLE:
            _, calibration = tuning_part(np.arange(count))
            if not (count := len(calibration)):
                return []  # refused when the ensemble is tuned
        check_fpr(fpr, count)
        if all_equal(count, shards.read):
            return [f"{directory}: its images ({count:,}) are all equal, so p-values rest on one"]
    mean, deviation = rate_of_one_set(fpr, count)
    if 2 * deviation <= mean:
        return []
    return [
        f"{directory}: with {_images(count)} the false-positive rate of {100 * fpr:g} % is "
        f"imprecise: {100 * mean:.3g} % with a standard deviation of {100 * deviation:.2g} points; "
        f"with {math.ceil(4 / fpr):,} images that would be half the rate"
    ]


def check_neighbours(ks: Sequence[int], bank: int) -> list[str]:
    """Return a warning for each number of neighbours that is more than half of the bank.

    Args:
        ks: numbers of neighbours.
        bank: number of images in the bank.

    Raises:
        UserError: a number of neighbours is larger than the bank.
    """
    fit = " ".join(str(k) for k in ks if k <= bank) or "1"
    for k in ks:
        if k > bank:
            raise UserError(f"--k is {k}, but {BANK} has {_images(bank)}; give --k {fit}")
    return [
        f"--k is {k}: more than half of the {bank:,} images of {BANK} are hardly the nearest ones"
        for k in ks
        if 2 * k > bank
    ]
