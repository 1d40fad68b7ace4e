"""Normalised views: conversion from and to levels, and the operations on them.

Views are normalised by ImageNet's mean and standard deviation. Nothing here waits for a GPU:
constants are copied once, other values without waiting.

Legend: n views, s the side of a view in pixels.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import BLACK, RGB_MEAN, RGB_STD, WHITE
from dali_pipes.transfer import to_device

PER_LEVEL = tuple(1 / std for std in RGB_STD)
"""Size of one level in a normalised view, by channel."""

CHUNK_LEVELS = {"cpu": 2**18, "cuda": 2**40}
"""Number of levels that are processed at once: on a CPU, as many as fit its caches in float32."""


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return float32 [len(values)] on a device. The tensor is shared: do not write to it."""
    return torch.tensor(values, device=device)


def normalize(levels: Tensor, out: Tensor) -> None:
    """Normalise levels, uint8 [n, s, s, 1 or 3], into `out` [n, s, s, 3] of a float dtype."""
    side_px = out.shape[1]
    scale = constant(PER_LEVEL, out.device).repeat(side_px)
    offset = constant(BLACK, out.device).repeat(side_px)
    views = max(1, CHUNK_LEVELS[out.device.type] // out[0].numel())
    for chunk, part in zip(levels.split(views), out.split(views), strict=True):
        lines = part.view(-1, 3 * side_px)
        exact = out.dtype == torch.float32
        work = lines if exact else torch.empty(lines.shape, device=out.device)
        work.copy_(chunk.expand(part.shape).reshape(lines.shape))
        torch.addcmul(offset, work, scale, out=work)
        if not exact:
            lines.copy_(work)


def levels_of(views: Tensor) -> np.ndarray:
    """Return the levels [..., s, s, 3] of normalised views [..., 3, s, s], not rounded."""
    pixels = views.float().cpu().movedim(-3, -1).numpy()
    return pixels * np.array(RGB_STD) + np.array(RGB_MEAN)


def clip_and_solarize_(views: Tensor, solarize: np.ndarray) -> None:
    """Clip normalised views [n, 3, ...] to black and white, in place, and solarize some of them.

    Views where `solarize` (bool [n]) is True have their levels of 128 and more inverted. These are
    the levels that are larger than their inverse, so the smaller of both is taken.
    """
    solarized = to_device(np.flatnonzero(solarize), views.device)
    for channel, (black, white) in enumerate(zip(BLACK, WHITE, strict=True)):
        levels = views[:, channel].clamp_(black, white)
        if len(solarized):
            chosen = levels.index_select(0, solarized)
            levels[solarized] = torch.minimum(chosen, black + white - chosen)
