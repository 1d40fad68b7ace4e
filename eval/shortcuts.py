"""Whether an OOD set can be told apart by a number that has nothing to do with what images show.

A set that was resized, compressed or exposed in another way than the in-distribution images is told
apart by that alone, and a detector's AUROC on it then says little (LSUN and ImageNet, resized, of
the literature are such sets). Each statistic here is one number an image; `audit` gives the AUROC
of each on each set, of the metric code that judges the detector.

Legend: B images of H x W pixels and C channels, Y their luma, 0..255 (Rec. 601, as Pillow's
mode L). Colour statistics are of RGB images only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from dali_pipes.eval_loader import ImageSource
from eval.intervals import Interval
from eval.metrics import auroc_interval

ALONE = 0.9
"""AUROC from which a statistic alone tells a set apart. The detectors of the literature lie at 0.9
and above on the sets that are called easy: a number of an image that gets there would pass for one
of them."""
CHANCE = 0.5
CHUNK_BYTES = 1 << 18
"""Of images that are looked at together, so that they and what is computed of them stay in the
cache."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
JPEG_PX = 8
ZERO_COEFFICIENT = 1.0
"""Rounding pixels to whole levels moves a zero DCT coefficient by 0.3 (standard deviation)."""
HIGH_FREQUENCY = 0.25
"""Cycles a pixel; half of what the pixels can hold, and what an image has that was enlarged to
twice its size."""

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Pixels:
    """Some images by channel, and their luma."""

    planes: NDArray[np.uint8]
    """[C, B, H, W]"""
    luma: Float
    """[B, H, W]"""

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> Pixels:
        """Of uint8 [B, H, W, C]."""
        planes = np.ascontiguousarray(np.moveaxis(images, 3, 0))
        levels = planes.astype(np.float32)
        return cls(planes, levels[0] if len(levels) == 1 else np.tensordot(LUMA, levels, 1))


def brightness(pixels: Pixels) -> Float:
    """Mean of Y."""
    return pixels.luma.mean((1, 2))


def contrast(pixels: Pixels) -> Float:
    """Standard deviation of Y."""
    return pixels.luma.std((1, 2))


def sharpness(pixels: Pixels) -> Float:
    """Variance of the Laplacian of Y (four neighbours), inside the border (Pech-Pacheco, 2000)."""
    y = pixels.luma
    ahead_and_behind = y[:, 2:, 1:-1] + y[:, :-2, 1:-1] + y[:, 1:-1, 2:] + y[:, 1:-1, :-2]
    return (ahead_and_behind - 4 * y[:, 1:-1, 1:-1]).var((1, 2))


