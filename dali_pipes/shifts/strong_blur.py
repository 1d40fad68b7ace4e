"""A Gaussian blur that is much stronger than the blur of positive views.

Legend: B views of one size, C channels, s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dali_pipes.shifts.shift import Params

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode
    from torch import Tensor

BLUR_SIGMA = (1 / 32, 1 / 12)
"""Range of the standard deviation, as a fraction of the side. The paper has no such shift, so the
range is our choice: 8 to 21 px of a view of 256 px, whose positives have at most 2 px."""

BLUR_MOST_PX = 28.0
"""Largest standard deviation in pixels. DALI's window on a GPU ends at 85 px of an RGB view."""


def draw_blur(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Draw the standard deviation in pixels, uniform in `BLUR_SIGMA`: float32 [B]."""
    sigma = rng.uniform(*BLUR_SIGMA, batch) * side_px
    return {"sigma_px": np.minimum(sigma, BLUR_MOST_PX).astype(np.float32)}


def blur_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Blur a view with a Gaussian that is cut off at three standard deviations.

    Beyond its edges the view continues mirrored about the centre of its edge pixels.
    """
    from nvidia.dali import fn

    return fn.gaussian_blur(view, sigma=params["sigma_px"])


def blur_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Blur views as `blur_graph` does, by a matrix product for each direction."""
    along = _blur_matrix(params["sigma_px"], views.shape[-1])[:, None]
    blurred = along @ views.to(along.dtype) @ along.mT
    return (blurred if views.is_floating_point() else blurred.round()).to(views.dtype)


def _blur_matrix(sigma_px: Tensor, side_px: int) -> Tensor:
    """Return [B, s, s]: row i has the weight of each pixel of a line in pixel i of its blur.

    A pixel counts once itself and once for its mirror image beyond each of the two edges. The edge
    pixel has no mirror image beyond its own edge. The blur ends before a second reflection.
    """
    import torch

    sigma = sigma_px[:, None, None]
    place = torch.arange(side_px, device=sigma_px.device)
    to, of = place[:, None], place[None, :]
    beyond = 2 * side_px
    matrix = torch.zeros((), device=sigma_px.device)
    for distance in (
        (to - of).abs(),
        torch.where(of > 0, to + of, beyond),
        torch.where(of < side_px - 1, 2 * (side_px - 1) - to - of, beyond),
    ):
        weight = torch.exp(-((distance / sigma) ** 2) / 2)
        matrix = matrix + torch.where(distance <= torch.ceil(3 * sigma), weight, 0)
    return matrix / matrix.sum(-1, keepdim=True)
