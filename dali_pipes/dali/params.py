"""The parameters of a view in the form that the training graph takes."""

from __future__ import annotations

import numpy as np

from dali_pipes.blur import blur_kernels
from dali_pipes.dali.colour import colour_maps
from dali_pipes.view_params import ViewKind, ViewParams


def graph_params(
    params: ViewParams, kind: ViewKind, side_px: int, channels: int, *, in_source_space: bool
) -> dict[str, np.ndarray]:
    """Return the arrays of one view of each of B images, by name; float32 unless stated.

    `crop_start`, `crop_shape`: int32 [B, 2], top and left, height and width, in pixels of the
    input image.
    `size`: [B, 2], height and width of the view; a negative width mirrors it.
    `blur_down`, `blur_across`: [B, n, 1] and [B, 1, n], kernels that sum to 1.

    In source space, where colours change in the graph, also:
    `of_pixel_0`, `of_mean_0`, `of_pixel_1`, `of_mean_1`: [B, C, C], the maps of `colour.py`.
    `solarize`: bool [B], for the kinds of view that may be solarized.
    """
    sigma_px = np.stack([params.blur_sigma_px, params.blur_sigma_px])
    if in_source_space:
        # The blur acts on the crop, so its deviation is divided by the enlargement of the crop.
        sigma_px *= params.crop_shape.T / np.float32(side_px)
    down, across = blur_kernels(sigma_px).astype(np.float32)
    height = np.full(params.flip.shape, side_px)
    arrays = {
        "crop_start": params.crop_start,
        "crop_shape": params.crop_shape,
        "size": np.stack([height, height * (1 - 2 * params.flip)], axis=1).astype(np.float32),
        "blur_down": down[:, :, None],
        "blur_across": across[:, None, :],
    }
    if in_source_space:
        for number, maps in enumerate(colour_maps(params, channels)):
            arrays[f"of_pixel_{number}"], arrays[f"of_mean_{number}"] = maps.of_pixel, maps.of_mean
        if kind in ("global-2", "global-any"):
            arrays["solarize"] = params.solarize
    return arrays
