"""The view engine `product`: for small sources, all views of a size as two batched matrix products.

Cutting out a crop, mirroring it, resizing it and blurring the result are each linear and act on
rows and on columns alike, so that one channel of a view is

    V = Ry X Rx^T        X the crop [h, w],  Ry [s, h],  Rx [s, w],  V [s, s]

where Ry is "resize h pixels to s, then blur" as a matrix, and Rx the same for the columns. Crops
are padded to a common side K (the operators have zeros there), the operators come from a table
(`operators.py`), and two batched products make all views: the work that matrix units are built for,
and it starts from 10 to 100 times fewer numbers than the views have pixels.

What is not linear acts either on the crop before (colour jitter, `jitter.py`) or on the view after
(clipping, solarization, permutations). Scaling by ImageNet's mean and deviation commutes with the
products, because the rows of the operators sum to 1, and is done on the crop. Mirroring and quarter
turns commute with them too, because the operators are symmetric: they are a matter of which pixel
of the source goes where in the crop, and cost nothing.

Legend: B images a rank, V views of an image, n = V B views, C channels of the source, s side of a
view, K side of a padded crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import BLACK, ViewSpec
from dali_pipes.draws import ViewDraw, join_draws
from dali_pipes.jitter import jitter_
from dali_pipes.normalised import PER_LEVEL, clip_and_solarize_, constant
from dali_pipes.operators import OperatorTable
from dali_pipes.plan import GroupDraws
from dali_pipes.transfer import put

CHUNK_VIEWS = 1024
"""Views that are worked on at once: more are not faster, and take memory."""


class ProductViews:
    """Makes views of one size."""

    def __init__(
        self,
        spec: ViewSpec,
        side_px: int,
        scale: tuple[float, float],
        source_hw: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Tabulate the operators for views of `side_px` and crops of these `scale`s."""
        self._shifts_source = spec.shift_space == "source"
        self._device = device
        lengths_px = crop_lengths(source_hw, scale, spec.crop_ratio)
        self._table = OperatorTable(side_px, lengths_px, spec.blur_sigma_px[1], dtype, device)
        # From levels of 0..1.
        self._scale = 255 * constant(PER_LEVEL, device)[:, None]
        self._offset = constant(BLACK, device)[:, None]

    def make(self, images: Tensor, groups: Sequence[GroupDraws], out: Tensor) -> None:
        """Make the views of a step.

        Args:
            images: uint8 [B, H, W, C] or [2 B, H, W, C] on the device: the in-distribution images
                of the step, then the auxiliary ones.
            groups: The draws; V views in total.
            out: [V, B, 3, s, s] of the table's dtype, contiguous; written to.
        """
        planes = images.permute(0, 3, 1, 2)  # [images, C, H, W]
        image_of_view, turns_of_view = [], []
        for group in groups:
            shape = group.group.count, out.shape[1]
            image = np.tile(np.arange(shape[1]) + shape[1] * group.from_aux, shape[0])
            turns = np.zeros(shape, np.int64)
            if group.shift and self._shifts_source:
                shifted = group.shifted(planes[self._put(image)], planes.new_zeros(1))
                image = len(planes) + np.arange(len(image))
                planes = torch.cat([planes, shifted])
            elif group.shift:
                turns = group.turns
            image_of_view.append(image)
            turns_of_view.append(turns.ravel())

        levels = planes.flatten(2) / 255
        image, turns = np.concatenate(image_of_view), np.concatenate(turns_of_view)
        draws = join_draws([group.view for group in groups]).flatten()
        views = out.flatten(0, 1)
        for start in range(0, len(views), CHUNK_VIEWS):
            part = slice(start, start + CHUNK_VIEWS)
            place = place_crops(draws[part], turns[part], images.shape[2], self._table.padded_px)
            crops = self._cut(levels, image[part], draws[part], place)
            self._enlarge(crops, draws[part], place, views[part])

        if not self._shifts_source:
            self._shift_views(groups, out)

    def _cut(self, levels: Tensor, image: np.ndarray, draws: ViewDraw, place: CropPlace) -> Tensor:
        """Levels 0..1 [images, C, H W] -> jittered crops, normalised, [n, 3, K, K]."""
        side = self._table.padded_px
        index = self._put(place.rows)[:, :, None] + self._put(place.columns)[:, None]
        index = index.view(len(image), 1, side * side).expand(-1, levels.shape[1], -1)
        crops = levels.index_select(0, self._put(image)).gather(2, index)
        heights, widths = self._put(place.heights)[:, None], self._put(place.widths)[:, None]
        line = torch.arange(side, device=self._device)
        inside = (line < heights)[:, :, None] & (line < widths)[:, None]
        jitter_(crops, inside.flatten(1) / (heights * widths), draws)
        return torch.addcmul(self._offset, crops, self._scale).view(len(image), 3, side, side)

    def _enlarge(self, crops: Tensor, draws: ViewDraw, place: CropPlace, out: Tensor) -> None:
        """Crops [n, 3, K, K] -> views, into `out` [n, 3, s, s]."""
        count, _, padded_px, _ = crops.shape
        side_px, matrices = out.shape[-1], self._table.matrices
        of_rows = self._table.rows(place.heights, draws.blur_sigma_px).repeat(3)
        of_columns = self._table.rows(place.widths, draws.blur_sigma_px)
        wide = torch.bmm(
            crops.to(matrices.dtype).view(count, 3 * padded_px, padded_px),
            matrices.index_select(0, self._put(of_columns)).mT,
        )  # [n, 3 K, s]: the channels of a view share the operator of its columns
        torch.bmm(
            matrices.index_select(0, self._put(of_rows)),
            wide.view(3 * count, padded_px, side_px),
            out=out.view(3 * count, side_px, side_px),
        )
        clip_and_solarize_(out, draws.solarize)

    def _shift_views(self, groups: Sequence[GroupDraws], out: Tensor) -> None:
        """Whatever of the negatives' transformations are not quarter turns."""
        black = constant(BLACK, self._device)
        start = 0
        for group in groups:
            views = out[start : start + group.group.count].flatten(0, 1)
            start += group.group.count
            if group.shift:
                shifted = group.shifted(views, black, skip_turns=True)
                if shifted is not views:
                    views.copy_(shifted)

    def _put(self, values: np.ndarray) -> Tensor:
        return put(values, self._device)


