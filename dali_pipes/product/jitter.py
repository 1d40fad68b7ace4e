"""Colour jitter of many views at once, each with its own factors and its own order of operations.

Legend: n views, C channels (3, or 1 of gray images), P pixels of a crop, padding included.

Brightness, contrast and saturation are one expression, with factor f and luma Y:

    brightness  x <- f x
    contrast    x <- f x + (1 - f) mean(Y)
    saturation  x <- f x + (1 - f) Y

so that the operation which is a view's first, second, third or fourth can be applied to all views
in one pass, whatever it is. Hue turns in exact HSV, on those views whose turn it is. Levels are
0..1 and clipped after each operation, as in torchvision.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import LUMA
from dali_pipes.normalised import constant
from dali_pipes.transfer import to_device
from dali_pipes.view_params import JITTER, ViewParams

CONTRAST, SATURATION, HUE = (JITTER.index(name) for name in ("contrast", "saturation", "hue"))
SEXTANT_DEG = 60.0


def jitter_(pixels: Tensor, weights: Tensor, draw: ViewParams) -> Tensor:
    """Jitter, then gray, in place.

    Args:
        pixels: float32 [n, C, P], 0..1.
        weights: float32 [n, P]: 1 / pixels of the crop within it, 0 in its padding.
        draw: parameters [n].

    Returns:
        `pixels`. Not clipped after the last operation: the finished view is, and to resize before
        that is nearer to jittering the resized view.
    """
    device = pixels.device
    ones = np.ones_like(draw.brightness)
    saturation, turn = draw.saturation, draw.hue_deg / np.float32(SEXTANT_DEG)
    if pixels.shape[1] == 1:  # no colour to change
        saturation, turn = ones, np.zeros_like(turn)
    by_operation = np.stack([draw.brightness, draw.contrast, saturation, ones], axis=1)
    order = draw.jitter_order.astype(np.int64)
    factors = np.take_along_axis(by_operation, order, axis=1)
    for place, (operation, factor) in enumerate(zip(order.T, factors.T, strict=True)):
        if place:
            pixels.clamp_(0, 1)
        rest = luma(pixels)
        means = (rest * weights).sum(1, keepdim=True)
        means *= _column(np.where(operation == CONTRAST, 1 - factor, 0), device)
        of_luma = _column(np.where(operation == SATURATION, 1 - factor, 0), device)
        torch.addcmul(means, rest, of_luma, out=rest)
        torch.addcmul(rest[:, None], pixels, _column(factor, device)[..., None], out=pixels)
        is_hue = (operation == HUE) & (turn != 0)
        if is_hue.any():
            rows = _rows(is_hue, device)
            turned = turn_hue(pixels.index_select(0, rows), _column(turn[is_hue], device))
            pixels.index_copy_(0, rows, turned)
    if pixels.shape[1] == 3:
        rows = _rows(draw.gray, device)
        levels = luma(pixels.index_select(0, rows).clamp_(0, 1))
        pixels.index_copy_(0, rows, levels[:, None].expand(-1, 3, -1))
    return pixels


def luma(pixels: Tensor) -> Tensor:
    """[n, C, P] -> new [n, P]."""
    if pixels.shape[1] == 1:
        return pixels[:, 0].clone()
    red, green, blue = LUMA
    result = pixels[:, 0] * red
    return result.add_(pixels[:, 1], alpha=green).add_(pixels[:, 2], alpha=blue)


def turn_hue(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue in HSV by `turn` [n, 1] sextants of 60 degrees: [n, 3, P], 0..1 -> the same.

    With V the largest of the three levels and C its distance from the smallest, and the hue h in
    sextants, the levels of red, green and blue are V - C clamp(2 - |(h + n) mod 6 - 2|, 0, 1) for
    n = 5, 3 and 1: what the six cases of the usual conversion amount to.
    """
    red, green, blue = pixels.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    chroma = largest - torch.minimum(torch.minimum(red, green), blue)
    from_blue = torch.add(red - green, chroma, alpha=4)
    from_green = torch.add(blue - red, chroma, alpha=2)
    hue = torch.where(green == largest, from_green, from_blue)
    hue = torch.where(red == largest, green - blue, hue)
    hue = hue.div_(chroma.clamp_min(1e-8)).add_(turn)
    distance = hue[:, None] + constant((5.0, 3.0, 1.0), pixels.device)[:, None]
    distance.sub_(torch.floor(distance / 6), alpha=6)
    distance.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(largest[:, None], distance, chroma[:, None], value=-1)


def _rows(chosen: np.ndarray, device: torch.device) -> Tensor:
    """The places where `chosen`, found on the host so that no device is waited for."""
    return to_device(np.flatnonzero(chosen), device)


def _column(values: np.ndarray, device: torch.device) -> Tensor:
    return to_device(values.astype(np.float32)[:, None], device)
