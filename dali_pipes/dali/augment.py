"""The random transformations T of a view, as functions that build a DALI graph for CPU or GPU.

Every view in the graph is uint8 [H, W, C] with C = 1 or 3 channels. Two details matter.
Antialiasing is always on. A crop is cut out before it is resized, because DALI's region-of-interest
resize also reads pixels outside the crop.

The operators were chosen for their speed on a CPU. `filter` blurs 5 to 7 times faster than
`gaussian_blur`, and treats borders as Pillow does. `resize` can mirror at no cost. Colours are
changed in the graph only if crops are smaller than views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dali_pipes.batch import RGB_MEAN, RGB_STD

SOLARIZED = [level if level < 128 else 255 - level for level in range(256)]

Params = Mapping[str, DataNode]
"""The arrays that `graph_params` returns, as graph nodes on the CPU, by name."""


def view_of(
    image: DataNode,
    params: Params,
    *,
    in_source_space: bool,
    early: Callable[[DataNode], DataNode] | None = None,
) -> DataNode:
    """Make one view: crop, resize, flip, blur, and in source space also jitter, gray and solarize.

    In view space, `colour.colour_normalized` applies jitter, gray and solarization after the graph.
    This is possible because jitter and gray commute with the blur, except for the clipping.

    Args:
        image: The input image.
        params: The parameters of the view.
        in_source_space: True if jitter and blur act on the crop, before it is resized.
        early: A shift that acts on the resized crop, before jitter and blur. It is only allowed if
            `in_source_space` is False.
    """
    view = fn.slice(image, params["crop_start"], params["crop_shape"], axes=[0, 1])
    if in_source_space:
        view = blur(colour(view, params), params)
    view = resize(view, params["size"])
    if early is not None:
        view = early(view)
    if not in_source_space:
        view = blur(view, params)
    if "solarize" in params:
        view = solarize(view, params["solarize"])
    return view


def decode(encoded: DataNode, channels: int, device: str) -> DataNode:
    """Decode image files to uint8 [H, W, C].

    The chroma of JPEG files is interpolated as libjpeg does, on the CPU and on the GPU.
    """
    return fn.decoders.image(
        encoded,
        device="mixed" if device == "gpu" else "cpu",
        output_type=types.RGB if channels == 3 else types.GRAY,
        jpeg_fancy_upsampling=True,
    )


def resize(image: DataNode, size: DataNode | list[int]) -> DataNode:
    """Resize to `size` = (height, width) with the bicubic filter and antialiasing.

    A negative width also mirrors the image left to right.
    """
    return fn.resize(image, size=size, interp_type=types.INTERP_CUBIC, antialias=True)


def colour(view: DataNode, params: Params) -> DataNode:
    """Apply colour jitter and gray, as two affine maps of a pixel and the mean pixel.

    `colour.py` explains the maps.
    """
    for number in range(2):
        mean = fn.reductions.mean(view, axes=[0, 1], keep_dims=True)
        of_mean = fn.coord_transform(mean, M=params[f"of_mean_{number}"])
        of_pixel = fn.coord_transform(view, M=params[f"of_pixel_{number}"], dtype=types.FLOAT)
        view = fn.cast(of_pixel + of_mean, dtype=types.UINT8)
    return view


def blur(view: DataNode, params: Params) -> DataNode:
    """Blur with one kernel along the columns and one along the rows; edge pixels are repeated."""
    for name in ("blur_down", "blur_across"):
        kernel = params[name].gpu() if view.device == "gpu" else params[name]
        view = fn.filter(view, kernel, border="clamp")
    return view


def solarize(view: DataNode, chosen: DataNode) -> DataNode:
    """Invert the levels of 128 and more if `chosen` is True; otherwise change nothing."""
    if chosen:
        view = fn.lookup_table(view, keys=list(range(256)), values=SOLARIZED, dtype=types.UINT8)
    return view


def normalize(view: DataNode, channels: int) -> DataNode:
    """Normalise a view with ImageNet's mean and standard deviation.

    Returns:
        float32 [3, H, W]. A gray view is repeated for the three channels.
    """
    if channels == 1:
        view = fn.color_space_conversion(view, image_type=types.GRAY, output_type=types.RGB)
    return fn.crop_mirror_normalize(
        view, dtype=types.FLOAT, output_layout="CHW", mean=list(RGB_MEAN), std=list(RGB_STD)
    )
