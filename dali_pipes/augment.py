"""The transformations T as DALI graph functions of one view; one code for the CPU and the GPU.

A view is uint8 HWC with 1 or 3 channels until `normalize`. Units and traps live here: hue in
degrees, contrast about the view's mean luma (DALI's own default is 128), antialiasing always on,
crops cut out before the resize (DALI's region-of-interest resize reads outside of them).

Differences from the Pillow chain, on purpose: jitter in the fixed order brightness, contrast,
saturation, hue; hue by a rotation in YIQ; rounding to levels once instead of after each step.
"""

from __future__ import annotations

from collections.abc import Mapping

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from dali_pipes.batch import RGB_MEAN, RGB_STD

SOLARIZED = [level if level < 128 else 255 - level for level in range(256)]

Inputs = Mapping[str, DataNode]
"""The arrays of a `ViewDraw` as graph nodes, with the blur's sigma and window in graph units."""


def view_of(
    image: DataNode, inputs: Inputs, view_px: int, channels: int, *, in_source_space: bool
) -> DataNode:
    """One view: crop, flip, jitter, gray, blur, solarize (method, section 2), uint8 HWC."""
    view = fn.slice(image, inputs["crop_start"], inputs["crop_shape"], axes=[0, 1])
    if in_source_space:
        view = photometric(view, inputs, channels)
    view = resize(view, view_px)
    if not in_source_space:
        view = photometric(view, inputs, channels)
    view = solarize(view, inputs["solarize"])
    return fn.flip(view, horizontal=inputs["flip"])


def resize(image: DataNode, side_px: int) -> DataNode:
    """Bicubic, antialiased; the aspect ratio is not kept."""
    return fn.resize(image, size=[side_px, side_px], interp_type=types.INTERP_CUBIC, antialias=True)


def photometric(view: DataNode, inputs: Inputs, channels: int) -> DataNode:
    """Jitter, gray and blur."""
    view = brightness_contrast(view, inputs["brightness"], inputs["contrast"], channels)
    if channels == 3:
        view = fn.hsv(view, hue=inputs["hue_deg"], saturation=inputs["saturation"])
    return fn.gaussian_blur(view, sigma=inputs["blur_sigma"], window_size=inputs["blur_window"])


def brightness_contrast(
    view: DataNode, brightness: DataNode, contrast: DataNode, channels: int
) -> DataNode:
    """Scale by `brightness`, then by `contrast` about the mean luma; clipped once.

    Written as an expression because the operator takes its contrast centre only from the CPU.
    """
    luma = view
    if channels == 3:
        luma = fn.color_space_conversion(view, image_type=types.RGB, output_type=types.GRAY)
    centre = fn.reductions.mean(luma)
    levels = view * (brightness * contrast) + centre * (brightness * (1.0 - contrast))
    return fn.cast(levels, dtype=types.UINT8)


def solarize(view: DataNode, chosen: DataNode) -> DataNode:
    """Invert the levels of 128 and more where `chosen`."""
    if chosen:
        view = fn.lookup_table(view, keys=list(range(256)), values=SOLARIZED, dtype=types.UINT8)
    return view


def normalize(view: DataNode, channels: int) -> DataNode:
    """To float32 [3, H, W] with ImageNet's mean and deviation; gray is repeated thrice."""
    if channels == 1:
        view = fn.color_space_conversion(view, image_type=types.GRAY, output_type=types.RGB)
    return fn.crop_mirror_normalize(
        view, dtype=types.FLOAT, output_layout="CHW", mean=list(RGB_MEAN), std=list(RGB_STD)
    )
