"""Features of an image that need no network: its pixels, its colours, five statistics.

Each is a torch module without weights, from uint8 [B, H, W, C] (C = 1 or 3) to float32 [B, d], so
that the same code runs in the tables, on a GPU and as an ONNX graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dali_pipes.batch import LUMA

MOST_PX = 32
"""Largest side of the pixels as a feature. Covariances of larger images take too much memory."""
RGB_BINS, GRAY_BINS = 8, 32
"""Bins of the histogram: for each of the three channels, or for gray levels."""
QUANTILE = 0.99


class Pixels(nn.Module):
    """The pixels of an image in [0, 1], one after the other.

    Images with a side above 32 px are first reduced by averages over equal areas.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [B, h * w * C], with h and w at most 32."""
        levels = images.permute(0, 3, 1, 2).float() / 255
        height, width = levels.shape[2:]
        if max(height, width) > MOST_PX:
            levels = F.adaptive_avg_pool2d(levels, (min(height, MOST_PX), min(width, MOST_PX)))
        return levels.permute(0, 2, 3, 1).flatten(1)


class ColourHistogram(nn.Module):
    """The shares of an image's pixels in 8 x 8 x 8 bins of RGB, or in 32 bins of gray levels."""

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [B, 512] or [B, 32]. The shares of an image sum to 1."""
        levels = images.flatten(1, 2).long()  # [B, H * W, C]
        if levels.shape[2] == 1:
            bins, count = levels[..., 0] // (256 // GRAY_BINS), GRAY_BINS
        else:
            red, green, blue = (levels // (256 // RGB_BINS)).unbind(2)
            bins, count = (red * RGB_BINS + green) * RGB_BINS + blue, RGB_BINS**3
        shares = torch.ones_like(bins, dtype=torch.float32) / bins.shape[1]
        empty = torch.zeros(images.shape[0], count, device=images.device)
        return empty.scatter_add(1, bins, shares)


class Statistics(nn.Module):
    """Five statistics of an image: three of its edges, its brightness and its contrast.

    The edges are the absolute Laplacian (four neighbours, without the border) of the luma Y
    (Rec. 601, 0 to 255). The statistics are the logarithms ln(1 + x) of its maximum, of its 99 %
    quantile and of its mean, then the mean and the standard deviation of Y.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [B, 5]. An image has at least 3 x 3 pixels."""
        # In float64: a forest of thresholds turns the last bit of a float32 into another path.
        levels = images.double()
        if levels.shape[3] == 1:
            luma = levels[..., 0]
        else:
            luma = levels @ torch.tensor(LUMA, dtype=torch.float64, device=levels.device)
        ahead_and_behind = (
            luma[:, 2:, 1:-1] + luma[:, :-2, 1:-1] + luma[:, 1:-1, 2:] + luma[:, 1:-1, :-2]
        )
        edges = (ahead_and_behind - 4 * luma[:, 1:-1, 1:-1]).abs().flatten(1)
        # The quantile of numpy's method "linear", from the largest values alone.
        place = QUANTILE * (edges.shape[1] - 1)
        below = int(place)
        largest = edges.topk(edges.shape[1] - below, dim=1).values
        upper = largest[:, -2] if largest.shape[1] > 1 else largest[:, -1]
        quantile = largest[:, -1] + (place - below) * (upper - largest[:, -1])
        return torch.stack(
            [
                torch.log1p(largest[:, 0]),
                torch.log1p(quantile),
                torch.log1p(edges.mean(1)),
                luma.mean((1, 2)),
                luma.std((1, 2), unbiased=False),
            ],
            dim=1,
        ).float()
