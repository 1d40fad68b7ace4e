"""Colour jitter and gray as affine maps of the pixels.

Let x be a pixel and m the mean pixel of the view. Each of the operations brightness, contrast,
saturation, hue and gray is a map of this form, and so is any sequence of these operations:

    x  ->  A x + D m        A and D are matrices [C, C]

Two such maps are applied to each view, and the levels are clipped after each map. Brightness and
contrast, which cause most clipping, are never in the same map. The result differs in two ways from
applying the operations one by one: there are fewer clips, and the hue is turned in YIQ instead of
HSV.

Legend: B images, C channels (3, or 1 for gray images), s the side of a view in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import BLACK, LUMA
from dali_pipes.normalised import CHUNK_LEVELS, PER_LEVEL, clip_and_solarize_, constant
from dali_pipes.transfer import to_device
from dali_pipes.view_params import JITTER, ViewParams

YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
RGB_OF_YIQ = np.linalg.inv(YIQ)


@dataclass(frozen=True)
class ColourMap:
    """Affine maps x -> A x + D m of colours, one map per view."""

    of_pixel: np.ndarray
    """float32 [..., C, C]: the matrices A, which act on a pixel."""
    of_mean: np.ndarray
    """float32 [..., C, C]: the matrices D, which act on the mean pixel of the view."""


def colour_maps(params: ViewParams, channels: int) -> tuple[ColourMap, ColourMap]:
    """Return the two affine maps that together apply jitter and gray, for each view.

    The first map of the pair is applied first.
    """
    luma = np.array(LUMA) if channels == 3 else np.ones(1)
    to_luma = np.broadcast_to(luma, (channels, channels))
    keep = np.eye(channels)
    factors = {name: getattr(params, name)[..., None, None] for name in JITTER[:3]}
    operations = {
        "brightness": factors["brightness"] * keep,
        "contrast": factors["contrast"] * keep,
        "saturation": factors["saturation"] * (keep - to_luma) + to_luma,
        "hue": hue_turn(params.hue_deg) if channels == 3 else keep,
    }
    order = np.moveaxis(params.jitter_order, -1, 0)[..., None, None]
    places = [(order == JITTER.index(name)).argmax(0) for name in ("brightness", "contrast")]
    second_starts = np.maximum(*places)
    of_pixel = np.broadcast_to(keep, (*params.gray.shape, channels, channels))
    of_mean = np.zeros_like(of_pixel)
    first_of_pixel, first_of_mean = of_pixel, of_mean
    for place, operation in enumerate(order):
        starts = second_starts == place
        first_of_pixel = np.where(starts, of_pixel, first_of_pixel)
        first_of_mean = np.where(starts, of_mean, first_of_mean)
        of_pixel, of_mean = np.where(starts, keep, of_pixel), np.where(starts, 0, of_mean)
        turn = np.choose(operation, [operations[name] for name in JITTER])
        rest = np.where(operation == JITTER.index("contrast"), 1 - factors["contrast"], 0)
        of_mean = turn @ of_mean + rest * (to_luma @ (of_pixel + of_mean))
        of_pixel = turn @ of_pixel
    last = np.where(params.gray[..., None, None], to_luma, keep)
    return (
        ColourMap(first_of_pixel.astype(np.float32), first_of_mean.astype(np.float32)),
        ColourMap((last @ of_pixel).astype(np.float32), (last @ of_mean).astype(np.float32)),
    )


def hue_turn(angle_deg: np.ndarray) -> np.ndarray:
    """Return the RGB matrices that turn the hue, which they do by rotating the chroma in YIQ.

    Args:
        angle_deg: The angles in degrees, [...].

    Returns:
        float64 [..., 3, 3].
    """
    angle = np.deg2rad(angle_deg)
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., 0, 0] = 1
    rotation[..., 1, 1] = rotation[..., 2, 2] = np.cos(angle)
    rotation[..., 1, 2] = np.sin(angle)
    rotation[..., 2, 1] = -np.sin(angle)
    return RGB_OF_YIQ @ rotation @ YIQ


def colour_normalized(levels: Tensor, params: ViewParams, out: Tensor) -> None:
    """Apply jitter, gray, solarization and normalisation to views, and write the result to `out`.

    The normalisation is computed together with the second colour map.

    Args:
        levels: Views that are already cropped, resized and blurred, uint8 [B, s, s, C], contiguous.
        params: The parameters of the views, with the shape [B].
        out: The result, [B, 3, s, s] of a float dtype, contiguous.
    """
    device = out.device
    scale, offset = constant(PER_LEVEL, device)[:, None], constant(BLACK, device)[:, None]
    first, second = (
        [to_device(array, device) for array in (maps.of_pixel, maps.of_mean)]
        for maps in colour_maps(params, levels.shape[-1])
    )
    second = [array.expand(-1, 3, -1) * scale for array in second]
    images = max(1, CHUNK_LEVELS[device.type] // out[0].numel())
    for start in range(0, len(out), images):
        part = slice(start, start + images)
        pixels = levels[part].flatten(1, 2).mT.to(torch.float32).contiguous()  # [n, C, s * s]
        of_pixel, of_mean = (array[part] for array in first)
        pixels = torch.baddbmm(of_mean @ _mean(pixels), of_pixel, pixels).clamp_(0, 255)
        of_pixel, of_mean = (array[part] for array in second)
        finished = out[part].flatten(2)
        views = finished
        if out.dtype != torch.float32:
            views = torch.empty(finished.shape, device=device)
        torch.baddbmm(offset + of_mean @ _mean(pixels), of_pixel, pixels, out=views)
        clip_and_solarize_(views, params.solarize[part])
        if views is not finished:
            finished.copy_(views)


def _mean(pixels: Tensor) -> Tensor:
    """Return the mean pixel of each view: [n, C, number of pixels] -> [n, C, 1]."""
    return pixels.mean(2, keepdim=True)
