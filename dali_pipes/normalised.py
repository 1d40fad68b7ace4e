"""Normalised views: their conversion from and to levels of 0..255, and operations on them.

Views are normalised with ImageNet's mean and standard deviation. No function here waits for a GPU,
except `levels_of`: constants are copied to the GPU once, and other values are copied without
waiting.

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
"""The difference in a normalised view that corresponds to one level of 0..255, per channel."""

CHUNK_LEVELS = {"cpu": 2**18, "cuda": 2**40}
"""The number of pixel values that are processed at a time, per type of device. On a CPU this many
float32 values fit into the cache; on a GPU there is no limit."""


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a tensor with constant values, float32 [len(values)], on a device.

    The tensor is cached and shared by all callers, so it must not be changed.
    """
    return torch.tensor(values, device=device)


def normalize(levels: Tensor, out: Tensor) -> None:
    """Normalise views and write the result to `out`.

    Args:
        levels: The views in levels, uint8 [n, s, s, 1 or 3]. Gray is repeated for three channels.
        out: The result, [n, s, s, 3] of a float dtype.
    """
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
    """Return the levels of normalised views: [..., 3, s, s] -> [..., s, s, 3], not rounded."""
    pixels = views.float().cpu().movedim(-3, -1).numpy()
    return pixels * np.array(RGB_STD) + np.array(RGB_MEAN)


def clip_and_solarize_(views: Tensor, solarize: np.ndarray) -> None:
    """Clip normalised views to the range from black to white, and solarize some views, in place.

    Solarization inverts each level of 128 and more. These are the levels that are larger than their
    inverse, so the result is the smaller of the level and its inverse.

    Args:
        views: The views, [n, 3, ...]; they are changed.
        solarize: bool [n]: True for the views that are solarized.
    """
    solarized = to_device(np.flatnonzero(solarize), views.device)
    for channel, (black, white) in enumerate(zip(BLACK, WHITE, strict=True)):
        levels = views[:, channel].clamp_(black, white)
        if len(solarized):
            chosen = levels.index_select(0, solarized)
            levels[solarized] = torch.minimum(chosen, black + white - chosen)
