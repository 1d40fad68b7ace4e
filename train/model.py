"""Student and teacher: a timm ViT and a head, one forward pass for each view size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from train.config import RunConfig
from train.head import Head


class Network(nn.Module):
    """g(x) of the paper: backbone, then head."""

    def __init__(self, config: RunConfig, device: torch.device, drop_path: float) -> None:
        """A network with fresh weights."""
        super().__init__()
        self.backbone = build_backbone(config, device, drop_path)
        self.head = Head(config.model.width, config.head)

    def forward(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        """Each [n_i, 3, side_i, side_i] -> float32 logits [n_i, K].

        The backbone runs once for each tensor, the head once for all; all in one call, as
        DistributedDataParallel wants it.
        """
        features = [self.backbone(view) for view in views]
        return self.head(torch.cat(features)).split([len(feature) for feature in features])


def build_backbone(
    config: RunConfig, device: torch.device, drop_path: float = 0.0
) -> VisionTransformer:
    """A ViT whose output is the [CLS] token after the final LayerNorm: [n, 3, s, s] -> [n, width].

    Its position grid is that of a global view and is interpolated for views of other sizes.
    """
    backbone = VisionTransformer(
        img_size=config.views.global_px,
        patch_size=config.model.patch_px,
        embed_dim=config.model.width,
        depth=config.model.depth,
        num_heads=config.model.heads,
        num_classes=0,
        global_pool="token",
        dynamic_img_size=True,
        drop_path_rate=drop_path,
    )
    for block in backbone.blocks.children():
        # torch's fused attention is slow to differentiate in bf16 on a CPU: a training step of the
        # demo takes 1.7 times as long with it as with plain matrix products.
        block.attn.fused_attn = device.type != "cpu"  # type: ignore[union-attr]
    return backbone.to(device)


def build_networks(config: RunConfig, device: torch.device) -> tuple[Network, Network]:
    """Student and teacher of equal weights, a function of the seed; the teacher is not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = Network(config, device, config.model.drop_path).to(device)
        teacher = Network(config, device, drop_path=0.0).to(device)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    return student, teacher


def untrained_backbone(config: RunConfig, device: torch.device) -> VisionTransformer:
    """The teacher's backbone as it was before the first step: the baseline of a run."""
    _, teacher = build_networks(config, device)
    return teacher.backbone.eval()
