"""Rotations of a view: by quarter turns, or by any angle with black corners.

Legend: B views of one size, C channels, s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dali_pipes.shifts.shift import TURNS, Params, gather_pixels, pixel_numbers

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode
    from torch import Tensor


def draw_turns(rng: np.random.Generator, batch: int, side_px: int, *, fewest: int) -> Params:
    """Draw the number of quarter turns of each view, from `fewest` to 3, all equally likely.

    Returns:
        {`TURNS`: int32 [B]}.
    """
    return {TURNS: rng.integers(fewest, 4, batch, dtype=np.int32)}


def turn_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Turn a view by quarter turns in a DALI graph, as `numpy.rot90(view, turns)` does."""
    from nvidia.dali import fn, types

    turns = params[TURNS]
    if (turns & 1) == 1:
        view = fn.reshape(fn.transpose(view, perm=[1, 0, 2], transpose_layout=False), layout="HWC")
    return fn.flip(
        view,
        horizontal=fn.cast(turns >= 2, dtype=types.INT32),
        vertical=fn.cast((turns >= 1) & (turns <= 2), dtype=types.INT32),
    )


def turn_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Turn each view by quarter turns, as `torch.rot90(view, turns, (1, 2))` does."""
    import torch

    numbers = pixel_numbers(views)
    turned = torch.stack([numbers.rot90(turns).flatten() for turns in range(4)])
    return gather_pixels(views, turned[params[TURNS].long()])


def draw_angle(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Draw the counter-clockwise angle of each view, uniformly from 0 to 360 degrees.

    Returns:
        {"angle_deg": float32 [B]}.
    """
    return {"angle_deg": rng.uniform(0, 360, batch).astype(np.float32)}


def rotate_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Rotate a view in a DALI graph, as Pillow's `rotate` does.

    Each pixel takes the value of the nearest pixel of the view, and corners become black. The
    result may differ from Pillow's where two pixels are equally near.
    """
    from nvidia.dali import fn, types

    return fn.rotate(
        view,
        angle=params["angle_deg"],
        interp_type=types.INTERP_NN,
        fill_value=0,
        keep_size=True,
    )


def rotate_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """Rotate views with torch, as `rotate_graph` does.

    The position of each pixel of the result is rotated back into the view. The pixel takes the
    value of the nearest pixel of the view, or `black` if the position is outside the view.
    """
    import torch

    side_px = views.shape[-1]
    angle = torch.deg2rad(params["angle_deg"])[:, None, None]
    centre = (side_px - 1) / 2
    offset = torch.arange(side_px, device=views.device) - centre
    rows, columns = offset[:, None], offset[None, :]
    left = torch.round(columns * angle.cos() - rows * angle.sin() + centre).long()
    top = torch.round(columns * angle.sin() + rows * angle.cos() + centre).long()
    inside = (left >= 0) & (left < side_px) & (top >= 0) & (top < side_px)
    numbers = torch.where(inside, top * side_px + left, 0)
    turned = gather_pixels(views, numbers.flatten(1))
    return torch.where(inside[:, None], turned, black.to(views.dtype)[..., None, None])
