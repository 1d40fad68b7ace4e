"""Permutations of the equal squares of a grid, or of all pixels.

Legend: B views of one size, C channels, s the side of a view in pixels. Squares are numbered row by
row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dali_pipes.shifts.shift import Params, gather_pixels, pixel_numbers
from shards.errors import UserError

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode
    from torch import Tensor

CUTS = np.array([[2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]], np.int32)
"""The orders of the four squares of a 2 x 2 grid that swap the top and bottom halves, the left and
right halves, or both."""


def draw_order(
    rng: np.random.Generator, batch: int, side_px: int, *, grid: int | None = None
) -> Params:
    """Draw random orders of the squares of a grid.

    All orders are equally likely, including the order that changes nothing.

    Args:
        rng: The random generator.
        batch: The number of views, B.
        side_px: The side of the views, in pixels.
        grid: The number of squares along a side. Without it, each pixel is a square.

    Returns:
        {"order": int32 [B, grid * grid]}. Square i of the result is square order[i] of the view.

    Raises:
        UserError: The side cannot be cut into `grid` equal parts.
    """
    grid = grid or side_px
    _check_cut(side_px, grid)
    order = np.tile(np.arange(grid * grid, dtype=np.int32), (batch, 1))
    return {"order": rng.permuted(order, axis=1)}


def draw_cuts(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Draw one of the orders in `CUTS` for each view, all equally likely.

    Returns:
        {"order": int32 [B, 4]}.

    Raises:
        UserError: The side of the views is odd.
    """
    _check_cut(side_px, 2)
    return {"order": CUTS[rng.integers(0, len(CUTS), batch)]}


def _check_cut(side_px: int, grid: int) -> None:
    if side_px % grid:
        raise UserError(
            f"a side of {side_px} px cannot be cut into {grid} equal parts: choose other "
            f"negatives, or a multiple of {grid} (views.global_px and views.local_px; with "
            "views.shift_space source the side of the images)"
        )


def permute_graph(
    view: DataNode, params: Mapping[str, DataNode], side_px: int, *, grid: int | None = None
) -> DataNode:
    """Put the squares of a view in the order `params["order"]`, in a DALI graph.

    All channels get the same order. DALI reorders the squares as if they were frames of a video.
    """
    from nvidia.dali import fn

    grid = grid or side_px
    square_px = side_px // grid
    view = fn.reshape(view, shape=[grid, square_px, grid, square_px, -1], layout="")
    view = fn.transpose(view, perm=[0, 2, 1, 3, 4])
    view = fn.reshape(view, shape=[grid * grid, square_px, square_px, -1], layout="FHWC")
    view = fn.sequence_rearrange(view, new_order=params["order"])
    view = fn.reshape(view, shape=[grid, grid, square_px, square_px, -1], layout="")
    view = fn.transpose(view, perm=[0, 2, 1, 3, 4])
    return fn.reshape(view, shape=[side_px, side_px, -1], layout="HWC")


def permute_tensor(
    views: Tensor, params: Mapping[str, Tensor], black: Tensor, *, grid: int | None = None
) -> Tensor:
    """Put the squares of each view in the order `params["order"]`, with torch."""
    side_px = views.shape[-1]
    grid = grid or side_px
    square_px = side_px // grid
    numbers = pixel_numbers(views).view(grid, square_px, grid, square_px)
    squares = numbers.transpose(1, 2).flatten(0, 1)
    ordered = squares[params["order"].long()]  # [B, grid * grid, square_px, square_px]
    return gather_pixels(views, ordered.unflatten(1, (grid, grid)).transpose(2, 3).flatten(1))
