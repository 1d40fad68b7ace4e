"""The kernel of Pillow's Gaussian blur.

Pillow blurs with three box filters of fractional width. Each box has 2 l + 1 pixels of full weight,
and one more pixel of weight a at each end. l and a are chosen such that the three filters together
have the requested variance. The convolution of the three boxes is smooth. It has exactly this
variance for any standard deviation, even if the deviation is much smaller than a pixel. Such small
deviations are usual when the blur acts on a small input image before it is enlarged.
"""

from __future__ import annotations

import numpy as np

BOXES = 3

NEGLIGIBLE = 1e-4
"""The limit below which a weight of a kernel is set to 0."""


def blur_kernels(sigma_px: np.ndarray) -> np.ndarray:
    """Return the blur kernels for standard deviations in pixels.

    A deviation of 0 gives a kernel that changes nothing. Each kernel is the same, to the last bit,
    whatever other deviations are in the array: all sums add the weights one after the other, so the
    padding with zeros changes no sum.

    Args:
        sigma_px: The standard deviations, of any shape [...].

    Returns:
        float64 [..., n]: kernels that sum to 1, padded with zeros to the width n of the widest.
    """
    variance = np.square(sigma_px.astype(np.float64)) / BOXES
    whole = np.floor((np.sqrt(12 * variance + 1) - 1) / 2)  # l
    end = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    end /= 6 * (variance - (whole + 1) ** 2)  # a
    reach = int(whole.max(initial=0)) + 1
    distances = [abs(place) for place in range(-reach, reach + 1)]
    box = [np.where(d <= whole, 1.0, np.where(d == whole + 1, end, 0.0)) for d in distances]
    kernel = box
    for _ in range(BOXES - 1):
        kernel = _convolved(kernel, box)
    kernel = _divided(kernel, _sum(kernel))
    kernel = [np.where(weight < NEGLIGIBLE, 0.0, weight) for weight in kernel]
    while len(kernel) > 1 and not kernel[0].any():
        kernel = kernel[1:-1]
    return np.stack(_divided(kernel, _sum(kernel)), axis=-1)


def _convolved(left: list[np.ndarray], right: list[np.ndarray]) -> list[np.ndarray]:
    result = [np.zeros_like(left[0]) for _ in range(len(left) + len(right) - 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            result[i + j] = result[i + j] + a * b
    return result


def _sum(weights: list[np.ndarray]) -> np.ndarray:
    total = np.zeros_like(weights[0])
    for weight in weights:
        total = total + weight
    return total


def _divided(weights: list[np.ndarray], by: np.ndarray) -> list[np.ndarray]:
    return [weight / by for weight in weights]
