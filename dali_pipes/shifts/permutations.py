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
"""Orders of a 2 x 2 grid: top and bottom halves swapped, left and right halves swapped, both."""


def draw_order(
    rng: np.random.Generator, batch: int, side_px: int, *, grid: int | None = None
) -> Params:
    """Draw an order of the squares: square i of the result is square order[i] of the view.

    It is int32 [B, grid * grid]. All orders are equally likely, also the order that changes
    nothing. Without `grid`, each pixel is a square.

    Raises:
        UserError: the side cannot be cut into `grid` equal parts.
    """
    grid = grid or side_px
    _check_cut(side_px, grid)
    order = np.tile(np.arange(grid * grid, dtype=np.int32), (batch, 1))
    return {"order": rng.permuted(order, axis=1)}


def draw_cuts(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Draw one of `CUTS`, all equally likely: int32 [B, 4].

    Raises:
        UserError: the side is odd.
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
    """Reorder the squares as the frames of a sequence, all channels in the same order."""
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
    """Reorder the squares as `permute_graph` does."""
    side_px = views.shape[-1]
    grid = grid or side_px
    square_px = side_px // grid
    numbers = pixel_numbers(views).view(grid, square_px, grid, square_px)
    squares = numbers.transpose(1, 2).flatten(0, 1)
    ordered = squares[params["order"].long()]  # [B, grid * grid, square_px, square_px]
    return gather_pixels(views, ordered.unflatten(1, (grid, grid)).transpose(2, 3).flatten(1))
