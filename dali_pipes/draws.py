"""Every random parameter of a view, drawn on the host from (seed, stream, step) and nothing else.

The draws are made for the global batch and sliced by rank: two ranks never share a draw, a run that
resumes at a step sees what it would have seen, and so does one with another number of ranks. The
graph that consumes them has no randomness of its own, which also makes it comparable, pixel by
pixel, with any other implementation given the same parameters.

The laws are torchvision's (RandomResizedCrop, ColorJitter, RandomGrayscale) and DINO's choice of
blur and solarize per kind of view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from dali_pipes.batch import ViewSpec

ViewKind = Literal["global-1", "global-2", "global-any", "local"]
"""The global views differ in blur and solarize; a negative one is like either, half the time."""

CROP_TRIES = 10
"""Draws before torchvision's RandomResizedCrop falls back to a central crop."""


@dataclass(frozen=True)
class ViewDraw:
    """The parameters of one view for each image of a batch."""

    crop_start: np.ndarray
    """int32 [B, 2]: top, left in source pixels."""
    crop_shape: np.ndarray
    """int32 [B, 2]: height, width in source pixels."""
    flip: np.ndarray
    """int32 [B]: 1 = mirrored left to right."""
    brightness: np.ndarray
    """float32 [B]: factor, 1 = unchanged."""
    contrast: np.ndarray
    """float32 [B]: factor about the mean luma, 1 = unchanged."""
    saturation: np.ndarray
    """float32 [B]: factor, 1 = unchanged, 0 = gray."""
    hue_deg: np.ndarray
    """float32 [B]: angle in degrees (never a fraction of a turn)."""
    blur_sigma_px: np.ndarray
    """float32 [B]: in pixels of the view; 0 = no blur."""
    solarize: np.ndarray
    """bool [B]."""

    def __getitem__(self, part: slice) -> ViewDraw:
        """The parameters of a part of the batch."""
        return ViewDraw(*(getattr(self, field.name)[part] for field in fields(self)))


def draw_view(
    rng: np.random.Generator, spec: ViewSpec, kind: ViewKind, batch: int, source_hw: tuple[int, int]
) -> ViewDraw:
    """Draw one view of each of `batch` images of height, width `source_hw`."""
    scale = spec.local_scale if kind == "local" else spec.global_scale
    start, shape = draw_crop(rng, batch, source_hw, scale, spec.crop_ratio)
    jitter = rng.random(batch) < spec.jitter_p
    brightness, contrast, saturation, hue_deg = (
        np.where(jitter, rng.uniform(middle - half, middle + half, batch), middle)
        for middle, half in (
            (1.0, spec.brightness),
            (1.0, spec.contrast),
            (1.0, spec.saturation),
            (0.0, spec.hue_deg),
        )
    )
    # Gray comes after the jitter and keeps only luma, which hue and saturation do not change.
    saturation = np.where(rng.random(batch) < spec.gray_p, 0.0, saturation)
    second = {"global-1": False, "global-2": True, "local": False}.get(kind)
    like_second = rng.random(batch) < 0.5 if second is None else np.full(batch, second)
    blur_p = np.where(like_second, spec.blur_p[1], spec.blur_p[2 if kind == "local" else 0])
    blur = rng.random(batch) < blur_p
    return ViewDraw(
        crop_start=start,
        crop_shape=shape,
        flip=(rng.random(batch) < spec.flip_p).astype(np.int32),
        brightness=brightness.astype(np.float32),
        contrast=contrast.astype(np.float32),
        saturation=saturation.astype(np.float32),
        hue_deg=hue_deg.astype(np.float32),
        blur_sigma_px=np.where(blur, rng.uniform(*spec.blur_sigma_px, batch), 0).astype(np.float32),
        solarize=like_second & (rng.random(batch) < spec.solarize_p),
    )


def draw_crop(
    rng: np.random.Generator,
    batch: int,
    source_hw: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Crop boxes by the law of torchvision's RandomResizedCrop: start and shape, int32 [B, 2]."""
    height, width = source_hw
    area = height * width * rng.uniform(*scale, (batch, CROP_TRIES))
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(rng.uniform(*log_ratio, (batch, CROP_TRIES)))
    tries = np.rint(np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=-1))
    fits = ((tries >= 1) & (tries <= (height, width))).all(-1)
    first = fits.argmax(1)
    shape = np.where(
        fits.any(1)[:, None],
        tries[np.arange(batch), first],
        _central_crop_shape(height, width, ratio),
    )
    room = np.array([height, width]) - shape
    start = np.where(fits.any(1)[:, None], np.floor(rng.random((batch, 2)) * (room + 1)), room // 2)
    return start.astype(np.int32), shape.astype(np.int32)


def _central_crop_shape(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width
