"""What so many images can say: told before the work, and first in what is written of it.

Legend: N in-distribution test images, M OOD images, A an AUROC.

Before any score is known, Hanley and McNeil (1982) give the variance of A by the numbers alone,

    (A (1 - A) + (M - 1) (Q1 - A^2) + (N - 1) (Q2 - A^2)) / (N M),  Q1 = A / (2 - A),
                                                                   Q2 = 2 A^2 / (1 + A)

here at A = 0.9, which is of the order of what is published. The interval is as in `intervals.py`:
symmetric in logit(A), and no surer than min(N, M) pairs without a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtri

from eval.decisions.conformal import check_fpr, rate_of_one_set
from eval.intervals import TAIL
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import BANK, TEST, EvalSets
from shards.errors import UserError, few
from shards.reader import ShardSet
from shards.similarity.equal import all_equal

LIKELY_AUROC = 0.9
WIDE, HOPELESS = 0.05, 0.2
"""Widths of an interval: from the one on it is told, from the other on it is a warning."""
MOST_IMAGES = 1 << 20
"""More are not asked for."""
NAMED_SETS = 3


def expected_interval(in_dist: int, ood: int, auroc: float = LIKELY_AUROC) -> tuple[float, float]:
    """Both ends of the 95 % interval that an AUROC would have, in [0, 1].

    Args:
        in_dist: N, at least 1.
        ood: M, at least 1.
        auroc: A, in (0, 1).
    """
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (ood - 1) * (q1 - auroc**2) + (in_dist - 1) * (q2 - auroc**2)
    half = -ndtri(TAIL) * np.sqrt(variance / (in_dist * ood)) / (auroc * (1 - auroc))
    low, high = expit(logit(auroc) + np.array([-half, half]))
    perfect_low = TAIL ** (1 / min(in_dist, ood))
    return float(min(low, perfect_low)), float(max(high, 1 - perfect_low))


def expected_width(in_dist: int, ood: int) -> float:
    """Width of that interval."""
    low, high = expected_interval(in_dist, ood)
    return high - low


def ood_images_needed(in_dist: int) -> int | None:
    """The fewest OOD images with an interval of at most `WIDE`; None if no number would do."""
    if expected_width(in_dist, MOST_IMAGES) > WIDE:
        return None
    return _fewest(lambda count: expected_width(in_dist, count) <= WIDE)


def images_needed() -> int:
    """The fewest images of each kind, as many of one as of the other, with such an interval."""
    return _fewest(lambda count: expected_width(count, count) <= WIDE)


def _fewest(will_do: Callable[[int], bool]) -> int:
    """The smallest number from 1 to `MOST_IMAGES` that will do, as all larger ones."""
    low, high = 1, MOST_IMAGES
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if will_do(middle) else (middle + 1, high)
    return low


def sizes_that_say_little(
    counts: Mapping[str, int], equal: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Lines on sets that are too small: those that say next to nothing, and those that say little.

    Args:
        counts: images of each set, the bank among them.
        equal: sets whose images are all equal, and count as one.
    """
    hopeless: list[str] = []
    little: list[str] = []
    for name in equal:
        if counts[name] > 1:
            hopeless.append(
                f"All {counts[name]:,} images of {name} are equal and say no more than one"
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
                f"would bring it to {100 * WIDE:g} points"
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
    """The sets whose images are all equal, pixel by pixel; without images, whose features are.

    Args:
        sets: the sets; each is read until two images differ.
        files: of features, where there are no images.
    """
    if sets.shards:
        return [name for name, shards in sets.shards.items() if all_equal(len(shards), shards.read)]
    return [
        name
        for name, count in sets.counts.items()
        if files and all(all_equal(count, file.rows(name).__getitem__) for file in files)
    ]


def check_calibration(directory: Path, fpr: float) -> list[str]:
    """Lines on a calibration set that says little, before anything is computed of it.

    Images that the bank has too are left out later, and the rate is checked again then.

    Raises:
        UserError: the set cannot promise the rate, or is no shard set.
    """
    with ShardSet.open(directory) as shards:
        count = len(shards)
        if count == 0:
            return []  # refused where sets are opened
        check_fpr(fpr, count)
        if all_equal(count, shards.read):
            return [f"{directory}: its images ({count:,}) are all equal, so p-values rest on one"]
    mean, deviation = rate_of_one_set(fpr, count)
    if 2 * deviation <= mean:
        return []
    return [
        f"{directory}: {_images(count)} fix a false-positive rate of {100 * fpr:g} % loosely: "
        f"{100 * mean:.3g} %, give or take {100 * deviation:.2g}; {math.ceil(4 / fpr):,} images "
        "would bring that to half the rate"
    ]


def check_neighbours(ks: Sequence[int], bank: int) -> list[str]:
    """Lines on numbers of neighbours that are most of the bank.

    Raises:
        UserError: one is more than the bank has.
    """
    fit = " ".join(str(k) for k in ks if k <= bank) or "1"
    for k in ks:
        if k > bank:
            raise UserError(f"--k is {k}, but {BANK} has {_images(bank)}; give --k {fit}")
    return [
        f"--k is {k} of the {bank:,} images of {BANK}: more than half of them, hardly its nearest"
        for k in ks
        if 2 * k > bank
    ]
