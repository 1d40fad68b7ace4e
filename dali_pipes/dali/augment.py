"""The transformations T as DALI graph functions of one view, the same for the CPU and the GPU.

A view is uint8 HWC with C = 1 or 3 channels throughout. Two details matter: antialiasing is always
on, and a crop is cut out before its resize, because DALI's region-of-interest resize also reads
pixels outside the crop.

The operators were chosen by their cost on a CPU, where operators with a uint8 result differ a lot:
`filter` blurs 5 to 7 times faster than `gaussian_blur`, and treats borders as Pillow does; `resize`
mirrors at no cost; colours change in the graph only if crops are smaller than views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dali_pipes.batch import RGB_MEAN, RGB_STD

SOLARIZED = [level if level < 128 else 255 - level for level in range(256)]

Params = Mapping[str, DataNode]
"""The arrays of `graph_params` as nodes on the CPU."""


def view_of(
    image: DataNode,
    params: Params,
    *,
    in_source_space: bool,
    early: Callable[[DataNode], DataNode] | None = None,
) -> DataNode:
    """Make one view: crop, flip, blur, and in source space also jitter, gray and solarize.

    In view space `colour.colour_normalized` does the last three later; they commute with the blur.
    `early` is a shift that acts before jitter and blur, in view space only.
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
    """Decode image files to uint8 HWC; chroma is interpolated as libjpeg does, also on the GPU."""
    return fn.decoders.image(
        encoded,
        device="mixed" if device == "gpu" else "cpu",
        output_type=types.RGB if channels == 3 else types.GRAY,
        jpeg_fancy_upsampling=True,
    )


def resize(image: DataNode, size: DataNode | list[int]) -> DataNode:
    """Resize to a height and width: bicubic, antialiased; a negative width mirrors the image."""
    return fn.resize(image, size=size, interp_type=types.INTERP_CUBIC, antialias=True)


def colour(view: DataNode, params: Params) -> DataNode:
    """Apply jitter and gray: two affine maps of the pixels and their mean; see `colour.py`."""
    for number in range(2):
        mean = fn.reductions.mean(view, axes=[0, 1], keep_dims=True)
        of_mean = fn.coord_transform(mean, M=params[f"of_mean_{number}"])
        of_pixel = fn.coord_transform(view, M=params[f"of_pixel_{number}"], dtype=types.FLOAT)
        view = fn.cast(of_pixel + of_mean, dtype=types.UINT8)
    return view


def blur(view: DataNode, params: Params) -> DataNode:
    """Blur by a kernel along the columns and one along the rows; edge pixels are repeated."""
    for name in ("blur_down", "blur_across"):
        kernel = params[name].gpu() if view.device == "gpu" else params[name]
        view = fn.filter(view, kernel, border="clamp")
    return view


def solarize(view: DataNode, chosen: DataNode) -> DataNode:
    """Invert the levels of 128 and more if `chosen` is True."""
    if chosen:
        view = fn.lookup_table(view, keys=list(range(256)), values=SOLARIZED, dtype=types.UINT8)
    return view


def normalize(view: DataNode, channels: int) -> DataNode:
    """Normalise to float32 [3, H, W] by ImageNet's statistics; gray is repeated three times."""
    if channels == 1:
        view = fn.color_space_conversion(view, image_type=types.GRAY, output_type=types.RGB)
    return fn.crop_mirror_normalize(
        view, dtype=types.FLOAT, output_layout="CHW", mean=list(RGB_MEAN), std=list(RGB_STD)
    )
