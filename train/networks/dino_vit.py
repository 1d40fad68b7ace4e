"""timm's ViT with the position grid as DINO's code resizes it.

Legend: n views, d embedding size.
"""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import interpolate

CLASS_TOKEN_STD = 0.02
"""Deviation of the class token at the start in DINO's code; timm's is 1e-6."""


class DinoViT(VisionTransformer):
    """A ViT with a class token and learned positions, for views of any number of whole patches."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patches [n, h, w, d] -> tokens [n, 1 + h w, d] that know their places."""
        assert self.cls_token is not None and self.pos_embed is not None
        # Not len(x): an export would take it for a constant.
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        tokens = torch.cat([cls, x.flatten(1, 2)], dim=1)
        height, width = x.shape[1:3]
        return self.pos_drop(tokens + dino_positions(self.pos_embed, (height, width)))


def dino_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Positions [1, 1 + g g, d], class token first -> [1, 1 + h w, d] for `size` = (h, w).

    The grid is resized by a bicubic filter that is as wide whatever the scale (timm's is
    antialiased), and the scale is that to a grid of h + 0.1 and w + 0.1.
    """
    side = math.isqrt(positions.shape[1] - 1)
    if size == (side, side):
        return positions
    grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    # DINO adds the 0.1 lest a rounded scale give a row too few, and it moves all samples a little.
    scale = ((size[0] + 0.1) / side, (size[1] + 0.1) / side)
    resized = interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
