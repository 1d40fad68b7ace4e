"""Shortcuts: trivial statistics of images that tell an OOD set apart without looking at content.

An OOD set may have been resized, compressed or exposed in another way than the in-distribution
images. This alone can tell the set apart from the in-distribution images, and a detector's AUROC on
it then says little. In the literature, the resized LSUN and ImageNet sets are examples. Each
statistic is one number per image. `audit` computes the AUROC of each statistic on each set, with
the same code as the AUROC of the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval.audits.image_statistics import (
    JPEG_PX,
    Batch,
    Float,
    black_border,
    brightness,
    contrast,
    high_frequencies,
    jpeg_grid,
    original_aspect,
    original_size,
    red_green,
    saturation,
    sharpness,
    white_border,
    yellow_blue,
)
from eval.intervals import Interval
from eval.metrics import auroc_interval
from shards.errors import few
from shards.reader import ShardSet

ALONE = 0.9
"""AUROC from which a statistic alone tells a set apart. Detectors in the literature reach 0.9 and
more on sets that are called easy, so such a statistic could pass for a detector."""
CHANCE = 0.5
TELLING = 0.7
"""Smallest AUROC at which a statistic tells sets apart at all. Acceptable discrimination begins at
this value (Hosmer, Lemeshow and Sturdivant 2013, section 5.2.4)."""
NAMED_SETS = 3
"""Largest number of sets that a line names."""
CHUNK_BYTES = 1 << 18
"""Size in bytes of the images that are processed together. It is small, so that the images and
their statistics stay in the cache of the CPU."""


@dataclass(frozen=True)
class Statistic:
    """A statistic: a function that computes one number per image."""

    label: str
    """Name of the statistic in reports and tables."""
    of: Callable[[Batch], Float]
    """Function that takes a batch of B images and returns their statistics, float32 [B]."""
    tells_of: str
    """Possible causes of a difference between two sets: the content of the images, or how the files
    were made."""
    channels: int = 1
    """Smallest number of channels for which the statistic is defined."""
    side_px: int = 3
    """Smallest height and width in pixels for which the statistic is defined."""
    of_source: bool = False
    """True if the statistic is computed from the original size of an image, which must then be
    known. The pixels do not show this size."""


LIGHT = "the light of the scene, or the exposure"
TEXTURE = "the texture of the content, or how images were resized and compressed"
COLOUR = "the colours of the content, or camera and white balance"
BORDER = "the background of the content, or a frame from padding"
SOURCE = "the size of the files before they were resized, which leaves at most traces in the pixels"

STATISTICS: Mapping[str, Statistic] = {
    "brightness": Statistic("mean brightness", brightness, LIGHT),
    "contrast": Statistic("contrast", contrast, LIGHT),
    "sharpness": Statistic("sharpness", sharpness, TEXTURE),
    "high-frequencies": Statistic("share of high frequencies", high_frequencies, TEXTURE),
    "jpeg-grid": Statistic(
        "JPEG blockiness",
        jpeg_grid,
        "JPEG compression, or flat areas of the content",
        side_px=2 * JPEG_PX,
    ),
    "red-green": Statistic("mean of red against green", red_green, COLOUR, channels=3),
    "yellow-blue": Statistic("mean of yellow against blue", yellow_blue, COLOUR, channels=3),
    "saturation": Statistic("colour saturation", saturation, COLOUR, channels=3),
    "black-border": Statistic("share of black in the border", black_border, BORDER),
    "white-border": Statistic("share of white in the border", white_border, BORDER),
    "original-size": Statistic("original size", original_size, SOURCE, of_source=True),
    "original-aspect": Statistic("original aspect ratio", original_aspect, SOURCE, of_source=True),
}
"""Key of a statistic in results.json -> the statistic."""


def statistics(images: ShardSet) -> dict[str, NDArray[np.float32]]:
    """Compute every statistic that is defined for these images.

    Returns:
        Key of `STATISTICS` -> float32 [N], in the order of the ids.
    """
    count = len(images)
    first = images.read(np.arange(1))
    _, height, width, channels = first.shape
    sizes = images.source_sizes(np.arange(count))
    defined = {
        key: statistic
        for key, statistic in STATISTICS.items()
        if channels >= statistic.channels
        and min(height, width) >= statistic.side_px
        and (sizes is not None or not statistic.of_source)
    }
    found = {key: np.empty(count, np.float32) for key in defined}
    step = max(1, CHUNK_BYTES // first.nbytes)
    for start in range(0, count, step):
        ids = np.arange(start, min(start + step, count))
        batch = Batch.of(images.read(ids), None if sizes is None else sizes[ids])
        for key, statistic in defined.items():
            found[key][ids] = statistic.of(batch)
    return found


def audit(in_dist_test: ShardSet, ood: Mapping[str, ShardSet]) -> dict[str, dict[str, Interval]]:
    """Compute the AUROC of each statistic on each OOD set.

    A statistic may be higher or lower in OOD images. The direction with an AUROC of at least 0.5 is
    used.

    Args:
        in_dist_test: in-distribution test images.
        ood: name of an OOD set -> its images. There is at least one set. All sets have the same
            image size.

    Returns:
        Set -> key of `STATISTICS` -> AUROC, with a value in [0.5, 1]. Statistics of the original
        size are left out for a set if the original sizes of its images or of the test images are
        unknown.
    """
    normal = statistics(in_dist_test)
    found = {}
    for name, images in ood.items():
        other = statistics(images)
        found[name] = {key: _either_way(normal[key], other[key]) for key in normal if key in other}
    return found


class Told(NamedTuple):
    """A line of text about a statistic that tells sets apart as well as the detector does."""

    value: float
    """The highest AUROC of the statistic."""
    text: str

    @property
    def weighs(self) -> bool:
        """True if `value` is at least `TELLING`. If False, the detector is weak as well."""
        return self.value >= TELLING


def tell_apart(
    shortcuts: Mapping[str, Mapping[str, Interval]], detector: Mapping[str, float]
) -> list[Told]:
    """Return a line for each statistic that tells sets apart, with the highest AUROC first.

    `is_shortcut` decides which statistics tell a set apart. Each set is named once, with its best
    statistic. A statistic of the original size, which pixels do not show, is named only if no other
    statistic tells the set apart.

    Args:
        shortcuts: the result of `audit`.
        detector: set -> AUROC of the detector, in [0, 1].
    """
    best: dict[tuple[str, bool], list[tuple[float, str]]] = {}
    for name, of_set in shortcuts.items():
        telling = {
            key: one.value for key, one in of_set.items() if is_shortcut(one, detector[name])
        }
        if telling:
            key = max(telling, key=lambda key: (not STATISTICS[key].of_source, telling[key]))
            best.setdefault((key, telling[key] >= TELLING), []).append((telling[key], name))
    found = []
    for (key, weighs), sets in best.items():
        sets.sort(reverse=True)
        shown = [
            f"{name} {100 * value:.1f} % ({100 * detector[name]:.1f} %)" for value, name in sets
        ]
        statistic, aurocs = STATISTICS[key], few(shown, NAMED_SETS)
        if weighs:
            text = (
                f"Sets can be told apart by {statistic.label} alone, which may come from "
                f"{statistic.tells_of}; AUROC (the detector's): {aurocs}"
            )
        else:
            text = (
                f"The detector is no better than {statistic.label} alone, and both are weak; "
                f"AUROC (the detector's): {aurocs}"
            )
        found.append(Told(sets[0][0], text))
    return sorted(found, key=lambda told: -told.value)


def is_shortcut(statistic: Interval, detector: float) -> bool:
    """Return True if a statistic tells a set apart as well as a detector does.

    The interval of the statistic must lie above chance, and its AUROC must reach `ALONE` or the
    detector's AUROC.

    Args:
        statistic: AUROC of the statistic with its interval.
        detector: AUROC of the detector, in [0, 1].
    """
    return statistic.low > CHANCE and statistic.value >= min(ALONE, detector)


def _either_way(in_dist: Float, ood: Float) -> Interval:
    found = auroc_interval(in_dist, ood)
    return found if found.value >= CHANCE else auroc_interval(-in_dist, -ood)
