"""The backbone: a ViT of the sizes in the configuration, or a network that timm has by name.

Legend: n views, s their side in pixels, d the length of the feature.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import DropPath, to_2tuple
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean
from train.config import RunConfig
from train.networks.dino_vit import CLASS_TOKEN_STD, DinoViT
from train.networks.onednn import use_onednn

NAMES_SHOWN = 3


def build_backbone(config: RunConfig, device: torch.device, drop_path: float = 0.0) -> nn.Module:
    """A network with fresh weights: [n, 3, s, s] -> [n, d], float32.

    Of a ViT with a class token, that token after the final LayerNorm; its position grid is that of
    a global view and is interpolated for views of other sizes. Of a CNN, the mean over places.

    Raises:
        UserError: timm has no network `model.name`, or cannot make it as it is asked for.
    """
    by_sizes = config.model.name == "vit"
    backbone = _vit(config, drop_path) if by_sizes else _of_timm(config, drop_path)
    if device.type == "cpu":
        for module in backbone.modules():
            if hasattr(module, "fused_attn"):
                # torch's fused attention is slow to differentiate in bf16 on a CPU: a training
                # step of the demo takes 1.7 times as long with it as with plain matrix products.
                module.fused_attn = False  # type: ignore[assignment]
        use_onednn(backbone)
    return backbone.to(device)


def feature_width(backbone: nn.Module) -> int:
    """The length d of what `backbone` returns."""
    # In a few CNNs (MobileNetV3) a layer behind the pooling widens timm's `num_features`.
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]


def check_name(name: str, given: str) -> None:
    """Refuse what is no name of timm's, with or without the tag of its weights.

    Args:
        name: such as resnet18, or resnet18.a1_in1k.
        given: where it was, and how: `model.name is resnet18`.

    Raises:
        UserError: begins with `given`, and has names that are like it.
    """
    if timm.models.is_model(name):
        known = list(timm.models.get_arch_pretrained_cfgs(name))
        if "." not in name or name in known:
            return
    else:
        known = timm.list_models()
    hint = did_you_mean(name, known, NAMES_SHOWN) or "; timm.list_models() has all names"
    raise UserError(f"{given}, which timm {timm.__version__} does not have{hint}")


@torch.no_grad()
def check_views(config: RunConfig, backbone: nn.Module) -> None:
    """Make sure that a network by name takes both sizes of view and returns one vector each.

    Raises:
        UserError: names the field and its value.
    """
    name, device = config.model.name, next(backbone.parameters()).device
    patch_px = to_2tuple(getattr(getattr(backbone, "patch_embed", None), "patch_size", 1))[0]
    backbone.eval()
    for field in ("global_px", "local_px"):
        side_px = getattr(config.views, field)
        if side_px % patch_px:
            raise UserError(
                f"views.{field} is {side_px}, not a multiple of the patches of {patch_px} px of "
                f"model.name {name}"
            )
        try:
            features = backbone(torch.zeros(1, 3, side_px, side_px, device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"views.{field} is {side_px}, which model.name {name} cannot take: {_line(error)}"
            ) from error
        if features.shape != (1, feature_width(backbone)):
            raise UserError(
                f"model.name is {name}, which gives {list(features.shape)} for one view of "
                f"{side_px} px, expected [1, {feature_width(backbone)}]"
            )
    backbone.train()


def _vit(config: RunConfig, drop_path: float) -> nn.Module:
    kind = DinoViT if config.compat.dino_positions else VisionTransformer
    vit = kind(
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
    if config.compat.dino_class_token:
        nn.init.trunc_normal_(vit.cls_token, std=CLASS_TOKEN_STD)  # type: ignore[arg-type]
    return vit


def _of_timm(config: RunConfig, drop_path: float) -> nn.Module:
    name = config.model.name
    check_name(name, f"model.name is {name}")
    # Only some networks have a size of their own, or know these names for views of several sizes.
    options: dict[str, Any] = {
        "img_size": config.views.global_px,
        "dynamic_img_size": True,
        "strict_img_size": False,
    }
    if drop_path:
        options["drop_path_rate"] = drop_path
    backbone = None
    while backbone is None:
        try:
            backbone = timm.create_model(name, num_classes=0, **options)
        except TypeError as error:
            unknown = [option for option in options if f"'{option}'" in str(error)]
            if "drop_path_rate" in unknown:
                raise _no_drop_path(config) from error
            if not unknown:
                raise UserError(f"model.name is {name}: {_line(error)}") from error
            for option in unknown:
                del options[option]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"model.name is {name}, which timm cannot make for views.global_px "
                f"{config.views.global_px}: {_line(error)}"
            ) from error
    if drop_path and not any(isinstance(module, DropPath) for module in backbone.modules()):
        raise _no_drop_path(config)
    if isinstance(backbone, VisionTransformer) and backbone.has_class_token:
        backbone.reset_classifier(0, global_pool="token")
    return backbone


def _no_drop_path(config: RunConfig) -> UserError:
    return UserError(
        f"model.drop_path is {config.model.drop_path}, but model.name {config.model.name} has no "
        "stochastic depth in timm; set --model.drop-path 0"
    )


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
