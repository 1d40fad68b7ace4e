"""The shifting transformations R: each makes of a view a negative one (paper, section 4.1).

Each is a law for its parameters, which are drawn on the host, and two ways to apply them: a DALI
graph of uint8 views (view engine `dali`) and torch operations on finished views (view engine
`product`). The two give the same pixels.

To add one: an entry in `SHIFTS`. Its name is then a term of `negatives`, on either stream.

Legend: B views of one size, C channels, s their side in pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean

if TYPE_CHECKING:
    from nvidia.dali.data_node import DataNode

Params = Mapping[str, np.ndarray]
"""The parameters of B views by name, each [B, ...], int32 or float32."""

TURNS = "turns"
"""A shift with a parameter of this name is nothing but these quarter turns, counter-clockwise:
int32 [B], 0..3. An engine may fold them into its own work instead of applying the shift."""

BLUR_SIGMA = (1 / 32, 1 / 12)
"""Deviation of `blur`, as a fraction of the side. The paper has no such shift: the range is our
choice. It is 8 to 21 pixels of a view of 256, where the positives have up to 2."""

BLUR_MOST_PX = 28.0
"""Largest deviation: DALI's window on a GPU reaches 85 pixels of an RGB view."""


@dataclass(frozen=True)
class Shift:
    """A transformation R of a square view: the law of its parameters, and its two forms."""

    draw: Callable[[np.random.Generator, int, int], Params]
    """(rng, B, s) -> parameters, drawn anew for every view."""
    graph: Callable[[DataNode, Mapping[str, DataNode], int], DataNode]
    """(view uint8 HWC, parameters on the CPU, s) -> view uint8 HWC. The view is on the CPU or the
    GPU, in a pipeline with conditionals."""
    tensor: Callable[[Tensor, Mapping[str, Tensor], Tensor], Tensor]
    """(views [B, C, s, s] of any float dtype or uint8, parameters on their device, black: [C] or
    [B, C], the values of a black pixel) -> views of the same shape and dtype. The input is left as
    it is; the result may be the input itself where nothing changes."""
    early: bool = False
    """Whether the resized crop is shifted, before its colours change and it is blurred. The flip
    alone comes before it: mirrored, a turn by an angle is one by its opposite, as likely."""


