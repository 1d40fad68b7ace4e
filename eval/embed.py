"""Images to features: one row an image, in the order of the ids.

Legend: B batch, G view size in pixels, N images of the set, d feature width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shards.cli import UserError
from shards.reader import ShardSet

Precision = Literal["fp32", "bf16"]
PIXEL_CHUNK = 4096
IDS_NAMED = 5


@torch.inference_mode()
def embed(
    backbone: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    precision: Precision = "fp32",
    *,
    samples: int,
) -> Tensor:
    """Features of every image that the loader yields, each id exactly once.

    Args:
        backbone: float32 [B,3,G,G] -> [B,d]; it is put into eval mode.
        loader: yields ids (int64 [B], CPU) and images (float32 [B,3,G,G], normalised, on `device`),
            in any order.
        device: where the backbone and the images are.
        precision: "fp32", or "bf16" for autocast in the backbone.
        samples: N, the number of images that the set has; ids are 0 .. N-1.

    Returns:
        float32 [N,d] on `device`; row i is the feature of id i.

    Raises:
        UserError: an id is missing, is not in 0 .. N-1, or came more than once.
        ValueError: the backbone does not return [B,d], or the precision is unknown.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}, expected 'fp32' or 'bf16'")
    backbone.eval()
    id_parts: list[Tensor] = []
    feature_parts: list[Tensor] = []
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for ids, images in loader:
            features = backbone(images)
            if features.ndim != 2 or len(features) != len(ids):
                raise ValueError(f"backbone returned {list(features.shape)} for {len(ids)} images")
            id_parts.append(ids.cpu())
            feature_parts.append(features.float())
    ids = torch.cat(id_parts) if id_parts else torch.empty(0, dtype=torch.int64)
    _check_each_once(ids, samples)
    if samples == 0:
        return torch.empty((0, 0), device=device)
    return torch.cat(feature_parts)[torch.argsort(ids).to(device)]


def pixel_features(shard_set: ShardSet) -> Tensor:
    """Raw pixels as features, for the pixel-cosine baseline.

    Args:
        shard_set: an open set of N images, H x W x C.

    Returns:
        float32 [N, H*W*C] on the CPU, in [0, 1], in id order. An all-black image, whose cosine is
        undefined, counts as a uniform gray one.
    """
    count, shape = len(shard_set), shard_set.manifest.sample_shape
    features = torch.empty((count, int(np.prod(shape))), dtype=torch.float32)
    for first in range(0, count, PIXEL_CHUNK):
        ids = np.arange(first, min(first + PIXEL_CHUNK, count), dtype=np.int64)
        images = np.ascontiguousarray(shard_set.read(ids))  # uint8 [b,H,W,C]
        features[first : first + len(ids)] = torch.from_numpy(images).flatten(1)
    features[~features.any(dim=1)] = 1
    return features.div_(255)


def _check_each_once(ids: Tensor, samples: int) -> None:
    outside = ids[(ids < 0) | (ids >= samples)]
    if len(outside):
        raise UserError(f"the loader gave ids outside 0..{samples - 1}: {_first(outside)}")
    times = torch.bincount(ids, minlength=samples)
    if (times == 0).any():
        raise UserError(f"the loader left out ids {_first((times == 0).nonzero())} of {samples}")
    if (times > 1).any():
        raise UserError(f"the loader gave ids more than once: {_first((times > 1).nonzero())}")


def _first(ids: Tensor) -> str:
    shown = ids.flatten().tolist()
    return ", ".join(map(str, shown[:IDS_NAMED])) + (", ..." if len(shown) > IDS_NAMED else "")
