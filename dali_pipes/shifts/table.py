"""All shifting transformations by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial

from dali_pipes.shifts.permutations import draw_cuts, draw_order, permute_graph, permute_tensor
from dali_pipes.shifts.rotations import (
    draw_angle,
    draw_turns,
    rotate_graph,
    rotate_tensor,
    turn_graph,
    turn_tensor,
)
from dali_pipes.shifts.shift import Shift, draw_nothing, identity_graph, identity_tensor
from dali_pipes.shifts.strong_blur import blur_graph, blur_tensor, draw_blur
from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean

SHIFTS: Mapping[str, Shift] = {
    # The images without any change.
    "aux": Shift(draw_nothing, identity_graph, identity_tensor),
    # 90, 180 or 270 degrees: the paper's Rot.
    "rot": Shift(partial(draw_turns, fewest=1), turn_graph, turn_tensor),
    # 0, 90, 180 or 270 degrees: Rot. 360 as the paper's text describes it.
    "rot90x4": Shift(partial(draw_turns, fewest=0), turn_graph, turn_tensor),
    # Any angle, black corners, applied to the finished view.
    "rot-any": Shift(draw_angle, rotate_graph, rotate_tensor),
    # Any angle, applied before colour jitter and blur, as in the authors' code. The contrast may
    # then turn the black corners gray, and the blur smears them.
    "rot-any-early": Shift(draw_angle, rotate_graph, rotate_tensor, early=True),
    # All pixels in a random order, the same for all channels: Pixel perm.
    "pixperm": Shift(draw_order, permute_graph, permute_tensor),
    # Halves swapped: CutPerm of CSI (Tack et al. 2020), but without the order that changes nothing.
    "cutperm": Shift(draw_cuts, partial(permute_graph, grid=2), partial(permute_tensor, grid=2)),
    # A strong Gaussian blur.
    "blur": Shift(draw_blur, blur_graph, blur_tensor),
}
"""Name -> transformation, except perm-N, which `shift_named` makes for any square number N."""


def shift_named(name: str) -> Shift:
    """Return the transformation with this name: an entry of `SHIFTS`, or perm-N.

    Raises:
        UserError: The name is unknown; the message lists the known names.
    """
    if name in SHIFTS:
        return SHIFTS[name]
    if match := re.fullmatch("perm-([1-9][0-9]{0,8})", name):
        return _squares(int(match[1]))
    usual = [*SHIFTS, "perm-4", "perm-16"]
    usual += [f"{shift}-in" for shift in usual if shift != "aux"] + ["combined", "none"]
    raise UserError(
        f"{name!r} is none of {', '.join(SHIFTS)}, perm-N with N = 4, 9, 16... "
        f"(each but aux also with -in){did_you_mean(name, usual)}"
    )


def _squares(number: int) -> Shift:
    """Return perm-N, which cuts a view into N equal squares and puts them in a random order.

    Raises:
        UserError: N is not the square of a whole number above 1.
    """
    grid = math.isqrt(number)
    if grid < 2 or grid * grid != number:
        raise UserError(f"perm-{number}: {number} is not the square of a whole number above 1")
    return Shift(
        partial(draw_order, grid=grid),
        partial(permute_graph, grid=grid),
        partial(permute_tensor, grid=grid),
    )