def draw_nothing(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """The identity has no parameters."""
    return {}


def identity_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """The view as it is."""
    return view


def identity_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """The views as they are."""
    return views


# Quarter turns.


def draw_turns(rng: np.random.Generator, batch: int, side_px: int, *, fewest: int) -> Params:
    """From `fewest` to three quarter turns, each as likely."""
    return {TURNS: rng.integers(fewest, 4, batch, dtype=np.int32)}


def turn_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Equal to numpy.rot90(view, turns)."""
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
    """Equal to torch.rot90(view, turns, (1, 2)) of each view."""
    places = _places(views)
    sources = torch.stack([places.rot90(turns).flatten() for turns in range(4)])
    return _gather(views, sources[params[TURNS].long()])


# Any angle.


def draw_angle(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Degrees counter-clockwise, uniform in 0..360."""
    return {"angle_deg": rng.uniform(0, 360, batch).astype(np.float32)}


def rotate_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Equal to Pillow's rotate, but for pixels whose source lies between two: nearest, black."""
    from nvidia.dali import fn, types

    return fn.rotate(
        view,
        angle=params["angle_deg"],
        interp_type=types.INTERP_NN,
        fill_value=0,
        keep_size=True,
    )


def rotate_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """As `rotate_graph`: each pixel is that of the source which its centre is turned back to."""
    side_px = views.shape[-1]
    angle = torch.deg2rad(params["angle_deg"])[:, None, None]
    centre = (side_px - 1) / 2
    offset = torch.arange(side_px, device=views.device) - centre
    rows, columns = offset[:, None], offset[None, :]
    left = torch.round(columns * angle.cos() - rows * angle.sin() + centre).long()
    top = torch.round(columns * angle.sin() + rows * angle.cos() + centre).long()
    inside = (left >= 0) & (left < side_px) & (top >= 0) & (top < side_px)
    sources = torch.where(inside, top * side_px + left, 0)
    turned = _gather(views, sources.flatten(1))
    return torch.where(inside[:, None], turned, black.to(views.dtype)[..., None, None])


# Permutations of the squares of a grid, numbered row by row.


def draw_order(
    rng: np.random.Generator, batch: int, side_px: int, *, grid: int | None = None
) -> Params:
    """Square i of the result is square order[i] of the view: int32 [B, grid * grid].

    All orders are as likely, that of the view itself included. Without `grid`, of all pixels.
    """
    grid = grid or side_px
    _check_cut(side_px, grid)
    order = np.tile(np.arange(grid * grid, dtype=np.int32), (batch, 1))
    return {"order": rng.permuted(order, axis=1)}


CUTS = np.array([[2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]], np.int32)
"""Orders of a 2 x 2 grid: top and bottom halves swapped, left and right halves, both."""


def draw_cuts(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """One of `CUTS`, each as likely; int32 [B, 4]."""
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
    """Reorder the squares, as the frames of a sequence; one order for all channels."""
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
    """As `permute_graph`."""
    side_px = views.shape[-1]
    grid = grid or side_px
    square_px = side_px // grid
    squares = _places(views).view(grid, square_px, grid, square_px).transpose(1, 2).flatten(0, 1)
    sources = squares[params["order"].long()]  # [B, grid * grid, square_px, square_px]
    return _gather(views, sources.unflatten(1, (grid, grid)).transpose(2, 3).flatten(1))


# Blur.


def draw_blur(rng: np.random.Generator, batch: int, side_px: int) -> Params:
    """Deviation in pixels, uniform in `BLUR_SIGMA`, at most `BLUR_MOST_PX`; float32 [B]."""
    sigma = rng.uniform(*BLUR_SIGMA, batch) * side_px
    return {"sigma_px": np.minimum(sigma, BLUR_MOST_PX).astype(np.float32)}


def blur_graph(view: DataNode, params: Mapping[str, DataNode], side_px: int) -> DataNode:
    """Gaussian to three deviations; the view is mirrored about the middle of its edge pixels."""
    from nvidia.dali import fn

    return fn.gaussian_blur(view, sigma=params["sigma_px"])


def blur_tensor(views: Tensor, params: Mapping[str, Tensor], black: Tensor) -> Tensor:
    """As `blur_graph`: both directions as matrix products, which hold the mirrored edges."""
    along = _blur_matrix(params["sigma_px"], views.shape[-1])[:, None]
    blurred = along @ views.to(along.dtype) @ along.mT
    return (blurred if views.is_floating_point() else blurred.round()).to(views.dtype)


def _blur_matrix(sigma_px: Tensor, side_px: int) -> Tensor:
    """[B, s, s] whose row i holds what each pixel of a line gives to pixel i of its blur.

    A pixel gives once itself and once for its image in each of the two mirrors; those on a mirror
    have no image in it. The blur reaches less far than a second reflection.
    """
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


def _places(views: Tensor) -> Tensor:
    """int64 [s, s]: the number of each pixel, row by row."""
    side_px = views.shape[-1]
    return torch.arange(side_px * side_px, device=views.device).view(side_px, side_px)


def _gather(views: Tensor, sources: Tensor) -> Tensor:
    """Views [B, C, s, s] whose pixel i, row by row, is pixel sources[:, i] (int64 [B, s * s])."""
    pixels = views.flatten(2)
    return pixels.gather(2, sources[:, None].expand_as(pixels)).view_as(views)


def squares(number: int) -> Shift:
    """perm-N: the view cut into N equal squares, in a random order.

    Raises:
        UserError: N is not 4, 9, 16, ...
    """
    grid = math.isqrt(number)
    if grid < 2 or grid * grid != number:
        raise UserError(f"perm-{number}: {number} is not the square of a whole number above 1")
    return Shift(
        partial(draw_order, grid=grid),
        partial(permute_graph, grid=grid),
        partial(permute_tensor, grid=grid),
    )


SHIFTS: Mapping[str, Shift] = {
    # The images of the stream as they are.
    "aux": Shift(draw_nothing, identity_graph, identity_tensor),
    # 90, 180 or 270 degrees: the paper's Rot.
    "rot": Shift(partial(draw_turns, fewest=1), turn_graph, turn_tensor),
    # 0, 90, 180 or 270 degrees: Rot. 360 by the paper's text.
    "rot90x4": Shift(partial(draw_turns, fewest=0), turn_graph, turn_tensor),
    # Any angle, black corners, of the finished view.
    "rot-any": Shift(draw_angle, rotate_graph, rotate_tensor),
    # The same before colours and blur, as the authors' code has it: what is black then may become
    # gray by the contrast, and smeared.
    "rot-any-early": Shift(draw_angle, rotate_graph, rotate_tensor, early=True),
    # All pixels in a random order, one for all channels: Pixel perm.
    "pixperm": Shift(draw_order, permute_graph, permute_tensor),
    # Halves swapped: CutPerm of CSI (Tack et al. 2020) without its identity.
    "cutperm": Shift(draw_cuts, partial(permute_graph, grid=2), partial(permute_tensor, grid=2)),
    # A strong Gaussian blur.
    "blur": Shift(draw_blur, blur_graph, blur_tensor),
}
"""By name. perm-N, which is made for any N by `shift_named`, is not listed."""


def shift_named(name: str) -> Shift:
    """The shift of that name in `SHIFTS`, or perm-N.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    if name in SHIFTS:
        return SHIFTS[name]
    if match := re.fullmatch("perm-([1-9][0-9]{0,8})", name):
        return squares(int(match[1]))
    usual = [*SHIFTS, "perm-4", "perm-16"]
    usual += [f"{shift}-in" for shift in usual if shift != "aux"] + ["combined", "none"]
    raise UserError(
        f"{name!r} is none of {', '.join(SHIFTS)}, perm-N with N = 4, 9, 16... "
        f"(each but aux also with -in){did_you_mean(name, usual)}"
    )
