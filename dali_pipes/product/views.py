"""Views of small images by two batched matrix products for all views of a size.

To crop, mirror, resize and blur are linear operations that act on rows and columns separately. So
one channel of a view is

    V = Ry X Rx^T        X the crop [h, w],  Ry [s, h],  Rx [s, w],  V [s, s]

where Ry is the matrix of "resize h pixels to s, then blur", and Rx the same for the columns. Crops
are padded to a common side K, where the operators have zeros. The operators come from a table
(`operators.py`), and two batched products make all views. Matrix units are fast at this, and the
crops have 10 to 100 times fewer pixels than the views.

Operations that are not linear act on the crop before (colour jitter, `jitter.py`) or on the view
after (clipping, solarization, permutations). Normalisation acts on the crop: it commutes with the
products, because the rows of the operators sum to 1. Mirroring and quarter turns commute with them
too, because the operators are symmetric. They only change which pixel of the input image goes where
in the crop, and cost nothing.

Views with an early shift, between resize and jitter, pass through the products twice: first they
are resized; then, shifted and jittered as a whole, they are blurred, by a resize to the same size.

Legend: B images a rank, V views of an image, n = V B views, C channels of the input images, s the
side of a view, K the side of a padded crop, both in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from dali_pipes.batch import BLACK, ViewSpec
from dali_pipes.normalised import PER_LEVEL, clip_and_solarize_, constant
from dali_pipes.product.jitter import jitter_
from dali_pipes.product.operators import OperatorTable
from dali_pipes.step_plan import GroupParams
from dali_pipes.transfer import to_device
from dali_pipes.view_params import ViewParams, join_params

CHUNK_VIEWS = 1024
"""Number of views that are processed at once: more are not faster, and take more memory."""


class ProductViews:
    """The maker of all views of one size."""

    def __init__(
        self,
        spec: ViewSpec,
        side_px: int,
        scale: tuple[float, float],
        image_hw: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Tabulate the operators for views of side `side_px` and crops in the range `scale`."""
        self._shifts_source = spec.shift_space == "source"
        self._device = device
        self._image_width = image_hw[1]
        self._side_px, self._sigma_max_px = side_px, spec.blur_sigma_px[1]
        lengths_px = crop_lengths(image_hw, scale, spec.crop_ratio)
        self._table = OperatorTable(side_px, lengths_px, self._sigma_max_px, dtype, device)
        # Normalisation of levels of 0..1.
        self._scale = 255 * constant(PER_LEVEL, device)[:, None]
        self._offset = constant(BLACK, device)[:, None]

    def make(self, images: Tensor, groups: Sequence[GroupParams], out: Tensor) -> None:
        """Make the views of a step.

        Args:
            images: uint8 [B, H, W, C] or [2 B, H, W, C] on the device: the in-distribution images
                of the step, then the auxiliary ones.
            groups: The parameters of all groups, V views in total.
            out: The result, [V, B, 3, s, s] of the table's dtype, contiguous; written to.
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
        start = 0
        for early, run in groupby(
            zip(groups, image_of_view, turns_of_view, strict=True), lambda of: of[0].early
        ):
            alike, image_of_run, turns_of_run = zip(*run, strict=True)
            image, turns = np.concatenate(image_of_run), np.concatenate(turns_of_run)
            views = out.flatten(0, 1)[start : start + len(image)]
            start += len(image)
            if early:
                self._make_early(levels, image, turns, alike, views)
            else:
                params = join_params([group.view for group in alike]).flatten()
                self._make_late(levels, image, turns, params, views)

        if not self._shifts_source:
            self._shift_views(groups, out)

    def _make_late(
        self, levels: Tensor, image: np.ndarray, turns: np.ndarray, params: ViewParams, out: Tensor
    ) -> None:
        """Make views [n, 3, s, s] without an early shift from levels 0..1 [images, C, H W]."""
        for start in range(0, len(out), CHUNK_VIEWS):
            part = slice(start, start + CHUNK_VIEWS)
            crops, place = self._cut(levels, image[part], turns[part], params[part])
            crops = self._colour(crops, place.heights, place.widths, params[part])
            sigma_px = params.blur_sigma_px[part]
            self._resize(self._table, crops, place.heights, place.widths, sigma_px, out[part])
            clip_and_solarize_(out[part], params.solarize[part])

    def _make_early(
        self,
        levels: Tensor,
        image: np.ndarray,
        turns: np.ndarray,
        groups: Sequence[GroupParams],
        out: Tensor,
    ) -> None:
        """Make views [n, 3, s, s] with an early shift from levels 0..1 [images, C, H W]."""
        side_px, start = self._side_px, 0
        margin = self._blurs.padded_px - side_px
        for view in (view for group in groups for view in group.one_by_one()):
            params = view.view.flatten()
            part = slice(start, start + len(params.flip))
            start = part.stop
            crops, place = self._cut(levels, image[part], turns[part], params)
            sharp = out.new_empty(len(crops), levels.shape[1], side_px, side_px)
            unblurred = np.zeros_like(params.blur_sigma_px)
            self._resize(self._table, crops, place.heights, place.widths, unblurred, sharp)
            shifted = view.shifted(sharp.clamp_(0, 1), sharp.new_zeros(1), part="early")
            whole = np.full(len(crops), side_px)
            padded = pad(shifted.float(), (0, margin, 0, margin))
            coloured = self._colour(padded, whole, whole, params)
            self._resize(self._blurs, coloured, whole, whole, params.blur_sigma_px, out[part])
            clip_and_solarize_(out[part], params.solarize)

    @cached_property
    def _blurs(self) -> OperatorTable:
        """The table of operators that blur whole views."""
        lengths_px = self._side_px, self._side_px
        matrices = self._table.matrices
        return OperatorTable(
            self._side_px, lengths_px, self._sigma_max_px, matrices.dtype, self._device
        )

    def _cut(
        self, levels: Tensor, image: np.ndarray, turns: np.ndarray, params: ViewParams
    ) -> tuple[Tensor, CropPlace]:
        """Cut crops [n, C, K, K] out of levels 0..1 [images, C, H W]; return also their places."""
        side = self._table.padded_px
        place = place_crops(params, turns, self._image_width, side)
        index = self._put(place.rows)[:, :, None] + self._put(place.columns)[:, None]
        index = index.view(len(image), 1, side * side).expand(-1, levels.shape[1], -1)
        crops = levels.index_select(0, self._put(image)).gather(2, index)
        return crops.unflatten(2, (side, side)), place

    def _colour(
        self, crops: Tensor, heights: np.ndarray, widths: np.ndarray, params: ViewParams
    ) -> Tensor:
        """Jitter levels 0..1 [n, C, K, K] in place; return them normalised, [n, 3, K, K]."""
        side = crops.shape[-1]
        pixels = crops.flatten(2)
        height, width = self._put(heights)[:, None], self._put(widths)[:, None]
        line = torch.arange(side, device=self._device)
        inside = (line < height)[:, :, None] & (line < width)[:, None]
        jitter_(pixels, inside.flatten(1) / (height * width), params)
        return torch.addcmul(self._offset, pixels, self._scale).view(len(crops), 3, side, side)

    def _resize(
        self,
        table: OperatorTable,
        crops: Tensor,
        heights: np.ndarray,
        widths: np.ndarray,
        sigma_px: np.ndarray,
        out: Tensor,
    ) -> None:
        """Resize and blur crops [n, C, K, K], into `out` [n, C, s, s]."""
        count, channels, padded_px, _ = crops.shape
        side_px, matrices = out.shape[-1], table.matrices
        of_rows = table.rows(heights, sigma_px).repeat(channels)
        of_columns = table.rows(widths, sigma_px)
        wide = torch.bmm(
            crops.to(matrices.dtype).view(count, channels * padded_px, padded_px),
            matrices.index_select(0, self._put(of_columns)).mT,
        )  # [n, C K, s]: the channels of a view share the operator of its columns
        torch.bmm(
            matrices.index_select(0, self._put(of_rows)),
            wide.view(channels * count, padded_px, side_px),
            out=out.view(channels * count, side_px, side_px),
        )

    def _shift_views(self, groups: Sequence[GroupParams], out: Tensor) -> None:
        """Apply the shifts of negative views that are neither early nor quarter turns."""
        black = constant(BLACK, self._device)
        start = 0
        for group in groups:
            views = out[start : start + group.group.count].flatten(0, 1)
            start += group.group.count
            if group.shift:
                shifted = group.shifted(views, black, skip_turns=True, part="late")
                if shifted is not views:
                    views.copy_(shifted)

    def _put(self, values: np.ndarray) -> Tensor:
        return to_device(values, self._device)


@dataclass(frozen=True)
class CropPlace:
    """The place, in its input image, of each pixel of n padded crops, mirrored and turned.

    Pixel (i, j) of a crop is pixel rows[i] + columns[j] of the input image, counted row by row.
    """

    rows: np.ndarray
    """int64 [n, K]; the crop's last row is repeated in the padding."""
    columns: np.ndarray
    """int64 [n, K]; the crop's last column is repeated in the padding."""
    heights: np.ndarray
    """int64 [n]: height of each crop in pixels, after the turn."""
    widths: np.ndarray
    """int64 [n]: width of each crop in pixels, after the turn."""


