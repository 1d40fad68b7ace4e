"""The parameters of a view in the form that the training graph takes."""

from __future__ import annotations

import numpy as np

from dali_pipes.blur import blur_kernels
from dali_pipes.dali.colour import colour_maps
from dali_pipes.view_params import ViewKind, ViewParams


def graph_params(
    params: ViewParams, kind: ViewKind, side_px: int, channels: int, *, in_source_space: bool
) -> dict[str, np.ndarray]:
    """Return the arrays that the training graph needs for one view of each of B images.

    Args:
        params: The parameters of the views, with the shape [B].
        kind: The kind of the views.
        side_px: The side of the views, in pixels.
        channels: The number of channels of the images, C, which is 1 or 3.
        in_source_space: True if the graph changes the colours, before the resize.

    Returns:
        Name -> array, float32 unless stated otherwise:
        `crop_start`: int32 [B, 2], the top and left edge of the crop, in pixels of the input image.
        `crop_shape`: int32 [B, 2], the height and width of the crop, in the same pixels.
        `size`: [B, 2], the height and width of the view. A negative width mirrors the view.
        `blur_down`: [B, n, 1], the blur kernel along the columns, which sums to 1.
        `blur_across`: [B, 1, n], the same kernel along the rows.
        Only in source space, `of_pixel_0`, `of_mean_0`, `of_pixel_1` and `of_mean_1`: [B, C, C],
        the colour maps of `colour.py`.
        Only in source space, and for kinds of views that may be solarized, `solarize`: bool [B].
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