def high_frequencies(pixels: Pixels) -> Float:
    """Share of the energy of Y at `HIGH_FREQUENCY` or above along either axis, in [0, 1].

    Enlarged images have little, images that were made small without a filter have much. The mean is
    taken off and a Hann window laid on first: left edges seldom meet right ones. Flat images: 0.
    """
    y = pixels.luma
    height, width = y.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectrum = np.fft.rfft2((y - y.mean((1, 2), keepdims=True)) * window)
    energy = spectrum.real**2 + spectrum.imag**2
    # Of the other half of the plane, which rfft2 leaves out, all but two columns mirror these.
    columns = np.arange(width // 2 + 1)
    energy *= np.where((columns == 0) | (2 * columns == width), 1, 2)
    rows_high = np.abs(np.fft.fftfreq(height)) >= HIGH_FREQUENCY
    columns_high = np.fft.rfftfreq(width) >= HIGH_FREQUENCY
    high = rows_high[:, None] | columns_high
    return _share(energy[:, high].sum(1), energy.sum((1, 2)))


def jpeg_grid(pixels: Pixels) -> Float:
    """How much more DCT coefficients are zero in JPEG's 8 x 8 blocks than in blocks between them.

    JPEG rounds most coefficients of its blocks to zero, which shows only where an image is cut into
    the same blocks (the idea of JPEG detection: Fan and de Queiroz, 2003). A block between, 4 px on
    along both axes, is held against the four that it lies in, which show the same. In [-1, 1]; near
    0 where there is no grid, as in images that were resized since.
    """
    on_grid = _zeros(pixels.luma)
    between = _zeros(pixels.luma[:, JPEG_PX // 2 :, JPEG_PX // 2 :])
    rows, columns = on_grid.shape[1] - 1, on_grid.shape[2] - 1
    corners = [on_grid[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    return (sum(corners) / 4 - between[:, :rows, :columns]).mean((1, 2))


def red_green(pixels: Pixels) -> Float:
    """Mean of R - G, the red-green opponent colour."""
    red, green, _ = _mean_colour(pixels)
    return red - green


def yellow_blue(pixels: Pixels) -> Float:
    """Mean of (R + G) / 2 - B, the yellow-blue opponent colour."""
    red, green, blue = _mean_colour(pixels)
    return (red + green) / 2 - blue


def saturation(pixels: Pixels) -> Float:
    """Mean of the largest less the smallest channel of a pixel; 0 of gray images."""
    return (pixels.planes.max(0) - pixels.planes.min(0)).mean((1, 2), dtype=np.float32)


def black_border(pixels: Pixels) -> Float:
    """Share of the outermost pixels that are pure black, in [0, 1]."""
    return _of_border((pixels.planes == 0).all(0))


def white_border(pixels: Pixels) -> Float:
    """Share of the outermost pixels that are pure white, in [0, 1]."""
    return _of_border((pixels.planes == 255).all(0))


@dataclass(frozen=True)
class Statistic:
    """One number an image."""

    label: str
    """What a reader sees."""
    of: Callable[[Pixels], Float]
    """[B] of B images."""
    channels: int = 1
    """Fewest channels that it is defined for."""
    side_px: int = 3
    """Smallest height and width that it is defined for."""


STATISTICS: Mapping[str, Statistic] = {
    "brightness": Statistic("mean brightness", brightness),
    "contrast": Statistic("contrast", contrast),
    "sharpness": Statistic("sharpness", sharpness),
    "high-frequencies": Statistic("share of high frequencies", high_frequencies),
    "jpeg-grid": Statistic("JPEG blockiness", jpeg_grid, side_px=2 * JPEG_PX),
    "red-green": Statistic("mean of red against green", red_green, channels=3),
    "yellow-blue": Statistic("mean of yellow against blue", yellow_blue, channels=3),
    "saturation": Statistic("colour saturation", saturation, channels=3),
    "black-border": Statistic("share of black in the border", black_border),
    "white-border": Statistic("share of white in the border", white_border),
}
"""Key in results.json -> what it is. The size that images had before they were resized would be
another; shard sets do not keep it."""


def statistics(images: ImageSource) -> dict[str, NDArray[np.float32]]:
    """Every statistic that is defined for these images: key -> float32 [N], in id order."""
    count = len(images)
    first = images.read(np.arange(1))
    _, height, width, channels = first.shape
    defined = {
        key: statistic
        for key, statistic in STATISTICS.items()
        if channels >= statistic.channels and min(height, width) >= statistic.side_px
    }
    found = {key: np.empty(count, np.float32) for key in defined}
    step = max(1, CHUNK_BYTES // first.nbytes)
    for start in range(0, count, step):
        ids = np.arange(start, min(start + step, count))
        pixels = Pixels.of(images.read(ids))
        for key, statistic in defined.items():
            found[key][ids] = statistic.of(pixels)
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
    """
    normal = statistics(in_dist_test)
    found = {}
    for name, images in ood.items():
        other = statistics(images)
        found[name] = {key: _either_way(normal[key], other[key]) for key in normal}
    return found


def tell_apart(
    shortcuts: Mapping[str, Mapping[str, Interval]], detector: Mapping[str, float]
) -> list[str]:
    """A warning for each set that a single statistic tells apart (see `is_shortcut`).

    Args:
        shortcuts: what `audit` found.
        detector: set -> AUROC of the detector, in [0, 1].
    """
    warnings = []
    for name, of_set in shortcuts.items():
        key, best = max(of_set.items(), key=lambda item: item[1]["value"])
        if is_shortcut(best, detector[name]):
            auroc = (
                f"AUROC {100 * best['value']:.1f} %, the detector's {100 * detector[name]:.1f} %"
            )
            warnings.append(f"{name} can be told apart by {STATISTICS[key].label} alone ({auroc})")
    return warnings


def is_shortcut(statistic: Interval, detector: float) -> bool:
    """Whether a statistic tells a set apart as a detector does.

    It does with an AUROC of `ALONE`, or with one that is above chance beyond doubt and as high as
    the detector's.
    """
    as_good = statistic["value"] >= detector and statistic["low"] > CHANCE
    return as_good or statistic["value"] >= ALONE


def _either_way(in_dist: Float, ood: Float) -> Interval:
    found = auroc_interval(in_dist, ood)
    return found if found["value"] >= CHANCE else auroc_interval(-in_dist, -ood)


def _zeros(luma: Float) -> Float:
    """Share of zeros among the DCT coefficients of each 8 x 8 block: [B, H // 8, W // 8]."""
    count, height, width = luma.shape
    rows, columns = height // JPEG_PX, width // JPEG_PX
    blocks = luma[:, : rows * JPEG_PX, : columns * JPEG_PX]
    blocks = blocks.reshape(count, rows, JPEG_PX, columns, JPEG_PX)
    coefficients = dctn(blocks, axes=(2, 4), norm="ortho")
    return (np.abs(coefficients) < ZERO_COEFFICIENT).mean((2, 4), dtype=np.float32)


def _mean_colour(pixels: Pixels) -> Float:
    """Of R, G, B: [3, B]."""
    return pixels.planes.mean((2, 3), dtype=np.float32)


def _of_border(marked: NDArray[np.bool_]) -> Float:
    """Share of the outermost pixels that are marked: bool [B, H, W] -> [B]."""
    _, height, width = marked.shape
    count = marked.sum((1, 2)) - marked[:, 1:-1, 1:-1].sum((1, 2))
    return (count / (2 * (height + width) - 4)).astype(np.float32)


def _share(part: Float, whole: Float) -> Float:
    """`part / whole`, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
