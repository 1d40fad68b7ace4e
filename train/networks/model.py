"""Student and teacher: a backbone and a head, one forward pass for each view size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from shards.errors import UserError
from train.config import RunConfig
from train.networks.backbone import build_backbone, check_views, feature_width
from train.networks.batch_norm import has_batch_norm
from train.networks.head import Head
from train.networks.pretrained import load_init
from train.networks.vit import cls_feature, is_plain_vit


class Network(nn.Module):
    """The network g(x) of the paper: a backbone, and a head on its features."""

    def __init__(self, config: RunConfig, device: torch.device, drop_path: float) -> None:
        """Build a network with fresh weights."""
        super().__init__()
        self.backbone = build_backbone(
            config.model,
            config.views.global_px,
            device,
            drop_path=drop_path,
            compat=config.compat,
        )
        self.head = Head(feature_width(self.backbone), config.head)
        self._recompute = config.model.recompute
        self.is_plain_vit = is_plain_vit(self.backbone)

    @property
    def scaled_blocks(self) -> int:
        """The number of blocks whose branches `forward` scales; 0 if `is_plain_vit` is false."""
        return len(self.backbone.blocks) if self.is_plain_vit else 0  # type: ignore[arg-type]

    def forward(
        self, views: Sequence[Tensor], scales: Sequence[Tensor | None]
    ) -> tuple[Sequence[Tensor], Tensor]:
        """Run the backbone once for each tensor of views, and the head once for all of them.

        All views go through one call, because DistributedDataParallel supports only one forward
        pass for each backward pass.

        Args:
            views: tensors [n_i, 3, side_i, side_i].
            scales: scales of the branches for each tensor; see `features`.

        Returns:
            float32 logits, [n_i, K] each, and the features [sum n_i, width].
        """
        features = torch.cat(
            [self.features(view, scale) for view, scale in zip(views, scales, strict=True)]
        )
        return self.head(features).split([len(view) for view in views]), features

    def features(self, views: Tensor, scales: Tensor | None = None) -> Tensor:
        """Return the features [n, width] of views [n, 3, s, s].

        `scales` are the scales of the branches as in `cls_feature`, for plain ViTs only.
        """
        if self.is_plain_vit:
            vit = cast(VisionTransformer, self.backbone)
            return cls_feature(vit, views, scales, self._recompute and self.training)
        return self.backbone(views)


def build_networks(config: RunConfig, device: torch.device) -> tuple[Network, Network]:
    """Build student and teacher with the same random weights, drawn from the seed.

    The teacher needs no gradients. `model.init` is not read here: `load_init` reads it when a run
    starts.

    Raises:
        UserError: the network cannot be built, or cannot be trained with this configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = Network(config, device, config.model.drop_path).to(device)
        teacher = Network(config, device, drop_path=0.0).to(device)
        if config.model.name != "vit":
            _check(config, student, device)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    return student, teacher


def _check(config: RunConfig, student: Network, device: torch.device) -> None:
    check_views(config.model.name, config.views, student.backbone)
    if config.precision != "fp32" and device.type == "cpu" and _pads(student.backbone):
        # Seen with torch 2.14 in bf16: the gradient of a 3 x 3 convolution on 1 x 1 places differs
        # from call to call, and is sometimes not finite.
        raise UserError(
            f"precision is {config.precision}, in which torch's convolutions on CPUs give wrong "
            f"gradients for small views; with model.name {config.model.name} set --precision fp32"
        )
    if config.micro_batch and has_batch_norm(student):
        raise UserError(
            f"micro_batch is {config.micro_batch}, but model.name {config.model.name} has batch "
            "norm, which needs the whole batch at once; set --micro-batch 0"
        )
    if config.model.recompute and not student.is_plain_vit:
        raise UserError(
            f"model.recompute is on, which only plain ViTs support, and model.name "
            f"{config.model.name} is none; set --model.no-recompute"
        )


def _pads(backbone: nn.Module) -> bool:
    """Return True if a convolution of the network pads its input."""
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    return any(isinstance(c.padding, str) or any(c.padding) for c in convolutions)


def untrained_backbone(config: RunConfig, device: torch.device) -> nn.Module:
    """Return the teacher's backbone as it was before the first step: the baseline of a run.

    With `model.init` its weights are read again.

    Raises:
        UserError: `model.init` can no longer be read.
    """
    # float32, because it is not trained here: the device need not support the run's precision.
    _, teacher = build_networks(dataclasses.replace(config, precision="fp32"), device)
    if config.model.init:
        load_init(config.model, teacher.backbone)
    return teacher.backbone.eval()
