"""Images -> features: one row per image, in the order of the ids.

Legend: B batch size, G side of a view in pixels, N images of the set, d feature width.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from dali_pipes.eval_loader import ImageSource
from eval.config import Precision
from eval.features.full_float32 import full_float32
from shards.errors import UserError, few

PIXEL_CHUNK = 4096
"""Number of images that are read at a time."""


@torch.inference_mode()
def embed(
    backbone: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    precision: Precision = "fp32",
    *,
    ids: range,
) -> Tensor:
    """Return the features of the images that the loader yields. Each id must come exactly once.

    Args:
        backbone: network from float32 [B,3,G,G] to [B,d]. It is put into eval mode.
        loader: yields ids (int64 [B], CPU) and images (float32 [B,3,G,G], normalised, on `device`),
            in any order.
        device: device of the backbone and the images.
        precision: "fp32" means float32 without TF32 (`full_float32.py`). "bf16" means autocast to
            bfloat16 in the backbone.
        ids: the N consecutive ids that the loader must yield.

    Returns:
        float32 [N,d] on `device`. Row i is the feature of ids[i]. The shape is [0,0] if N = 0.

    Raises:
        UserError: the loader left out an id, yielded an id more than once, or yielded an id outside
            `ids`.
        ValueError: the backbone does not return [B,d], or the precision is unknown.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}, expected 'fp32' or 'bf16'")
    backbone.eval()
    id_parts = [torch.empty(0, dtype=torch.int64)]
    feature_parts: list[Tensor] = []
    with full_float32(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for batch_ids, images in loader:
            features = backbone(images)
            if features.ndim != 2 or len(features) != len(batch_ids):
                shape = list(features.shape)
                raise ValueError(f"backbone returned {shape} for {len(batch_ids)} images")
            id_parts.append(batch_ids.cpu())
            feature_parts.append(features.float())
    seen = torch.cat(id_parts)
    _check_each_once(seen, ids)
    if not feature_parts:
        return torch.empty((0, 0), device=device)
    return torch.cat(feature_parts)[torch.argsort(seen).to(device)]


def pixel_features(images: ImageSource, ids: range) -> Tensor:
    """Return raw pixels as features, for the pixel-cosine baseline.

    An all-black image would have no direction, and its cosines would be undefined. Such an image
    gets the feature of a uniformly gray image.

    Args:
        images: source of images with H x W x C pixels.
        ids: ids of the N images to read.

    Returns:
        float32 [N, H*W*C] on the CPU, in [0, 1], in the order of `ids`. The shape is [0,0] if N =
        0.
    """
    parts = [torch.empty((0, 0))]
    for first in range(0, len(ids), PIXEL_CHUNK):
        pixels = images.read(np.array(ids[first : first + PIXEL_CHUNK]))  # uint8 [b,H,W,C]
        parts.append(torch.from_numpy(np.ascontiguousarray(pixels)).flatten(1).float())
    features = torch.cat(parts[1:] or parts)
    features[~features.any(dim=1)] = 1
    return features.div_(255)


def _check_each_once(seen: Tensor, ids: range) -> None:
    outside = seen[(seen < ids.start) | (seen >= ids.stop)]
    if len(outside):
        raise UserError(f"the loader gave ids outside {_span(ids)}: {_first(outside)}")
    times = torch.bincount(seen - ids.start, minlength=len(ids))
    if (times == 0).any():
        missing = (times == 0).nonzero() + ids.start
        raise UserError(f"the loader left out ids {_first(missing)} of {_span(ids)}")
    if (times > 1).any():
        repeated = (times > 1).nonzero() + ids.start
        raise UserError(f"the loader gave ids more than once: {_first(repeated)}")


def _span(ids: range) -> str:
    return f"{ids.start}..{ids.stop - 1}"


def _first(ids: Tensor) -> str:
    return few(ids.flatten().tolist())
