"""A ViT of timm whose position grid is resized as in DINO's code.

Legend: n views, d embedding size.
"""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import interpolate

CLASS_TOKEN_STD = 0.02
"""Standard deviation of the initial class token in DINO's code; in timm it is 1e-6."""


class DinoViT(VisionTransformer):
    """A ViT whose learned positions are resized by `dino_positions` to the patches of a view."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add class token and positions: patches [n, h, w, d] -> tokens [n, 1 + h w, d]."""
        assert self.cls_token is not None and self.pos_embed is not None
        # Not len(x), which an export would turn into a constant.
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        tokens = torch.cat([cls, x.flatten(1, 2)], dim=1)
        height, width = x.shape[1:3]
        return self.pos_drop(tokens + dino_positions(self.pos_embed, (height, width)))


def dino_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize positions [1, 1 + g g, d], class token first, to [1, 1 + h w, d]; `size` = (h, w).

    The filter is bicubic and has the same width at every scale, while timm's filter is
    antialiased. The scale is (h + 0.1) / g and (w + 0.1) / g.
    """
    side = math.isqrt(positions.shape[1] - 1)
    if size == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    # DINO adds 0.1 so that a rounded scale does not give a row too few. All samples move a little.
    scale = ((size[0] + 0.1) / side, (size[1] + 0.1) / side)
    resized = interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
