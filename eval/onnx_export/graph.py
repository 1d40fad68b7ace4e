"""The network from pixels to scores, and its ONNX graph.

The network repeats the steps of the evaluation pipeline, the teacher and `eval/scores/cosine.py`.
It resizes the image with the same rounding, and normalises the pixels. It then computes the
feature, and from the feature Eq. 6 in log form.
Legend: B images of side H with C channels, G side of a view, N centres of the bank, d feature
width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dali_pipes.batch import RGB_MEAN, RGB_STD
from dali_pipes.dali.eval_matrix import resize_matrix
from eval.exported import INPUT, OUTPUT
from eval.onnx_export.bank_compression import Bank
from shards.pixels.target import Target

if TYPE_CHECKING:
    import onnx

EXAMPLES = 2
"""Batch size for tracing the graph. If it were 1, torch would make the batch size a constant."""


class PixelsToScore(nn.Module):
    """A network from pixels, uint8 [B, H, H, C], to scores, float32 [B]."""

    resize: Tensor
    mean: Tensor
    per_level: Tensor
    centres: Tensor
    log_weights: Tensor

    def __init__(
        self, backbone: nn.Module, bank: Bank, tau: float, size_px: int, view_px: int
    ) -> None:
        """Copy the backbone and the bank to the CPU.

        Args:
            backbone: network from float32 [B, 3, G, G] to [B, d].
            bank: N centres of width d.
            tau: temperature of Eq. 6.
            size_px: H, the side of the images.
            view_px: G, the side of the views that the backbone takes.
        """
        super().__init__()
        self.backbone = copy.deepcopy(backbone).cpu()
        self._tau = tau
        self._resizes = size_px != view_px
        matrix = torch.from_numpy(resize_matrix(size_px, view_px))
        self.register_buffer("resize", matrix)  # [G, H]
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(3, 1, 1))
        self.register_buffer("per_level", 1 / torch.tensor(RGB_STD).view(3, 1, 1))
        self.register_buffer("centres", bank.centres.cpu().T.contiguous())  # [d, N]
        weights = bank.weights.cpu().double()
        self.register_buffer("log_weights", (weights / weights.sum()).log().float())  # [N]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the score of each image, in the log form of Eq. 6.

        Args:
            images: uint8 [B, H, H, C].

        Returns:
            float32 [B]. A higher score means more OOD.
        """
        levels = images.permute(0, 3, 1, 2).float()  # [B, C, H, H]
        if self._resizes:
            # The width is resized first, as DALI does. Many results end on .5, and the last bit
            # decides how they are rounded.
            levels = (self.resize @ (levels @ self.resize.T)).round().clamp(0, 255)
        views = (levels - self.mean) * self.per_level  # [B, 3, G, G]; gray becomes RGB here
        features = F.normalize(self.backbone(views).float(), dim=1)
        terms = features @ self.centres / self._tau + self.log_weights  # [B, N]
        # Not torch.logsumexp, because an ONNX runtime may compute it without subtracting the peak.
        peak = terms.amax(dim=1, keepdim=True)
        return -(peak + (terms - peak).exp().sum(dim=1, keepdim=True).log())[:, 0]


def to_onnx(network: PixelsToScore, rule: Target) -> onnx.ModelProto:
    """Return the network as an ONNX model that takes batches of any size.

    Args:
        network: the network.
        rule: conversion rule of the images. It gives their size and number of channels.
    """
    example = torch.zeros(EXAMPLES, rule.size_px, rule.size_px, rule.channels, dtype=torch.uint8)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # torch writes the path of its source file into each node.
    for node in [*model.graph.node, *(node for f in model.functions for node in f.node)]:
        del node.metadata_props[:]
    return model


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Return the content of an ONNX file: the model with this metadata, and no other metadata."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()
