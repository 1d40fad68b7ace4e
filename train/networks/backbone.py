"""The backbone: a ViT with the sizes of the configuration, or a network of timm by its name.

Legend: n views, s their side in pixels, d feature length.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import DropPath, to_2tuple
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dali_pipes.batch import ViewSpec
from shards.errors import UserError
from shards.terminal.mistakes import did_you_mean
from train.config import CompatConfig, ModelConfig
from train.networks.dino_vit import CLASS_TOKEN_STD, DinoViT
from train.networks.onednn import use_onednn

NAMES_SHOWN = 3
"""Largest number of similar names in the message about an unknown name."""
NO_QUIRKS = CompatConfig()


def build_backbone(
    model: ModelConfig,
    view_px: int,
    device: torch.device,
    *,
    drop_path: float = 0.0,
    compat: CompatConfig = NO_QUIRKS,
) -> nn.Module:
    """Build a network with fresh weights: views [n, 3, s, s] -> features [n, d], float32.

    The feature of a ViT with a class token is that token after the final LayerNorm. The feature of
    a CNN is the mean over all places.

    Args:
        model: the network's name and sizes; `model.drop_path` is not read here.
        view_px: side of the views, in pixels, that a ViT's position grid fits. For views of other
            sizes the grid is interpolated.
        device: the device of the network.
        drop_path: rate of stochastic depth.
        compat: its `dino_positions` and `dino_class_token` are read, for `model.name` vit only.

    Raises:
        UserError: timm has no network `model.name`, or cannot build it with these options.
    """
    if model.name == "vit":
        backbone = _vit(model, view_px, drop_path, compat)
    else:
        backbone = _of_timm(model, view_px, drop_path)
    if device.type == "cpu":
        for module in backbone.modules():
            if hasattr(module, "fused_attn"):
                # The backward pass of torch's fused attention is slow in bf16 on a CPU: a training
                # step of the demo takes 1.7 times as long as with plain matrix products.
                module.fused_attn = False  # type: ignore[assignment]
        use_onednn(backbone)
    return backbone.to(device)


def feature_width(backbone: nn.Module) -> int:
    """Return the length d of the features of `backbone`."""
    # A few CNNs (MobileNetV3) have a layer after the pooling, whose output is longer than timm's
    # `num_features`.
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]


def check_name(name: str, given: str) -> None:
    """Check that timm has a network of this name, with or without the tag of its weights.

    Args:
        name: for example resnet18, or resnet18.a1_in1k.
        given: the option and its value, for the message: `model.name is resnet18`.

    Raises:
        UserError: timm has no such network; the message begins with `given` and lists similar
            names.
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
def check_views(name: str, views: ViewSpec, backbone: nn.Module) -> None:
    """Check that a network of timm takes views of both sizes and returns one vector for each.

    Args:
        name: the network's name in timm, for the message.
        views: the sizes of the views.
        backbone: the network.

    Raises:
        UserError: the network does not take a view size, or returns another shape; the message
            names the field and its value.
    """
    device = next(backbone.parameters()).device
    patch_px = to_2tuple(getattr(getattr(backbone, "patch_embed", None), "patch_size", 1))[0]
    backbone.eval()
    for field in ("global_px", "local_px"):
        side_px = getattr(views, field)
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


def _vit(model: ModelConfig, view_px: int, drop_path: float, compat: CompatConfig) -> nn.Module:
    kind = DinoViT if compat.dino_positions else VisionTransformer
    vit = kind(
        img_size=view_px,
        patch_size=model.patch_px,
        embed_dim=model.width,
        depth=model.depth,
        num_heads=model.heads,
        num_classes=0,
        global_pool="token",
        dynamic_img_size=True,
        drop_path_rate=drop_path,
    )
    if compat.dino_class_token:
        nn.init.trunc_normal_(vit.cls_token, std=CLASS_TOKEN_STD)  # type: ignore[arg-type]
    return vit


def _of_timm(model: ModelConfig, view_px: int, drop_path: float) -> nn.Module:
    name = model.name
    check_name(name, f"model.name is {name}")
    # Only some networks have a fixed size, or options for views of several sizes. An option that a
    # network does not know is dropped below.
    options: dict[str, Any] = {
        "img_size": view_px,
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
                raise _no_drop_path(model) from error
            if not unknown:
                raise UserError(f"model.name is {name}: {_line(error)}") from error
            for option in unknown:
                del options[option]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"model.name is {name}, which timm cannot make for views.global_px {view_px}: "
                f"{_line(error)}"
            ) from error
    if drop_path and not any(isinstance(module, DropPath) for module in backbone.modules()):
        raise _no_drop_path(model)
    if isinstance(backbone, VisionTransformer) and backbone.has_class_token:
        backbone.reset_classifier(0, global_pool="token")
    return backbone


def _no_drop_path(model: ModelConfig) -> UserError:
    return UserError(
        f"model.drop_path is {model.drop_path}, but model.name {model.name} has no stochastic "
        "depth in timm; set --model.drop-path 0"
    )


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
