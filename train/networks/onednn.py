"""float32 matrix products on a CPU with oneDNN, which torch itself uses only for bfloat16.

For float32 torch uses MKL, which reaches half of the speed on AMD's processors. The operators here
are the ones that `torch.compile` uses. On GPUs, and with a torch that lacks the operators, torch's
own product is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")
_ONEDNN = torch.ops.mkldnn if all(hasattr(torch.ops.mkldnn, o) for o in _OPERATORS) else None


def packed(matrix: Tensor) -> Tensor:
    """Return the matrix [C, d] in the layout with which `product` is fastest."""
    if _ONEDNN is None or matrix.device.type != "cpu":
        return matrix
    return _ONEDNN._reorder_linear_weight(matrix)


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Multiply float32 rows [R, d] with a packed matrix [C, d]. Returns a new tensor [R, C]."""
    return _onednn(rows, matrix) if matrix.is_mkldnn else rows @ matrix.T


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `functional.linear`, [..., d] and [C, d] -> [..., C], with oneDNN where possible.

    oneDNN takes float32 on a CPU. torch's own function is used for everything else, and in graphs
    that are compiled or exported.
    """
    ours = (
        _ONEDNN is not None
        and rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and rows.ndim > 1
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    if not ours:
        return functional.linear(rows, weight, bias)
    return _Linear.apply(rows.flatten(0, -2), weight, bias).unflatten(0, rows.shape[:-1])


class Linear(nn.Linear):
    """torch's linear layer, computed by `linear`."""

    def forward(self, rows: Tensor) -> Tensor:  # noqa: D102  (torch's)
        return linear(rows, self.weight, self.bias)


def use_onednn(network: nn.Module) -> None:
    """Make the plain linear layers in `network` use `linear`, in place; their weights stay."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


class _Linear(torch.autograd.Function):
    """The product [R, d] and [C, d] -> [R, C] and its gradients, all without a packed layout."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _onednn(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        return (
            _onednn(grad, weight.T) if of_rows else None,
            _onednn(grad.T, rows.T) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _onednn(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    assert _ONEDNN is not None
    return _ONEDNN._linear_pointwise(rows, matrix, bias, "none", [], "")
