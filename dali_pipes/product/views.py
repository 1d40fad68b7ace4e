"""The maker of views of small images: two batched matrix products make all views of one size.

Cropping, mirroring, resizing and blurring are linear operations that act on rows and columns
separately. So one channel of a view is

    V = Ry X Rx^T        X the crop [h, w],  Ry [s, h],  Rx [s, w],  V [s, s]

where Ry is the matrix of "resize h pixels to s, then blur", and Rx is the same for the columns.
These matrices are called operators, and come from a table (`operators.py`). Crops are padded to a
common side K, and the operators have zeros for the padding. So two batched products make all views.
This is fast on matrix units, and the crops have 10 to 100 times fewer pixels than the views.

Operations that are not linear act on the crop before the products (colour jitter, `jitter.py`) or
on the view after the products (clipping, solarization, permutations). Normalisation acts on the
crop, because it commutes with the products: the rows of the operators sum to 1. Mirroring and
quarter turns also commute with the products, because the operators are symmetric. So they only
change the place of each pixel in the crop, and cost nothing.

An early shift acts between the resize and the jitter. Views with an early shift need the products
twice: the first time they are resized. Then they are shifted and jittered. The second time they are
blurred, with operators that keep the size.

Legend: B images per rank, V views per image, n = V * B views, C channels of the input images, s the
side of a view and K the side of a padded crop, both in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from dali_pipes.batch import BLACK, ViewSpec
from dali_pipes.normalised import PER_LEVEL, clip_and_solarize_, constant
from dali_pipes.product.crops import CropPlace, crop_lengths, place_crops
from dali_pipes.product.jitter import jitter_
from dali_pipes.product.operators import OperatorTable
from dali_pipes.step_plan import GroupParams
from dali_pipes.transfer import to_device
from dali_pipes.view_params import ViewParams, join_params

CHUNK_VIEWS = 1024
"""The number of views that are processed at once. A larger number is not faster, and takes more
memory."""


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
        """Compute the table of operators.

        `side_px` is the side s of the views, `scale` the range of a crop's area as a fraction of
        the image's area, and `image_hw` the height and width of the input images in pixels.
        """
        self._shifts_source = spec.shift_space == "source"
        self._device = device
        self._image_width = image_hw[1]
        self._side_px, self._sigma_max_px = side_px, spec.blur_sigma_px[1]
        lengths_px = crop_lengths(image_hw, scale, spec.crop_ratio)
        self._table = OperatorTable(side_px, lengths_px, self._sigma_max_px, dtype, device)
        # These two normalise levels of 0..1.
        self._scale = 255 * constant(PER_LEVEL, device)[:, None]
        self._offset = constant(BLACK, device)[:, None]

    def make(self, images: Tensor, groups: Sequence[GroupParams], out: Tensor) -> None:
        """Make the views of a step, and write them to `out`.

        Args:
            images: The images of the step on the device, uint8 [B, H, W, C]: the in-distribution
                images. With auxiliary images, [2 * B, H, W, C]: the auxiliary images follow.
            groups: The parameters of all groups of this size, with V views per image in total.
            out: The result, [V, B, 3, s, s] of the dtype of the views, contiguous.
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
        """Make views without an early shift, and write them to `out`.

        Args:
            levels: The input images in levels of 0..1, [images, C, H * W].
            image: The index in `levels` of the image of each view, [n].
            turns: The number of quarter turns of each view, [n].
            params: The parameters of the views, with the shape [n].
            out: The result, [n, 3, s, s].
        """
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
        """Make views with an early shift, and write them to `out`.

        The arguments are those of `_make_late`, except `groups`, the parameters of the views.
        """
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
        """The table of operators that blur whole views without resizing them."""
        lengths_px = self._side_px, self._side_px
        matrices = self._table.matrices
        return OperatorTable(
            self._side_px, lengths_px, self._sigma_max_px, matrices.dtype, self._device
        )

    def _cut(
        self, levels: Tensor, image: np.ndarray, turns: np.ndarray, params: ViewParams
    ) -> tuple[Tensor, CropPlace]:
        """Cut the crops of n views out of the input images; the arguments are as in `_make_late`.

        Returns the padded crops, [n, C, K, K], and their places in the images.
        """
        side = self._table.padded_px
        place = place_crops(params, turns, self._image_width, side)
        index = self._put(place.rows)[:, :, None] + self._put(place.columns)[:, None]
        index = index.view(len(image), 1, side * side).expand(-1, levels.shape[1], -1)
        crops = levels.index_select(0, self._put(image)).gather(2, index)
        return crops.unflatten(2, (side, side)), place

    def _colour(
        self, crops: Tensor, heights: np.ndarray, widths: np.ndarray, params: ViewParams
    ) -> Tensor:
        """Apply colour jitter to crops in place, and return the normalised crops, [n, 3, K, K].

        The crops are levels of 0..1, [n, C, K, K]. `heights` and `widths`, [n], are their sizes
        without the padding.
        """
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
        """Resize and blur crops [n, C, K, K], and write the views to `out`, [n, C, s, s]."""
        count, channels, padded_px, _ = crops.shape
        side_px, matrices = out.shape[-1], table.matrices
        of_rows = table.rows(heights, sigma_px).repeat(channels)
        of_columns = table.rows(widths, sigma_px)
        wide = torch.bmm(
            crops.to(matrices.dtype).view(count, channels * padded_px, padded_px),
            matrices.index_select(0, self._put(of_columns)).mT,
        )  # [n, C * K, s]; all channels of a view are multiplied by the same operator at once
        torch.bmm(
            matrices.index_select(0, self._put(of_rows)),
            wide.view(channels * count, padded_px, side_px),
            out=out.view(channels * count, side_px, side_px),
        )

    def _shift_views(self, groups: Sequence[GroupParams], out: Tensor) -> None:
        """Apply all shifts except early shifts and quarter turns to the negative views in `out`."""
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