def place_crops(
    params: ViewParams, turns: np.ndarray, image_width: int, padded_px: int
) -> CropPlace:
    """Return the places of crops that are mirrored and then turned counter-clockwise, as drawn.

    Pixel (i, j) of a crop [h, w] after 0, 1, 2 or 3 quarter turns is the pixel (i, j),
    (j, w-1-i), (h-1-i, w-1-j) or (h-1-j, i) before the turn.
    """
    top, left = params.crop_start.T.astype(np.int64)[..., None]
    height, width = params.crop_shape.T.astype(np.int64)[..., None]
    turns = turns[:, None]
    upside_down = turns >= 2
    mirrored = ((turns == 1) | (turns == 2)) ^ (params.flip[:, None] == 1)
    line = np.arange(padded_px)
    down, across = np.minimum(line, height - 1), np.minimum(line, width - 1)
    y = image_width * (top + np.where(upside_down, height - 1 - down, down))
    x = left + np.where(mirrored, width - 1 - across, across)
    odd = turns % 2 == 1
    return CropPlace(
        rows=np.where(odd, x, y),
        columns=np.where(odd, y, x),
        heights=np.where(odd, width, height)[:, 0],
        widths=np.where(odd, height, width)[:, 0],
    )


def crop_lengths(
    image_hw: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """Return the shortest and the longest side, in pixels, of crops that `draw_crops` can draw."""
    area = image_hw[0] * image_hw[1]
    stretch = max(ratio[1], 1 / ratio[0])
    shortest = max(1, math.floor(math.sqrt(scale[0] * area / stretch)))
    longest = math.ceil(math.sqrt(scale[1] * area * stretch))
    # A crop that does not fit is drawn again; after the last try it is the largest that fits.
    return min(shortest, *image_hw), longest if longest <= min(image_hw) else max(image_hw)
