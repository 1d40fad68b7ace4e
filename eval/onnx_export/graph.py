"""From pixels to score as one network, and that network as ONNX.

It repeats what the evaluation graph, the teacher and `cosine.py` do: resize with its rounding,
normalise, features, Eq. 6 in log form. Legend: B images of side H and C channels, G side of a view,
N centres of the bank, d width of a feature.
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
"""Images that the graph is traced with; torch takes a batch of 1 for a constant."""


class PixelsToScore(nn.Module):
    """uint8 [B, H, H, C] -> float32 [B]."""

    resize: Tensor
    mean: Tensor
    per_level: Tensor
    centres: Tensor
    log_weights: Tensor

    def __init__(
        self, backbone: nn.Module, bank: Bank, tau: float, size_px: int, view_px: int
    ) -> None:
        """With copies of backbone and bank, on the CPU; the position grid is that of `view_px`."""
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
        """Score images."""
        levels = images.permute(0, 3, 1, 2).float()  # [B, C, H, H]
        if self._resizes:
            # Columns first, as DALI does: products of this kind often end on a half, where the
            # last bit decides.
            levels = (self.resize @ (levels @ self.resize.T)).round().clamp(0, 255)
        views = (levels - self.mean) * self.per_level  # [B, 3, G, G]; gray is repeated here
        features = F.normalize(self.backbone(views).float(), dim=1)
        terms = features @ self.centres / self._tau + self.log_weights  # [B, N]
        # Not by torch.logsumexp: whether an ONNX runtime takes out the peak is its own choice.
        peak = terms.amax(dim=1, keepdim=True)
        return -(peak + (terms - peak).exp().sum(dim=1, keepdim=True).log())[:, 0]


def to_onnx(network: PixelsToScore, rule: Target) -> onnx.ModelProto:
    """The network for batches of any size."""
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
    # Torch notes for each node where in whose folders it came from.
    for node in [*model.graph.node, *(node for f in model.functions for node in f.node)]:
        del node.metadata_props[:]
    return model


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """The model as a file, with these texts in it and no others."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()
