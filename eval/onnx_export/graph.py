"""The network from pixels to scores, and its ONNX graph.

It holds the sources of features and the fitted scores of all members with weight, and repeats
`eval.ensemble.ensemble.Ensemble.terms`.
Legend: B images of side H with C channels, k members.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from eval.ensemble.ensemble import Ensemble
from eval.ensemble.members import Member, parts_by_source
from eval.exported import INPUT, MEMBER, OUTPUT
from eval.scores.fitted import evaluate
from shards.pixels.target import Target

if TYPE_CHECKING:
    import onnx

EXAMPLES = 2
"""Batch size for tracing the graph. If it were 1, torch would make the batch size a constant."""


class PixelsToScore(nn.Module):
    """A network from pixels, uint8 [B, H, H, C], to the score of each image and its loudest member.

    The loudest member of an image is the member of the ensemble that adds most to its score.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor

    def __init__(self, ensemble: Ensemble, size_px: int) -> None:
        """Copy the members with weight to the CPU.

        Args:
            ensemble: the ensemble.
            size_px: H, the side of the images.
        """
        super().__init__()
        members = ensemble.weighing
        groups = parts_by_source(members).values()
        modules = [source.module(size_px) for source, _ in groups]
        self.sources = nn.ModuleList(copy.deepcopy(module).cpu() for module in modules)
        # The scores of a source are copied together, so that the copies share the bank as well.
        self._scores = [copy.deepcopy([part.score for part in parts]) for _, parts in groups]
        self.scores = nn.ModuleList(score.cpu() for scores in self._scores for score in scores)
        self._parts = [[id(part) for part in parts] for _, parts in groups]
        self._members: list[Member] = members
        used = np.flatnonzero(ensemble.weights)
        moments = ensemble.moments.of_members(used)
        self._limits = moments.limits
        self.register_buffer("mean", torch.from_numpy(moments.mean).float())
        self.register_buffer("deviation", torch.from_numpy(moments.deviation).float())
        self.register_buffer("weight", torch.from_numpy(ensemble.weights[used]).float())
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score of each image, and which member of the ensemble adds most to it.

        Args:
            images: uint8 [B, H, H, C].

        Returns:
            Scores, float32 [B]: a higher score means more OOD. Indices of these members among
            those with weight, int64 [B].
        """
        raw: dict[int, Tensor] = {}
        for source, fitted, parts in zip(self.sources, self._scores, self._parts, strict=True):
            raw.update(zip(parts, evaluate(fitted, source(images)), strict=True))
        scores = [member.combined(raw) for member in self._members]
        z = ((torch.stack(scores, 1) - self.mean) / self.deviation).clamp(*self._limits)
        terms = z * self.weight  # [B, k]
        return terms.sum(1), terms.argmax(1)


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
        output_names=[OUTPUT, MEMBER],
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
