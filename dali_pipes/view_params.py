"""The random parameters of views, drawn on the host as a function of seed and step.

The parameters are drawn for the global batch, and each rank takes a slice. So two ranks never use
the same draw. A run that resumes at a step, with any number of ranks, gets the same parameters as a
run that was not interrupted. The view engines draw nothing themselves, so their views can be
compared, pixel by pixel, with any other implementation that gets the same parameters.

The distributions are torchvision's (RandomResizedCrop, ColorJitter, RandomGrayscale); blur and
solarization depend on the kind of view, as in DINO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from dali_pipes.batch import ViewSpec

ViewKind = Literal["global-1", "global-2", "global-any", "local"]
"""The kinds of views. "global-1" and "global-2" are the two positive global views, which differ in
blur and solarization. "global-any" is a negative global view: with probability 1/2 it is drawn like
"global-1", otherwise like "global-2". "local" is any local view."""

JITTER = ("brightness", "contrast", "saturation", "hue")
"""The operations of colour jitter. `ViewParams.jitter_order` holds indexes in this tuple."""

CROP_TRIES = 10
"""The number of draws that torchvision's RandomResizedCrop tries before it takes a central crop."""


@dataclass(frozen=True)
class ViewParams:
    """The parameters of views.

    In the shapes, [...] stands for [B] (one view of each of B images) or [V, B] (V views of each
    image).
    """

    crop_start: np.ndarray
    """int32 [..., 2]: the top and left edge of the crop, in pixels of the input image."""
    crop_shape: np.ndarray
    """int32 [..., 2]: the height and width of the crop, in pixels of the input image."""
    flip: np.ndarray
    """int32 [...]: 1 if the view is mirrored left to right, otherwise 0."""
    brightness: np.ndarray
    """float32 [...]: the factor of the levels; 1 changes nothing."""
    contrast: np.ndarray
    """float32 [...]: the factor of the differences from the mean luma; 1 changes nothing."""
    saturation: np.ndarray
    """float32 [...]: the factor of the differences from the luma of each pixel; 1 changes nothing.
    """
    hue_deg: np.ndarray
    """float32 [...]: the angle by which the hue is turned, in degrees; 0 changes nothing."""
    jitter_order: np.ndarray
    """uint8 [..., 4]: the operations of colour jitter in the order in which they are applied, as
    indexes in `JITTER`."""
    gray: np.ndarray
    """bool [...]: True if the view becomes gray, after the jitter."""
    blur_sigma_px: np.ndarray
    """float32 [...]: the standard deviation of the blur, in pixels of the view; 0 means no blur."""
    solarize: np.ndarray
    """bool [...]: True if levels of 128 and more are inverted."""

    def __getitem__(self, part: int | slice | np.ndarray | tuple) -> ViewParams:
        """Return the parameters of some views: every array is indexed with `part`."""
        return ViewParams(*(getattr(self, field.name)[part] for field in fields(self)))

    def flatten(self) -> ViewParams:
        """Return the parameters as arrays [V * B, ...] instead of [V, B, ...]."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return ViewParams(*(array.reshape(-1, *array.shape[2:]) for array in arrays))


def join_params(parts: Sequence[ViewParams]) -> ViewParams:
    """Concatenate the parameters of views along the first axis.

    Parts with the shapes [V1, B], [V2, B], ... give [V1 + V2 + ..., B].
    """
    names = [field.name for field in fields(ViewParams)]
    return ViewParams(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def draw_view_params(
    rng: np.random.Generator,
    spec: ViewSpec,
    kind: ViewKind,
    shape: tuple[int, ...],
    image_hw: tuple[int, int],
) -> ViewParams:
    """Draw the parameters of views of one kind.

    Args:
        rng: The random generator.
        spec: The ranges and probabilities.
        kind: The kind of the views.
        shape: The shape of the result, [B] or [V, B] (see `ViewParams`).
        image_hw: The height and width of the input images, in pixels.
    """
    scale = spec.local_scale if kind == "local" else spec.global_scale
    crop_start, crop_shape = draw_crops(rng, shape, image_hw, scale, spec.crop_ratio)
    jitter = rng.random(shape) < spec.jitter_p
    brightness, contrast, saturation, hue_deg = (
        np.where(jitter, rng.uniform(middle - half, middle + half, shape), middle)
        for middle, half in (
            (1.0, spec.brightness),
            (1.0, spec.contrast),
            (1.0, spec.saturation),
            (0.0, spec.hue_deg),
        )
    )
    second = {"global-1": False, "global-2": True, "local": False}.get(kind)
    like_second = rng.random(shape) < 0.5 if second is None else np.full(shape, second)
    blur_p = np.where(like_second, spec.blur_p[1], spec.blur_p[2 if kind == "local" else 0])
    blur = rng.random(shape) < blur_p
    return ViewParams(
        crop_start=crop_start,
        crop_shape=crop_shape,
        flip=(rng.random(shape) < spec.flip_p).astype(np.int32),
        brightness=brightness.astype(np.float32),
        contrast=contrast.astype(np.float32),
        saturation=saturation.astype(np.float32),
        hue_deg=hue_deg.astype(np.float32),
        jitter_order=rng.random((*shape, len(JITTER))).argsort(-1).astype(np.uint8),
        gray=rng.random(shape) < spec.gray_p,
        blur_sigma_px=np.where(blur, rng.uniform(*spec.blur_sigma_px, shape), 0).astype(np.float32),
        solarize=like_second & (rng.random(shape) < spec.solarize_p),
    )


def draw_crops(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    image_hw: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw crop boxes from the distribution of torchvision's RandomResizedCrop.

    Args:
        rng: The random generator.
        shape: The shape of the result, such as [V, B].
        image_hw: The height and width of the input images, in pixels.
        scale: The range of a crop's area, as a fraction of the image's area.
        ratio: The range of a crop's width divided by its height.

    Returns:
        The top and left edge of each crop, int32 [*shape, 2], and the height and width of each
        crop, int32 [*shape, 2], in pixels of the input image.
    """
    height, width = image_hw
    area = height * width * rng.uniform(*scale, (*shape, CROP_TRIES))
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(rng.uniform(*log_ratio, (*shape, CROP_TRIES)))
    tries = np.rint(np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1))
    fits = ((tries >= 1) & (tries <= (height, width))).all(-1)
    first = np.take_along_axis(tries, fits.argmax(-1)[..., None, None], axis=-2)[..., 0, :]
    drawn = fits.any(-1, keepdims=True)
    crop = np.where(drawn, first, _central_crop_shape(height, width, ratio))
    room = np.array([height, width]) - crop
    start = np.where(drawn, np.floor(rng.random((*shape, 2)) * (room + 1)), room // 2)
    return start.astype(np.int32), crop.astype(np.int32)


def _central_crop_shape(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width