@dataclass(frozen=True)
class CropPlace:
    """Where in its source each pixel of n padded crops lies, mirrored and turned as drawn.

    Pixel (i, j) of a crop is pixel rows[i] + columns[j] of the source, counted row by row.
    """

    rows: np.ndarray
    """int64 [n, K]; beyond the crop, its last pixel again."""
    columns: np.ndarray
    """int64 [n, K]"""
    heights: np.ndarray
    """int64 [n], after the turn."""
    widths: np.ndarray
    """int64 [n], after the turn."""


def place_crops(draws: ViewDraw, turns: np.ndarray, source_width: int, padded_px: int) -> CropPlace:
    """The places of crops that are cut out, mirrored if drawn, and turned counter-clockwise.

    Pixel (i, j) of a crop [h, w] after 0, 1, 2, 3 quarter turns is its pixel
    (i, j), (j, w-1-i), (h-1-i, w-1-j), (h-1-j, i) before.
    """
    top, left = draws.crop_start.T.astype(np.int64)[..., None]
    height, width = draws.crop_shape.T.astype(np.int64)[..., None]
    turns = turns[:, None]
    upside_down = turns >= 2
    mirrored = ((turns == 1) | (turns == 2)) ^ (draws.flip[:, None] == 1)
    line = np.arange(padded_px)
    down, across = np.minimum(line, height - 1), np.minimum(line, width - 1)
    y = source_width * (top + np.where(upside_down, height - 1 - down, down))
    x = left + np.where(mirrored, width - 1 - across, across)
    odd = turns % 2 == 1
    return CropPlace(
        rows=np.where(odd, x, y),
        columns=np.where(odd, y, x),
        heights=np.where(odd, width, height)[:, 0],
        widths=np.where(odd, height, width)[:, 0],
    )


def crop_lengths(
    source_hw: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """Shortest and longest side, in pixels, of the crops that `draw_crops` can draw."""
    area = source_hw[0] * source_hw[1]
    stretch = max(ratio[1], 1 / ratio[0])
    shortest = max(1, math.floor(math.sqrt(scale[0] * area / stretch)))
    longest = math.ceil(math.sqrt(scale[1] * area * stretch))
    # A crop that does not fit is drawn again, and in the end it is as large as fits.
    return min(shortest, *source_hw), longest if longest <= min(source_hw) else max(source_hw)
