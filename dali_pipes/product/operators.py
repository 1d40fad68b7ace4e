"""A table of matrices that resize and blur one axis of a crop, for each crop length and each blur.

Legend: s the side of a view, K the longest crop of the table, both in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dali_pipes.blur import blur_kernels

BLUR_STEPS = 64
"""The number of steps into which the range of blurs is divided, from no blur to the strongest blur.
A drawn standard deviation is rounded to the nearest step. The error is at most 1/128 of the largest
deviation: 0.016 px for the paper's 2 px."""


class OperatorTable:
    """A table of matrices [s, K], which resize one axis of a crop to s pixels and then blur it.

    The axis of a crop has n <= K pixels, and is padded to K pixels. The columns of a matrix for the
    padding are zero.
    """

    def __init__(
        self,
        side_px: int,
        lengths_px: tuple[int, int],
        sigma_max_px: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Compute the matrices.

        Args:
            side_px: The side s of the views, in pixels.
            lengths_px: The lengths of the shortest and of the longest crop, in pixels.
            sigma_max_px: The standard deviation of the strongest blur, in pixels of the view.
            dtype: The dtype of the matrices.
            device: The device of the matrices.
        """
        self._shortest, longest = lengths_px
        self.padded_px = -(-longest // 8) * 8
        """The length K of padded crops: the length of the longest crop, rounded up to a multiple of
        8, because matrix units are faster with such lengths."""
        self._sigma_step_px = sigma_max_px / BLUR_STEPS
        lengths = range(self._shortest, longest + 1)
        self._lengths = len(lengths)
        resizes = np.zeros((self._lengths, side_px, self.padded_px))
        for matrix, length in zip(resizes, lengths, strict=True):
            matrix[:, :length] = cubic_matrix(length, side_px)
        self._matrices = torch.empty((BLUR_STEPS + 1, *resizes.shape), dtype=dtype, device=device)
        for step in range(BLUR_STEPS + 1):
            blur = blur_matrix(side_px, step * self._sigma_step_px)
            self._matrices[step] = torch.from_numpy(blur @ resizes)

    def rows(self, length_px: np.ndarray, sigma_px: np.ndarray) -> np.ndarray:
        """Return the indexes, in `matrices`, of the matrices for given crop lengths and blurs.

        Args:
            length_px: The crop lengths in pixels, integers [...].
            sigma_px: The standard deviations of the blurs in pixels, [...].

        Returns:
            int64 [...].
        """
        if length_px.size:
            assert length_px.min() >= self._shortest
            assert length_px.max() < self._shortest + self._lengths
        blur = np.rint(sigma_px / self._sigma_step_px).astype(np.int64)
        return blur * self._lengths + (length_px - self._shortest)

    @property
    def matrices(self) -> Tensor:
        """All matrices of the table, [number of matrices, s, K]."""
        return self._matrices.flatten(0, 1)


def cubic_matrix(length_px: int, side_px: int) -> np.ndarray:
    """Return the matrix with which Pillow's bicubic filter resizes one axis.

    The filter is a cubic convolution (a = -0.5) with antialiasing: it is 4 pixels wide, measured in
    pixels of the input or of the output, whichever are larger. Weights beyond the border are left
    out, and the other weights are scaled to sum to 1.

    Returns:
        float64 [side_px, length_px].
    """
    scale = length_px / side_px
    width = max(scale, 1.0)
    centre = (np.arange(side_px)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(length_px) + 0.5 - centre) / width
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdims=True)


def blur_matrix(side_px: int, sigma_px: float) -> np.ndarray:
    """Return the matrix with which Pillow's Gaussian blur acts on one axis.

    Edge pixels are repeated beyond the border.

    Returns:
        float64 [side_px, side_px].
    """
    kernel = blur_kernels(np.array(sigma_px))
    reach = len(kernel) // 2
    matrix = np.zeros((side_px, side_px))
    row = np.arange(side_px)
    for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        np.add.at(matrix, (row, np.clip(row + offset, 0, side_px - 1)), weight)
    return matrix
