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
"""The range of the standard deviation, as a fraction of the side of the view. The paper has no such
shift, so the range is our choice. For a view of 256 px it is 8 to 21 px, while the blur of positive
views is at most 2 px."""

BLUR_MOST_PX = 28.0
"""The largest standard deviation, in pixels. A larger one would need a larger window than DALI
allows on a GPU, which is 85 px for an RGB view."""


def draw_blur(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Draw the standard deviation of each view, uniformly in the range `BLUR_SIGMA`.

    Returns:
        {"sigma_px": float32 [B]}, in pixels, at most `BLUR_MOST_PX`.
    """
    sigma = rng.uniform(*BLUR_SIGMA, batch) * side_px
    return {"sigma_px": np.minimum(sigma, BLUR_MOST_PX).astype(np.float32)}


def blur_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Blur a view in a DALI graph, with a Gaussian that is cut off at three standard deviations.

    Beyond each edge, the view is continued as its mirror image about the centre of the edge pixels.
    """
    from nvidia.dali import fn

    return fn.gaussian_blur(view, sigma=params["sigma_px"])


def blur_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Blur views with torch, as `blur_graph` does, with one matrix product per direction."""
    along = _blur_matrix(params["sigma_px"], views.shape[-1])[:, None]
    blurred = along @ views.to(along.dtype) @ along.mT
    return (blurred if views.is_floating_point() else blurred.round()).to(views.dtype)


def _blur_matrix(sigma_px: Tensor, side_px: int) -> Tensor:
    """Return the matrices that blur a line of s pixels, one matrix per view.

    A pixel contributes to the blurred line itself, and with its mirror images beyond both edges. An
    edge pixel has no mirror image beyond its own edge. The Gaussian is too short to reach a second
    reflection.

    Returns:
        [B, s, s]: entry [b, i, j] is the weight of pixel j in pixel i of the blurred line.
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
