"""Trivial statistics: what one number can tell of an image, without looking at what it shows.

Legend: B images of H x W pixels and C channels, Y their luma, 0..255 (Rec. 601, as Pillow's
mode L). Colour statistics are of RGB images only; those of the size are of the image as it was in
its source, before it was resized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
JPEG_PX = 8
ZERO_COEFFICIENT = 1.0
"""Rounding pixels to whole levels moves a zero DCT coefficient by 0.3 (standard deviation)."""
HIGH_FREQUENCY = 0.25
"""Cycles a pixel; half of what the pixels can hold, and what an image has that was enlarged to
twice its size."""

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Some images by channel, their luma, and their sizes in their source."""

    planes: NDArray[np.uint8]
    """[C, B, H, W]"""
    luma: Float
    """[B, H, W]"""
    source_px: NDArray[np.int64] | None
    """Height and width, [B, 2], if they are known."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], source_px: NDArray[np.int64] | None) -> Batch:
        """Of uint8 [B, H, W, C]."""
        planes = np.ascontiguousarray(np.moveaxis(images, 3, 0))
        levels = planes.astype(np.float32)
        luma = levels[0] if len(levels) == 1 else np.tensordot(LUMA, levels, 1)
        return cls(planes, luma, source_px)


def brightness(batch: Batch) -> Float:
    """Mean of Y."""
    return batch.luma.mean((1, 2))


def contrast(batch: Batch) -> Float:
    """Standard deviation of Y."""
    return batch.luma.std((1, 2))


def sharpness(batch: Batch) -> Float:
    """Variance of the Laplacian of Y (four neighbours), inside the border (Pech-Pacheco, 2000)."""
    y = batch.luma
    ahead_and_behind = y[:, 2:, 1:-1] + y[:, :-2, 1:-1] + y[:, 1:-1, 2:] + y[:, 1:-1, :-2]
    return (ahead_and_behind - 4 * y[:, 1:-1, 1:-1]).var((1, 2))


def high_frequencies(batch: Batch) -> Float:
    """Share of the energy of Y at `HIGH_FREQUENCY` or above along either axis, in [0, 1].

    Enlarged images have little, images that were made small without a filter have much. The mean is
    taken off and a Hann window laid on first: left edges seldom meet right ones. Flat images: 0.
    """
    y = batch.luma
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


def jpeg_grid(batch: Batch) -> Float:
    """How much more DCT coefficients are zero in JPEG's 8 x 8 blocks than in blocks between them.

    JPEG rounds most coefficients of its blocks to zero, which shows only where an image is cut into
    the same blocks (the idea of JPEG detection: Fan and de Queiroz, 2003). A block between, 4 px on
    along both axes, is held against the four that it lies in, which show the same. In [-1, 1]; near
    0 where there is no grid, as in images that were resized since.
    """
    on_grid = _zeros(batch.luma)
    between = _zeros(batch.luma[:, JPEG_PX // 2 :, JPEG_PX // 2 :])
    rows, columns = on_grid.shape[1] - 1, on_grid.shape[2] - 1
    corners = [on_grid[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    return (sum(corners) / 4 - between[:, :rows, :columns]).mean((1, 2))


def red_green(batch: Batch) -> Float:
    """Mean of R - G, the red-green opponent colour."""
    red, green, _ = _mean_colour(batch)
    return red - green


def yellow_blue(batch: Batch) -> Float:
    """Mean of (R + G) / 2 - B, the yellow-blue opponent colour."""
    red, green, blue = _mean_colour(batch)
    return (red + green) / 2 - blue


def saturation(batch: Batch) -> Float:
    """Mean of the largest less the smallest channel of a pixel; 0 of gray images."""
    return (batch.planes.max(0) - batch.planes.min(0)).mean((1, 2), dtype=np.float32)


def black_border(batch: Batch) -> Float:
    """Share of the outermost pixels that are pure black, in [0, 1]."""
    return _of_border((batch.planes == 0).all(0))


def white_border(batch: Batch) -> Float:
    """Share of the outermost pixels that are pure white, in [0, 1]."""
    return _of_border((batch.planes == 255).all(0))


def original_size(batch: Batch) -> Float:
    """Side of a square of the area that the image had in its source, px."""
    height, width = _of_source(batch)
    return np.sqrt(height * width).astype(np.float32)


def original_aspect(batch: Batch) -> Float:
    """Width over height that the image had in its source."""
    height, width = _of_source(batch)
    return (width / height).astype(np.float32)


def _zeros(luma: Float) -> Float:
    """Share of zeros among the DCT coefficients of each 8 x 8 block: [B, H // 8, W // 8]."""
    count, height, width = luma.shape
    rows, columns = height // JPEG_PX, width // JPEG_PX
    blocks = luma[:, : rows * JPEG_PX, : columns * JPEG_PX]
    blocks = blocks.reshape(count, rows, JPEG_PX, columns, JPEG_PX)
    coefficients = dctn(blocks, axes=(2, 4), norm="ortho")
    return (np.abs(coefficients) < ZERO_COEFFICIENT).mean((2, 4), dtype=np.float32)


def _mean_colour(batch: Batch) -> Float:
    """Of R, G, B: [3, B]."""
    return batch.planes.mean((2, 3), dtype=np.float32)


def _of_border(marked: NDArray[np.bool_]) -> Float:
    """Share of the outermost pixels that are marked: bool [B, H, W] -> [B]."""
    _, height, width = marked.shape
    count = marked.sum((1, 2)) - marked[:, 1:-1, 1:-1].sum((1, 2))
    return (count / (2 * (height + width) - 4)).astype(np.float32)


def _share(part: Float, whole: Float) -> Float:
    """`part / whole`, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _of_source(batch: Batch) -> NDArray[np.int64]:
    """Heights and widths: [2, B]."""
    assert batch.source_px is not None
    return batch.source_px.T
