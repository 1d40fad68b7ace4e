"""What the training graph takes for a view, made of what was drawn for it."""

from __future__ import annotations

import numpy as np

from dali_pipes.blur import blur_kernels
from dali_pipes.dali.colour import colour_maps
from dali_pipes.view_params import ViewKind, ViewParams


def graph_params(
    draw: ViewParams, kind: ViewKind, side_px: int, channels: int, *, in_source_space: bool
) -> dict[str, np.ndarray]:
    """The parameters of one view of each of B images, by name; all float32 but the crop.

    `crop_start`, `crop_shape`: int32 [B, 2], top and left, height and width in source pixels.
    `size`: [B, 2], height and width of the view; a negative width mirrors it.
    `blur_down`, `blur_across`: [B, n, 1] and [B, 1, n], kernels that sum to 1.

    Where colours change in source space, that is in the graph, also:
    `of_pixel_0`, `of_mean_0`, `of_pixel_1`, `of_mean_1`: [B, C, C], the maps of `colour.py`.
    `solarize`: bool [B], of the kinds of view that may be solarized.
    """
    sigma_px = np.stack([draw.blur_sigma_px, draw.blur_sigma_px])
    if in_source_space:
        # A blur of the enlarged view is a blur of the crop, smaller by the enlargement.
        sigma_px *= draw.crop_shape.T / np.float32(side_px)
    down, across = blur_kernels(sigma_px).astype(np.float32)
    height = np.full(draw.flip.shape, side_px)
    params = {
        "crop_start": draw.crop_start,
        "crop_shape": draw.crop_shape,
        "size": np.stack([height, height * (1 - 2 * draw.flip)], axis=1).astype(np.float32),
        "blur_down": down[:, :, None],
        "blur_across": across[:, None, :],
    }
    if in_source_space:
        for number, maps in enumerate(colour_maps(draw, channels)):
            params[f"of_pixel_{number}"], params[f"of_mean_{number}"] = maps.of_pixel, maps.of_mean
        if kind in ("global-2", "global-any"):
            params["solarize"] = draw.solarize
    return params
