"""Whether an OOD set can be told apart by a number that takes no look at what images show.

A set that was resized, compressed or exposed in another way than the in-distribution images is told
apart by that alone, and a detector's AUROC on it then says little (LSUN and ImageNet, resized, of
the literature are such sets). Each statistic here is one number an image; `audit` gives the AUROC
of each on each set, of the metric code that judges the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dali_pipes.eval_loader import ImageSource
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

ALONE = 0.9
"""AUROC from which a statistic alone tells a set apart. The detectors of the literature lie at 0.9
and above on the sets that are called easy: a number of an image that gets there would pass for one
of them."""
CHANCE = 0.5
TELLING = 0.7
"""AUROC from which it can be said to tell sets apart at all: acceptable discrimination begins there
(Hosmer, Lemeshow and Sturdivant 2013, section 5.2.4)."""
NAMED_SETS = 3
CHUNK_BYTES = 1 << 18
"""Of images that are looked at together, so that they and what is computed of them stay in the
cache."""


@runtime_checkable
class SourceSizes(Protocol):
    """Images that may know what size they had before they were resized, as those of shard sets."""

    def source_sizes(self, ids: np.ndarray) -> np.ndarray | None:
        """Int64 [B] -> height and width, px, int64 [B, 2]; None if they are not known."""


@dataclass(frozen=True)
class Statistic:
    """One number an image."""

    label: str
    """What a reader sees."""
    of: Callable[[Batch], Float]
    """[B] of B images."""
    tells_of: str
    """What it may come from: what is shown, or how files were made."""
    channels: int = 1
    """Fewest channels that it is defined for."""
    side_px: int = 3
    """Smallest height and width that it is defined for."""
    of_source: bool = False
    """Whether it is of the size in the source, which has to be known and is not seen in images."""


LIGHT = "the light of what is shown, or its exposure"
TEXTURE = "the texture of what is shown, or how images were resized and compressed"
COLOUR = "the colours of what is shown, or of camera and white balance"
BORDER = "the background of what is shown, or a frame that padding left"
SOURCE = "the files before they were resized, of which pixels show traces at most"

STATISTICS: Mapping[str, Statistic] = {
    "brightness": Statistic("mean brightness", brightness, LIGHT),
    "contrast": Statistic("contrast", contrast, LIGHT),
    "sharpness": Statistic("sharpness", sharpness, TEXTURE),
    "high-frequencies": Statistic("share of high frequencies", high_frequencies, TEXTURE),
    "jpeg-grid": Statistic(
        "JPEG blockiness",
        jpeg_grid,
        "JPEG compression, or flat areas of what is shown",
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
"""Key in results.json -> what it is."""


def statistics(images: ImageSource) -> dict[str, NDArray[np.float32]]:
    """Every statistic that is defined for these images: key -> float32 [N], in id order."""
    count = len(images)
    first = images.read(np.arange(1))
    _, height, width, channels = first.shape
    sizes = images.source_sizes(np.arange(count)) if isinstance(images, SourceSizes) else None
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


def audit(
    in_dist_test: ImageSource, ood: Mapping[str, ImageSource]
) -> dict[str, dict[str, Interval]]:
    """AUROC of each statistic on each OOD set, whichever way it tells them apart.

    Args:
        in_dist_test: in-distribution test images.
        ood: the OOD sets, at least one image each, of the same size.

    Returns:
        Set -> key of `STATISTICS` -> `value`, in [0.5, 1], and its 95 % interval, `low` and `high`.
        Statistics of the original size are left out of a set unless both its images and the
        in-distribution test images know theirs.
    """
    normal = statistics(in_dist_test)
    found = {}
    for name, images in ood.items():
        other = statistics(images)
        found[name] = {key: _either_way(normal[key], other[key]) for key in normal if key in other}
    return found


class Told(NamedTuple):
    """What is said of a statistic."""

    value: float
    """Its highest AUROC."""
    text: str

    @property
    def weighs(self) -> bool:
        """Whether it tells a set apart; if not, the detector does not, either."""
        return self.value >= TELLING


def tell_apart(
    shortcuts: Mapping[str, Mapping[str, Interval]], detector: Mapping[str, float]
) -> list[Told]:
    """A line for each statistic by which sets can be told apart (see `is_shortcut`), highest first.

    A set is named with the one that does so best; one of the original size, which is not seen in
    images, only where no other does.

    Args:
        shortcuts: what `audit` found.
        detector: set -> AUROC of the detector, in [0, 1].
    """
    best: dict[tuple[str, bool], list[tuple[float, str]]] = {}
    for name, of_set in shortcuts.items():
        telling = {
            key: one["value"] for key, one in of_set.items() if is_shortcut(one, detector[name])
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
                f"The detector is no better than {statistic.label} alone where neither tells "
                f"much; AUROC (the detector's): {aurocs}"
            )
        found.append(Told(sets[0][0], text))
    return sorted(found, key=lambda told: -told.value)


def is_shortcut(statistic: Interval, detector: float) -> bool:
    """Whether a statistic tells a set apart as a detector does.

    It does with an AUROC that is above chance beyond doubt, and at `ALONE` or as high as the
    detector's.
    """
    return statistic["low"] > CHANCE and statistic["value"] >= min(ALONE, detector)


def _either_way(in_dist: Float, ood: Float) -> Interval:
    found = auroc_interval(in_dist, ood)
    return found if found["value"] >= CHANCE else auroc_interval(-in_dist, -ood)
