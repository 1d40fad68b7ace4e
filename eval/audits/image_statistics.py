"""Trivial statistics of images: one number per image that ignores what the image shows.

Legend: B images of H x W pixels and C channels. Y is the luma of the pixels, in 0..255 (Rec. 601,
as in Pillow's mode L).

Colour statistics are defined only for RGB images. Statistics of the original size use the size that
an image had in its source, before it was resized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from dali_pipes.batch import LUMA

JPEG_PX = 8
"""Side in pixels of the blocks of JPEG."""
ZERO_COEFFICIENT = 1.0
"""Magnitude below which a DCT coefficient counts as zero. When pixels are rounded to whole levels,
a coefficient of zero changes by 0.3 (standard deviation)."""
HIGH_FREQUENCY = 0.25
"""Lowest frequency that counts as high, in cycles per pixel. It is half of the highest frequency
that pixels can hold. An image that was enlarged to twice its size has only lower frequencies."""

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """A batch of images: their channels, their luma, and their original sizes."""

    planes: NDArray[np.uint8]
    """Channels of the images, uint8 [C, B, H, W]."""
    luma: Float
    """Luma Y of the images, float32 [B, H, W]."""
    source_px: NDArray[np.int64] | None
    """Original heights and widths of the images in pixels, int64 [B, 2]. None if they are not
    known."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], source_px: NDArray[np.int64] | None) -> Batch:
        """Return the batch of images.

        Args:
            images: uint8 [B, H, W, C].
            source_px: original heights and widths in pixels, int64 [B, 2]. None if they are not
                known.
        """
        planes = np.ascontiguousarray(np.moveaxis(images, 3, 0))
        levels = planes.astype(np.float32)
        luma = (
            levels[0] if len(levels) == 1 else np.tensordot(np.array(LUMA, np.float32), levels, 1)
        )
        return cls(planes, luma, source_px)


def brightness(batch: Batch) -> Float:
    """Return the mean of the luma Y of each image, float32 [B]."""
    return batch.luma.mean((1, 2))


def contrast(batch: Batch) -> Float:
    """Return the standard deviation of the luma Y of each image, float32 [B]."""
    return batch.luma.std((1, 2))


def sharpness(batch: Batch) -> Float:
    """Return the variance of the Laplacian of the luma Y of each image (Pech-Pacheco, 2000).

    The Laplacian uses four neighbours. Pixels at the border, which lack a neighbour, are left out.

    Returns:
        float32 [B].
    """
    y = batch.luma
    ahead_and_behind = y[:, 2:, 1:-1] + y[:, :-2, 1:-1] + y[:, 1:-1, 2:] + y[:, 1:-1, :-2]
    return (ahead_and_behind - 4 * y[:, 1:-1, 1:-1]).var((1, 2))


