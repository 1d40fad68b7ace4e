"""The slow reference: it makes views with Pillow and torchvision, one image at a time.

The reference gets the parameters of each view. Every engine is compared with it (`python -m
dali_pipes.parity`). Images and views are uint8 [H, W, C] with C = 1 or 3 channels. "Levels" are
float32 arrays of the same shape, with values from 0 to 255.

The operations are applied in this order: crop, resize, flip, early shift, jitter in its drawn
order, gray, blur, solarization (docs on the method, section 2).

With `arithmetic="exact"`, Pillow resizes and torchvision jitters floats. The levels are clipped
after each operation. They are rounded once, before the blur, because Pillow blurs only whole
levels. With `arithmetic="pillow"`, all operations work on whole levels. Then the resize rounds
twice, and each of Pillow's enhancers truncates, so the view is about half a level too dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter1d
from torchvision.transforms.v2 import functional as tv  # type: ignore[import-untyped]

from dali_pipes.batch import RGB_MEAN, RGB_STD
from dali_pipes.shifts.shift import Params
from dali_pipes.view_params import JITTER, ViewParams

Arithmetic = Literal["exact", "pillow"]

SOLARIZE_FROM = 128
"""The smallest level that solarization inverts. DINO and Pillow have the same threshold."""


def reference_view(
    image: np.ndarray,
    params: ViewParams,
    side_px: int,
    arithmetic: Arithmetic = "exact",
    early: Params | None = None,
) -> np.ndarray:
    """Make one view of an image.

    Args:
        image: The input image, uint8 [H, W, C].
        params: The parameters of this view, without a leading axis (such as `params[i]`).
        side_px: The side of the view, in pixels.
        arithmetic: "exact" = resize, jitter and gray work on floats; "pillow" = all operations work
            on whole levels.
        early: The parameters of a shift that acts before the jitter; None if there is none.

    Returns:
        The view, uint8 [side_px, side_px, C].
    """
    resize = crop_resize_levels if arithmetic == "exact" else crop_resize
    view = resize(image, params.crop_start, params.crop_shape, side_px)
    if params.flip:
        view = flip(view)
    if early is not None:
        view = shifted(view, early)
    view = jitter(view, params) if arithmetic == "exact" else pillow_jitter(view, params)
    view = blur(view, float(params.blur_sigma_px))
    return solarize(view) if params.solarize else view


def reference_views(
    images: np.ndarray,
    params: ViewParams,
    side_px: int,
    arithmetic: Arithmetic = "exact",
    early: Params | None = None,
) -> np.ndarray:
    """Make one view of each image, uint8 [B, H, W, C]. Returns uint8 [B, side_px, side_px, C].

    The arguments are those of `reference_view`, but the arrays of parameters have a leading axis B.
    """
    return np.stack(
        [
            reference_view(image, params[i], side_px, arithmetic, early and _row(early, i))
            for i, image in enumerate(images)
        ]
    )


def crop_resize(
    image: np.ndarray, crop_start: np.ndarray, crop_shape: np.ndarray, side_px: int
) -> np.ndarray:
    """Crop an image and resize the crop with Pillow's bicubic filter, on whole levels.

    `crop_start` is (top, left) and `crop_shape` is (height, width), in pixels. Returns uint8
    [side_px, side_px, C].
    """
    (top, left), (height, width) = crop_start.tolist(), crop_shape.tolist()
    crop = _picture(image).crop((left, top, left + width, top + height))
    return _array(crop.resize((side_px, side_px), Image.Resampling.BICUBIC))


def crop_resize_levels(
    image: np.ndarray, crop_start: np.ndarray, crop_shape: np.ndarray, side_px: int
) -> np.ndarray:
    """Crop and resize an image as `crop_resize` does, but on floats.

    Returns float32 [side_px, side_px, C], clipped to 0..255 but not rounded.
    """
    (top, left), (height, width) = crop_start.tolist(), crop_shape.tolist()
    crop = image[top : top + height, left : left + width].astype(np.float32)
    size, filter_ = (side_px, side_px), Image.Resampling.BICUBIC
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(size, filter_))
        for channel in np.moveaxis(crop, -1, 0)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def flip(view: np.ndarray) -> np.ndarray:
    """Mirror a view left to right."""
    return np.ascontiguousarray(view[:, ::-1])


def jitter(view: np.ndarray, params: ViewParams) -> np.ndarray:
    """Apply the four operations of colour jitter in their drawn order, and then gray, on floats.

    The levels are rounded once, at the end. Returns uint8 [H, W, C].
    """
    levels = view.astype(np.float32)
    for name, value in _changes(params):
        levels = change_levels(name, levels, value)
    if params.gray:
        levels = gray(levels)
    return np.rint(levels).astype(np.uint8)


def pillow_jitter(view: np.ndarray, params: ViewParams) -> np.ndarray:
    """Apply colour jitter and gray as `jitter` does, but with Pillow's enhancers, on whole levels.

    Torchvision uses these enhancers for Pillow images. Returns uint8 [H, W, C].
    """
    picture = _picture(view)
    for name, value in _changes(params):
        picture = CHANGES[name](picture, value)
    if params.gray and picture.mode == "RGB":
        picture = picture.convert("L").convert("RGB")
    return _array(picture)


def _changes(params: ViewParams) -> list[tuple[str, float]]:
    """Return the name and value of each jitter operation that has an effect, in the drawn order."""
    values = {
        "brightness": float(params.brightness),
        "contrast": float(params.contrast),
        "saturation": float(params.saturation),
        "hue": float(params.hue_deg),
    }
    names = [JITTER[number] for number in params.jitter_order]
    return [(name, values[name]) for name in names if values[name] != NEUTRAL[name]]


def change_levels(name: str, levels: np.ndarray, value: float) -> np.ndarray:
    """Apply one of `CHANGES` to levels, and clip them."""
    image = torch.from_numpy(levels / np.float32(255)).permute(2, 0, 1)
    return CHANGES[name](image, value).permute(1, 2, 0).numpy() * np.float32(255)


def gray(levels: np.ndarray) -> np.ndarray:
    """Replace each channel with the luma, 0.299 R + 0.587 G + 0.114 B (as Pillow's mode "L")."""
    if levels.shape[-1] == 1:
        return levels
    luma = levels @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma[..., None].repeat(3, axis=-1)


def blur(view: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur a view with Pillow's Gaussian blur.

    The blur consists of three box filters that repeat the border pixels. `sigma_px` = 0 means no
    blur. Returns uint8 [H, W, C].
    """
    if sigma_px == 0:
        return view
    return _array(_picture(view).filter(ImageFilter.GaussianBlur(sigma_px)))


def solarize(view: np.ndarray) -> np.ndarray:
    """Invert the levels of 128 and more of a uint8 view. Returns uint8 of the same shape."""
    return np.where(view >= SOLARIZE_FROM, 255 - view, view)


def normalize(view: np.ndarray) -> np.ndarray:
    """Normalise a view, [H, W, C], with ImageNet's mean and standard deviation.

    A gray view is repeated for the three channels. Returns float32 [3, H, W].
    """
    rgb = view.repeat(3 // view.shape[-1], axis=-1)
    return ((rgb - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32).transpose(2, 0, 1)


NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
"""Operation -> the value that changes nothing. With this value the operation is skipped, so that
the image stays the same bit for bit."""

CHANGES: dict[str, Callable[[Any, float], Any]] = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": lambda image, angle_deg: tv.adjust_hue(image, angle_deg / 360),
}
"""Operation -> torchvision's function of an image and a value. For a Pillow image, the function
calls Pillow's enhancer. For a tensor of floats, it computes with floats and clips the result."""


def _row(params: Params, number: int) -> Params:
    return {name: values[number] for name, values in params.items()}


def shifted(view: np.ndarray, params: Params) -> np.ndarray:
    """Apply a shifting transformation (`dali_pipes/shifts/`) to one view.

    The names of the parameters tell which transformation it is. No parameters mean no change.
    """
    match dict(params):
        case {"turns": turns}:
            return turned(view, int(turns))
        case {"angle_deg": angle_deg}:
            return rotated(view, float(angle_deg))
        case {"order": order}:
            return permuted(view, order)
        case {"sigma_px": sigma_px}:
            return strongly_blurred(view, float(sigma_px))
    assert not params
    return view


def turned(view: np.ndarray, turns: int) -> np.ndarray:
    """Turn a view by `turns` quarter turns counter-clockwise."""
    return np.ascontiguousarray(np.rot90(view, turns))


def rotated(view: np.ndarray, angle_deg: float) -> np.ndarray:
    """Rotate a view, uint8 or float32, counter-clockwise about its centre.

    Each pixel takes the value of the nearest pixel of the view, and corners become black.
    """
    channels = [
        np.asarray(Image.fromarray(channel).rotate(angle_deg, Image.Resampling.NEAREST))
        for channel in np.moveaxis(view, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def permuted(view: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Permute the squares of a grid: square k of the result is square `order[k]` of the view.

    The squares are numbered row by row. If `order` has one entry per pixel, single pixels are
    permuted. All channels get the same permutation.
    """
    grid = math.isqrt(len(order))
    square_px = view.shape[0] // grid
    moved = np.empty_like(view)
    for to, of in enumerate(order.tolist()):
        moved[_square(to, grid, square_px)] = view[_square(of, grid, square_px)]
    return moved


def _square(number: int, grid: int, square_px: int) -> tuple[slice, slice]:
    top, left = (square_px * part for part in divmod(number, grid))
    return slice(top, top + square_px), slice(left, left + square_px)


def strongly_blurred(view: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur a view with a Gaussian that is cut off at three standard deviations. Returns uint8.

    Beyond each edge, the view is continued as its mirror image about the centre of the edge pixels.
    """
    radius = math.ceil(3 * sigma_px)
    levels = view.astype(np.float32)
    for axis in (0, 1):
        levels = gaussian_filter1d(levels, sigma_px, axis, mode="mirror", radius=radius)
    return np.rint(levels).astype(np.uint8)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).reshape(picture.height, picture.width, -1)
