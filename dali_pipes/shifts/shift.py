"""The parts of a shifting transformation: a function that draws its parameters, and two forms.

The parameters are drawn on the host. The form `graph` is for the view engine `dali`, and the form
`tensor` is for the view engine `product`. Both forms give the same pixels. A form imports DALI or
torch only when it is called, because command lines are checked before these packages are imported.

Legend: B views of one size, C channels, s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode
    from torch import Tensor

Params = Mapping[str, np.ndarray]
"""The parameters of B views: name -> array [B, ...] of int32 or float32."""

TURNS = "turns"
"""The name of the parameter for the number of counter-clockwise quarter turns, int32 [B], 0..3. A
shift with this parameter does nothing except these turns. So an engine may apply the turns itself,
without calling the shift."""


@dataclass(frozen=True)
class Shift:
    """A shifting transformation of a square view."""

    draw: Callable[[np.random.Generator, int, int], Params]
    """A function that draws new parameters for B views: (random generator, B, s) -> parameters."""
    graph: Callable[[DataNode, Mapping[str, DataNode], int], DataNode]
    """A function that adds the transformation to a DALI graph: (view uint8 [s, s, C], parameters on
    the CPU, s) -> view uint8 [s, s, C]. The view is on the CPU or the GPU. The pipeline must have
    conditionals enabled."""
    tensor: Callable[[Tensor, Mapping[str, Tensor], Tensor], Tensor]
    """A function that transforms views with torch: (views, parameters, black) -> views. The views
    are [B, C, s, s] of a float dtype or uint8, the parameters are on the device of the views, and
    `black`, [C] or [B, C], is the value of a black pixel. The result has the same shape and dtype.
    The input is not changed. If nothing has to be done, the result is the input itself."""
    early: bool = False
    """True if the shift acts on the resized crop, before colour jitter and blur. The flip still
    comes before the shift, but this changes no distribution: a flip followed by a rotation equals
    the opposite rotation followed by the flip, and both angles are equally likely."""


def draw_nothing(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Return an empty dictionary, because the identity has no parameters."""
    return {}


def identity_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Return the view unchanged."""
    return view


def identity_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Return the views unchanged."""
    return views


def pixel_numbers(views: Tensor) -> Tensor:
    """Return the numbers of the pixels of a view, int64 [s, s]. They count from 0, row by row."""
    import torch

    side_px = views.shape[-1]
    return torch.arange(side_px * side_px, device=views.device).view(side_px, side_px)


def gather_pixels(views: Tensor, numbers: Tensor) -> Tensor:
    """Rearrange the pixels of views: pixel i of result b is pixel `numbers[b, i]` of view b.

    Args:
        views: The views, [B, C, s, s].
        numbers: The numbers of the pixels, int64 [B, s * s]. Pixels are numbered row by row.

    Returns:
        The rearranged views, [B, C, s, s].
    """
    pixels = views.flatten(2)
    return pixels.gather(2, numbers[:, None].expand_as(pixels)).view_as(views)
