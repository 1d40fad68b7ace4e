"""DINO's ViT, written from the description of its code, in the dtype of its weights.

Its weights have the same names as in timm, which took them from DINO.

Legend: n views, T tokens, d embedding size, g side of the position grid.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

CUBIC_A = -0.75
"""Coefficient of torch's bicubic interpolation without antialiasing."""


class PublicAttention(nn.Module):
    """Heads of equal width, one linear layer for queries, keys and values, with bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=True)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        of_head = width // self.heads
        outputs = []
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, of_head)
        for head in range(self.heads):
            q, k, v = (parts[:, :, which, head] for which in range(3))
            shares = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(of_head), dim=-1)
            outputs.append(shares @ v)
        return self.proj(torch.cat(outputs, dim=-1))


class PublicBlock(nn.Module):
    """Attention, then an MLP four times as wide; each has a norm before it and a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PublicAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        hidden = self.mlp["fc1"](self.norm2(x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return x + self.mlp["fc2"](hidden)


class PublicViT(nn.Module):
    """Map views [n, 3, s, s] to the class token after all blocks and a norm, [n, d]."""

    def __init__(self, side_px: int, patch_px: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch_px, self.grid = patch_px, side_px // patch_px
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch_px, patch_px)})
        self.blocks = nn.ModuleList(PublicBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for embedding in (self.pos_embed, self.cls_token):
            nn.init.trunc_normal_(embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, views: Tensor) -> Tensor:
        side = views.shape[-1] // self.patch_px
        patches = self.patch_embed["proj"](views).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.repeat(len(views), 1, 1), patches], dim=1)
        tokens = tokens + self.positions(side)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]

    def positions(self, side: int) -> Tensor:
        """Return positions of the class token and of `side` x `side` patches, [1, 1 + side^2, d].

        The scale is (side + 0.1) / g; sample i lies at (i + 0.5) / scale - 0.5.
        """
        if side == self.grid:
            return self.pos_embed
        matrix = torch.from_numpy(cubic_samples(self.grid, side, (side + 0.1) / self.grid))
        matrix = matrix.to(self.pos_embed.dtype)
        grid = self.pos_embed[0, 1:].view(self.grid, self.grid, -1)
        resized = torch.einsum("ia,jb,abd->ijd", matrix, matrix, grid)
        return torch.cat([self.pos_embed[:, :1], resized.reshape(1, side**2, -1)], dim=1)


def cubic_samples(places: int, samples: int, scale: float) -> np.ndarray:
    """Return the weight of each place in each sample; places at the border are repeated."""
    matrix = np.zeros((samples, places))
    for i in range(samples):
        at = (i + 0.5) / scale - 0.5
        for place in range(math.floor(at) - 1, math.floor(at) + 3):
            weight = cubic_weight(abs(at - place))
            matrix[i, min(max(place, 0), places - 1)] += weight
    return matrix


def cubic_weight(x: float) -> float:
    """Return the kernel of Keys' cubic convolution."""
    a = CUBIC_A
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0
