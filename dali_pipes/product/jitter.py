"""Colour jitter of many views at once. Each view has its own factors and order of operations.

Legend: n views, C channels (3, or 1 for gray images), P pixels of a crop with its padding.

Brightness, contrast and saturation have a common form, with the factor f and the luma Y:

    brightness  x <- f x
    contrast    x <- f x + (1 - f) mean(Y)
    saturation  x <- f x + (1 - f) Y

So the first pass over the pixels applies the first operation of every view, although the views may
have different first operations. The next pass applies the second operation, and so on. In each
pass, the hue is turned, exactly as in HSV, only for the views whose operation in this pass is the
hue. Levels are in the range 0..1 and are clipped after each operation, as in torchvision.
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


def jitter_(pixels: Tensor, weights: Tensor, params: ViewParams) -> Tensor:
    """Apply colour jitter and then gray, in place.

    Args:
        pixels: The levels of the crops, float32 [n, C, P], in the range 0..1; they are changed.
        weights: The weights for the mean over a crop, float32 [n, P]: 1 / (number of pixels of the
            crop) inside the crop, and 0 in its padding.
        params: The parameters of the views, with the shape [n].

    Returns:
        The tensor `pixels`. After the last operation it is not clipped; the caller clips the
        resized view instead. This is closer to the result of jittering the resized view.
    """
    device = pixels.device
    ones = np.ones_like(params.brightness)
    saturation, turn = params.saturation, params.hue_deg / np.float32(SEXTANT_DEG)
    if pixels.shape[1] == 1:  # gray images have no saturation and no hue
        saturation, turn = ones, np.zeros_like(turn)
    by_operation = np.stack([params.brightness, params.contrast, saturation, ones], axis=1)
    order = params.jitter_order.astype(np.int64)
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
        rows = _rows(params.gray, device)
        levels = luma(pixels.index_select(0, rows).clamp_(0, 1))
        pixels.index_copy_(0, rows, levels[:, None].expand(-1, 3, -1))
    return pixels


def luma(pixels: Tensor) -> Tensor:
    """Return the luma of each pixel as a new tensor: [n, C, P] -> [n, P]."""
    if pixels.shape[1] == 1:
        return pixels[:, 0].clone()
    red, green, blue = LUMA
    result = pixels[:, 0] * red
    return result.add_(pixels[:, 1], alpha=green).add_(pixels[:, 2], alpha=blue)


def turn_hue(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of pixels in HSV.

    Let V be the largest of the three levels of a pixel, C the difference between the largest and
    the smallest level, and h the turned hue in sextants. Then red, green and blue are
    V - C clamp(2 - |(h + k) mod 6 - 2|, 0, 1) for k = 5, 3 and 1. This formula is equal to the six
    cases of the usual conversion.

    Args:
        pixels: RGB levels in the range 0..1, [n, 3, P].
        turn: The angles in sextants of 60 degrees, [n, 1].

    Returns:
        The RGB levels of the turned pixels, [n, 3, P].
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
    """Return the indexes at which `chosen` is True, as a tensor on a device.

    The indexes are found on the host, so nothing waits for the device.
    """
    return to_device(np.flatnonzero(chosen), device)


def _column(values: np.ndarray, device: torch.device) -> Tensor:
    return to_device(values.astype(np.float32)[:, None], device)
