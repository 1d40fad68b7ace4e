"""The slow reference: views made by Pillow and torchvision, one image at a time.

It makes a view from given parameters. Every engine is compared with it (`python -m
dali_pipes.parity`). Images are uint8 [H, W, C] with C = 1 or 3; "levels" are float32 of the same
shape in 0..255.

The order is crop, resize, flip, an early shift, jitter in its drawn order, gray, blur, solarize
(method, section 2).

With `arithmetic="exact"` the resize is Pillow's and the jitter torchvision's, both on floats. They
are clipped after each operation, and rounded once, before the blur: Pillow blurs whole levels only.
With `arithmetic="pillow"` all operations work on whole levels. The resize then rounds twice, and
each of Pillow's enhancers truncates, which makes the view about half a level too dark.
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
"""Smallest level that is inverted (the threshold of DINO and of Pillow)."""


def reference_view(
    image: np.ndarray,
    params: ViewParams,
    side_px: int,
    arithmetic: Arithmetic = "exact",
    early: Params | None = None,
) -> np.ndarray:
    """Make one view: uint8 [H, W, C] -> uint8 [side, side, C].

    Args:
        image: The input image.
        params: Parameters of this one view (`params[i]`), without a leading axis.
        side_px: Side of the view.
        arithmetic: "exact" = resize, jitter and gray on floats; "pillow" = all on whole levels.
        early: Parameters of a shift that acts before the jitter.
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
    """Make one view of each image: uint8 [B, H, W, C] -> uint8 [B, side, side, C]."""
    return np.stack(
        [
            reference_view(image, params[i], side_px, arithmetic, early and _row(early, i))
            for i, image in enumerate(images)
        ]
    )


def crop_resize(
    image: np.ndarray, crop_start: np.ndarray, crop_shape: np.ndarray, side_px: int
) -> np.ndarray:
    """Crop the box (top, left), (height, width) and resize it by Pillow's bicubic filter: uint8."""
    (top, left), (height, width) = crop_start.tolist(), crop_shape.tolist()
    crop = _picture(image).crop((left, top, left + width, top + height))
    return _array(crop.resize((side_px, side_px), Image.Resampling.BICUBIC))


def crop_resize_levels(
    image: np.ndarray, crop_start: np.ndarray, crop_shape: np.ndarray, side_px: int
) -> np.ndarray:
    """Do the same on floats, clipped and not rounded: levels."""
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
    """Apply the four operations in their drawn order, then gray; round once: uint8."""
    levels = view.astype(np.float32)
    for name, value in _changes(params):
        levels = change_levels(name, levels, value)
    if params.gray:
        levels = gray(levels)
    return np.rint(levels).astype(np.uint8)


def pillow_jitter(view: np.ndarray, params: ViewParams) -> np.ndarray:
    """Do the same by Pillow's enhancers, as torchvision calls them for a Pillow image: uint8."""
    picture = _picture(view)
    for name, value in _changes(params):
        picture = CHANGES[name](picture, value)
    if params.gray and picture.mode == "RGB":
        picture = picture.convert("L").convert("RGB")
    return _array(picture)


def _changes(params: ViewParams) -> list[tuple[str, float]]:
    """Return the jitter operations that change something, with values, in the drawn order."""
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
    """Replace each channel by the luma, 0.299 R + 0.587 G + 0.114 B (Pillow's "L")."""
    if levels.shape[-1] == 1:
        return levels
    luma = levels @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma[..., None].repeat(3, axis=-1)


def blur(view: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur as Pillow does: three box filters that repeat the border pixels; 0 = none: uint8."""
    if sigma_px == 0:
        return view
    return _array(_picture(view).filter(ImageFilter.GaussianBlur(sigma_px)))


def solarize(view: np.ndarray) -> np.ndarray:
    """Invert the levels of 128 and more: uint8."""
    return np.where(view >= SOLARIZE_FROM, 255 - view, view)


def normalize(view: np.ndarray) -> np.ndarray:
    """Normalise by ImageNet's statistics: [H, W, C] -> float32 [3, H, W]; gray is repeated."""
    rgb = view.repeat(3 // view.shape[-1], axis=-1)
    return ((rgb - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32).transpose(2, 0, 1)


NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
"""Values that change nothing: the operation is skipped, so the image stays equal bit for bit."""

CHANGES: dict[str, Callable[[Any, float], Any]] = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": lambda image, angle_deg: tv.adjust_hue(image, angle_deg / 360),
}
"""Change -> torchvision's function of an image and a value. It calls Pillow's enhancer for a Pillow
image, computes a tensor on floats, and clips after each change."""


def _row(params: Params, number: int) -> Params:
    return {name: values[number] for name, values in params.items()}


def shifted(view: np.ndarray, params: Params) -> np.ndarray:
    """Apply the shifting transformation (`dali_pipes/shifts/`) that has these parameters: uint8."""
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
    """Rotate counter-clockwise about the centre: nearest pixels, black corners; uint8 or levels."""
    channels = [
        np.asarray(Image.fromarray(channel).rotate(angle_deg, Image.Resampling.NEAREST))
        for channel in np.moveaxis(view, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def permuted(view: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Permute the squares of a grid, numbered row by row: square k becomes square `order[k]`.

    With one square for each pixel this is a permutation of pixels. All channels move together.
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
    """Blur by a Gaussian that ends at three deviations; edges mirrored about pixel centres."""
    radius = math.ceil(3 * sigma_px)
    levels = view.astype(np.float32)
    for axis in (0, 1):
        levels = gaussian_filter1d(levels, sigma_px, axis, mode="mirror", radius=radius)
    return np.rint(levels).astype(np.uint8)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).reshape(picture.height, picture.width, -1)
