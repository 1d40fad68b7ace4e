"""A forward pass of timm's ViT that returns only the class token, which is all the method needs.

Legend: n views, T tokens, d embedding size, h heads.
"""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from train.networks.dino_vit import DinoViT
from train.networks.onednn import linear


def is_plain_vit(backbone: nn.Module) -> bool:
    """Return True if `cls_feature` computes the same features as `backbone` itself."""
    # A subclass of timm's may add other tokens to the class token.
    if type(backbone) not in (VisionTransformer, DinoViT):
        return False
    assert isinstance(backbone, VisionTransformer)
    unused = (backbone.attn_pool, backbone.fc_norm, backbone.patch_drop, backbone.head)
    return (
        backbone.cls_token is not None
        and backbone.global_pool == "token"
        and all(module is None or isinstance(module, nn.Identity) for module in unused)
        and all(type(block) is Block for block in backbone.blocks)
        and all(_is_plain_attention(block.attn) for block in backbone.blocks)
        and not any(isinstance(m, nn.Dropout) and m.p for m in backbone.modules())
    )


def _is_plain_attention(attention: object) -> bool:
    extras = (getattr(attention, "norm", None), getattr(attention, "gate", None))
    return type(attention) is Attention and all(
        extra is None or isinstance(extra, nn.Identity) for extra in extras
    )


def cls_feature(
    vit: VisionTransformer, views: Tensor, scales: Tensor | None = None, recompute: bool = False
) -> Tensor:
    """Return the class token after the final LayerNorm, [n, d].

    In the last block only the class token has a query and goes through the MLP, because the other
    tokens are not used after it. This saves 5/6 of the operations of that block, 7 % of
    those of a ViT-S.

    Args:
        vit: a ViT for which `is_plain_vit` is true; its own stochastic depth is not used.
        views: normalised images [n, 3, s, s].
        scales: the factor of each branch (attention, MLP) for each view, [depth, 2, n]; None = 1.
        recompute: True to compute the blocks again in the backward pass.
    """
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(views)))
    for number, block in enumerate(vit.blocks):
        scale = None if scales is None else scales[number]
        run = _all_tokens if number + 1 < len(vit.blocks) else _cls_only
        if recompute:
            tokens = checkpoint(
                run, block, tokens, scale, use_reentrant=False, preserve_rng_state=False
            )
        else:
            tokens = run(block, tokens, scale)
    return vit.norm(tokens)


def _all_tokens(block: Any, tokens: Tensor, scale: Tensor | None) -> Tensor:
    attended = block.ls1(block.attn(block.norm1(tokens)))
    tokens = tokens + _scaled(attended, scale, 0)
    return tokens + _scaled(block.ls2(block.mlp(block.norm2(tokens))), scale, 1)


def _cls_only(block: Any, tokens: Tensor, scale: Tensor | None) -> Tensor:
    attended = block.ls1(_cls_attention(block.attn, block.norm1(tokens)))
    cls = tokens[:, 0] + _scaled(attended, scale, 0)
    return cls + _scaled(block.ls2(block.mlp(block.norm2(cls))), scale, 1)


def _cls_attention(attention: Any, tokens: Tensor) -> Tensor:
    """Return the attention output of the class token, [n, d], for all tokens [n, T, d]."""
    weight, bias = attention.qkv.weight, attention.qkv.bias
    width = attention.num_heads * attention.head_dim
    biases = (None, None) if bias is None else (bias[:width], bias[width:])
    split = (-1, attention.num_heads, attention.head_dim)
    query = linear(tokens[:, :1], weight[:width], biases[0]).unflatten(-1, split[1:])
    both = linear(tokens, weight[width:], biases[1]).unflatten(-1, (2, *split[1:]))
    keys, values = both.transpose(1, 3).unbind(2)  # [n, h, T, d / h]
    query = attention.q_norm(query.transpose(1, 2))
    keys = attention.k_norm(keys)
    shares = (query * attention.scale @ keys.transpose(-2, -1)).softmax(-1)
    return attention.proj((shares @ values)[:, :, 0].flatten(1))


def _scaled(branch: Tensor, scale: Tensor | None, number: int) -> Tensor:
    """Scale the output of branch `number`, [n, ...], by the factor of each view."""
    if scale is None:
        return branch
    return branch * scale[number].to(branch.dtype).view(-1, *[1] * (branch.ndim - 1))
