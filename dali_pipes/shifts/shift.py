"""The parts of a shifting transformation: a distribution of its parameters, and two forms.

The parameters are drawn on the host. The form `graph` is for the view engine `dali`, the form
`tensor` for the view engine `product`; both give the same pixels. Each form imports DALI or torch
when it is called, because command lines are checked with the names of the transformations before
either is imported.

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
"""The parameters of B views by name, each [B, ...], int32 or float32."""

TURNS = "turns"
"""The name of a parameter that counts quarter turns counter-clockwise: int32 [B], 0..3. A shift
that has it does nothing but turn, so an engine may turn in its own way and not call the shift."""


@dataclass(frozen=True)
class Shift:
    """A transformation R of a square view."""

    draw: Callable[[np.random.Generator, int, int], Params]
    """(rng, B, s) -> parameters, drawn anew for every view."""
    graph: Callable[[DataNode, Mapping[str, DataNode], int], DataNode]
    """(view uint8 HWC, parameters on the CPU, s) -> view uint8 HWC. The view is on the CPU or the
    GPU, in a pipeline with conditionals."""
    tensor: Callable[[Tensor, Mapping[str, Tensor], Tensor], Tensor]
    """(views [B, C, s, s] of any float dtype or uint8, parameters on their device, black) -> views
    of the same shape and dtype. `black`, [C] or [B, C], is the value of a black pixel. The input is
    not changed. The result is the input itself where nothing has to be done."""
    early: bool = False
    """True if the shift acts on the resized crop, before colour jitter and blur. Only the flip
    comes before it. That makes no difference: to mirror and then turn by an angle is to turn by the
    opposite angle and then mirror, and both angles are equally likely."""


def draw_nothing(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Return no parameters: the identity has none."""
    return {}


def identity_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Return the view as it is."""
    return view


def identity_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Return the views as they are."""
    return views


def pixel_numbers(views: Tensor) -> Tensor:
    """Return the number of each pixel of a view, row by row: int64 [s, s]."""
    import torch

    side_px = views.shape[-1]
    return torch.arange(side_px * side_px, device=views.device).view(side_px, side_px)


def gather_pixels(views: Tensor, numbers: Tensor) -> Tensor:
    """Return views [B, C, s, s] whose pixel i is pixel numbers[:, i] of `views`.

    `numbers` is int64 [B, s * s]; pixels are numbered row by row.
    """
    pixels = views.flatten(2)
    return pixels.gather(2, numbers[:, None].expand_as(pixels)).view_as(views)