def high_frequencies(batch: Batch) -> Float:
    """Return the share of the luma's energy that is at high frequencies along either axis.

    Enlarged images have a small share. Images that were reduced without a filter have a large
    share. Frequencies of `HIGH_FREQUENCY` or above are high. First the mean is subtracted and a
    Hann window is applied, because the left and right edges of an image seldom match. The share of
    a flat image is 0.

    Returns:
        float32 [B], in [0, 1].
    """
    y = batch.luma
    height, width = y.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectrum = np.fft.rfft2((y - y.mean((1, 2), keepdims=True)) * window)
    energy = spectrum.real**2 + spectrum.imag**2
    # rfft2 leaves out half of the frequencies. Each column except the first, and the last if the
    # width is even, stands for a second column with the same energy.
    columns = np.arange(width // 2 + 1)
    energy *= np.where((columns == 0) | (2 * columns == width), 1, 2)
    rows_high = np.abs(np.fft.fftfreq(height)) >= HIGH_FREQUENCY
    columns_high = np.fft.rfftfreq(width) >= HIGH_FREQUENCY
    high = rows_high[:, None] | columns_high
    return _share(energy[:, high].sum(1), energy.sum((1, 2)))


def jpeg_grid(batch: Batch) -> Float:
    """Return how many more DCT coefficients are zero in JPEG's 8 x 8 blocks than in other blocks.

    JPEG rounds most coefficients of its blocks to zero. This is visible only if the image is cut
    into the same blocks (Fan and de Queiroz, 2003). Four blocks of JPEG meet at a corner. The share
    of zeros in these four blocks is compared with the share in the block that is centred on the
    corner and thus shows the same content. The difference is near 0 if JPEG's grid is not visible,
    for example in images that were resized after their compression.

    Returns:
        Mean difference of the two shares in each image, float32 [B], in [-1, 1].
    """
    on_grid = _zeros(batch.luma)
    between = _zeros(batch.luma[:, JPEG_PX // 2 :, JPEG_PX // 2 :])
    rows, columns = on_grid.shape[1] - 1, on_grid.shape[2] - 1
    corners = [on_grid[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    return (sum(corners) / 4 - between[:, :rows, :columns]).mean((1, 2))


def red_green(batch: Batch) -> Float:
    """Return the mean of R - G (the red-green opponent colour) of each image, float32 [B]."""
    red, green, _ = _mean_colour(batch)
    return red - green


def yellow_blue(batch: Batch) -> Float:
    """Return the mean of (R + G) / 2 - B (the yellow-blue opponent colour) of each image.

    Returns:
        float32 [B].
    """
    red, green, blue = _mean_colour(batch)
    return (red + green) / 2 - blue


def saturation(batch: Batch) -> Float:
    """Return the colour saturation of each image, float32 [B].

    It is the difference between the largest and the smallest channel, averaged over the pixels. A
    gray image has 0.
    """
    return (batch.planes.max(0) - batch.planes.min(0)).mean((1, 2), dtype=np.float32)


def black_border(batch: Batch) -> Float:
    """Return the share of each image's outermost pixels that are pure black.

    Returns:
        float32 [B], in [0, 1].
    """
    return _of_border((batch.planes == 0).all(0))


def white_border(batch: Batch) -> Float:
    """Return the share of each image's outermost pixels that are pure white.

    Returns:
        float32 [B], in [0, 1].
    """
    return _of_border((batch.planes == 255).all(0))


def original_size(batch: Batch) -> Float:
    """Return the original size of each image, the square root of its area in px: float32 [B]."""
    height, width = _of_source(batch)
    return np.sqrt(height * width).astype(np.float32)


def original_aspect(batch: Batch) -> Float:
    """Return the original aspect ratio of each image, width / height: float32 [B]."""
    height, width = _of_source(batch)
    return (width / height).astype(np.float32)


def _zeros(luma: Float) -> Float:
    """Return the share of zero DCT coefficients in each 8 x 8 block.

    Returns:
        float32 [B, H // 8, W // 8].
    """
    count, height, width = luma.shape
    rows, columns = height // JPEG_PX, width // JPEG_PX
    blocks = luma[:, : rows * JPEG_PX, : columns * JPEG_PX]
    blocks = blocks.reshape(count, rows, JPEG_PX, columns, JPEG_PX)
    coefficients = dctn(blocks, axes=(2, 4), norm="ortho")
    return (np.abs(coefficients) < ZERO_COEFFICIENT).mean((2, 4), dtype=np.float32)


def _mean_colour(batch: Batch) -> Float:
    """Return the means of R, G and B of each image, float32 [3, B]."""
    return batch.planes.mean((2, 3), dtype=np.float32)


def _of_border(marked: NDArray[np.bool_]) -> Float:
    """Return the share of each image's outermost pixels that are marked.

    Args:
        marked: bool [B, H, W].

    Returns:
        float32 [B], in [0, 1].
    """
    _, height, width = marked.shape
    count = marked.sum((1, 2)) - marked[:, 1:-1, 1:-1].sum((1, 2))
    return (count / (2 * (height + width) - 4)).astype(np.float32)


def _share(part: Float, whole: Float) -> Float:
    """Return `part / whole`. The result is 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _of_source(batch: Batch) -> NDArray[np.int64]:
    """Return the original heights and widths of the images in pixels, int64 [2, B]."""
    assert batch.source_px is not None
    return batch.source_px.T
