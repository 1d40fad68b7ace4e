"""The features of a network from pixels, as one torch module that can become an ONNX graph.

Legend: B images of side H with C channels, G side of a view, d feature width.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dali_pipes.batch import RGB_MEAN, RGB_STD


class Turned(nn.Module):
    """A network that sees each image turned by a number of right angles, counter-clockwise."""

    def __init__(self, network: nn.Module, quarters: int) -> None:
        """Store the network, which takes images [B, 3, G, G]."""
        super().__init__()
        self.network = network
        self._quarters = quarters

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, [B, d], of the turned images."""
        return self.network(images.rot90(self._quarters, (2, 3)))


class ViewFeatures(nn.Module):
    """A network from pixels, uint8 [B, H, H, C], to features, float32 [B, d], on the CPU.

    It repeats the steps of the evaluation loader: it resizes the image with the same rounding, and
    normalises the pixels.
    """

    resize: Tensor
    mean: Tensor
    per_level: Tensor

    def __init__(self, network: nn.Module, size_px: int, view_px: int) -> None:
        """Copy the network to the CPU.

        Args:
            network: network from float32 [B, 3, G, G] to [B, d].
            size_px: H, the side of the images.
            view_px: G, the side of the views that the network takes.
        """
        from dali_pipes.dali.eval_matrix import resize_matrix  # DALI is imported late

        super().__init__()
        self.network = copy.deepcopy(network).cpu()
        self._resizes = size_px != view_px
        matrix = torch.from_numpy(resize_matrix(size_px, view_px))
        self.register_buffer("resize", matrix)  # [G, H]
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(3, 1, 1))
        self.register_buffer("per_level", 1 / torch.tensor(RGB_STD).view(3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, float32 [B, d], of images, uint8 [B, H, H, C]."""
        levels = images.permute(0, 3, 1, 2).float()  # [B, C, H, H]
        if self._resizes:
            # The width is resized first, as DALI does. Many results end on .5, and the last bit
            # decides how they are rounded.
            levels = (self.resize @ (levels @ self.resize.T)).round().clamp(0, 255)
        views = (levels - self.mean) * self.per_level  # [B, 3, G, G]; gray becomes RGB here
        return self.network(views).float()
