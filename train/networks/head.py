"""The projection head of the network g(x), as in DINO's code: feature -> K prototype logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from train.config import HeadConfig


class Head(nn.Module):
    """MLP with GELU, L2 normalisation, and a weight-normalised linear layer without bias.

    The weight of prototype k is l_k v_k / |v_k|. The lengths l are one parameter [K, 1], so they
    have weight decay like a matrix.
    """

    def __init__(self, width: int, config: HeadConfig) -> None:
        """Build a head from features of length `width` to `config.prototypes` logits."""
        super().__init__()
        widths = [width] + [config.hidden] * (config.layers - 1) + [config.bottleneck]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = weight_norm(nn.Linear(config.bottleneck, config.prototypes, bias=False))
        lengths = self.prototypes.parametrizations.weight.original0
        nn.init.ones_(lengths)
        lengths.requires_grad = not config.norm_last_layer

    def forward(self, features: Tensor) -> Tensor:
        """Map features [n, width] to float32 logits [n, K]; the MLP may have less precision."""
        bottleneck = self.mlp(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.prototypes(functional.normalize(bottleneck.float(), dim=-1))
