"""AdamW with DINO's two parameter groups, and gradient clipping of each parameter by itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shards.errors import UserError
from train.config import OptimConfig
from train.schedules import StepValues


def build_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build AdamW: weight decay for matrices, none for biases and other 1-D parameters.

    Raises:
        UserError: apex was requested and is missing, is PyPI's unrelated package of that name, or
            the network is not on a GPU.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.impl == "apex":
        try:
            return _fused_adam(parameters[0].is_cuda)(groups, lr=0.0, adam_w_mode=True)
        except RuntimeError as error:
            raise UserError(f"optim.impl is apex, which does not start: {error}") from error
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def _fused_adam(on_cuda: bool) -> Callable[..., torch.optim.Optimizer]:
    found = importlib.util.find_spec("apex")
    if found is None:
        raise UserError(
            "optim.impl is apex, but NVIDIA apex is not installed; build it from NVIDIA's sources "
            "or use optim.impl fused"
        )
    try:
        from apex.optimizers import FusedAdam
    except ImportError as error:
        raise UserError(
            f"optim.impl is apex, but {found.origin} is not a working NVIDIA apex (PyPI's package "
            "of that name is an unrelated one); uninstall it or use optim.impl fused"
        ) from error
    if not on_cuda:
        raise UserError("optim.impl is apex, which needs CUDA; use optim.impl fused")
    return FusedAdam


def apply_schedule(optimizer: torch.optim.Optimizer, values: StepValues) -> None:
    """Set the learning rate of both groups and the weight decay of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = values.lr
    optimizer.param_groups[0]["weight_decay"] = values.weight_decay


def step_where(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Take a step, unless the bool scalar `finite` is false: then keep parameters and moments."""
    if isinstance(optimizer, torch.optim.AdamW):
        # torch's GradScaler sets this attribute for fused optimizers, which read it on the device.
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif finite:  # apex has no such attribute, so the host waits for the value
        optimizer.step()


def gradients_of(network: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters that have one."""
    return [p.grad for p in network.parameters() if p.grad is not None]


@torch.no_grad()
def clip_each(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale each gradient whose L2 norm is above `max_norm` down to it. 0 means no clipping.

    Returns:
        The norms before clipping, [n].
    """
    gradients = list(gradients)
    norms = torch._foreach_norm(gradients)
    if max_norm:
        scales = torch._foreach_add(norms, 1e-6)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, max_norm)
        torch._foreach_clamp_max_(scales, 1.0)
        torch._foreach_mul_(gradients, scales)
    return torch.stack(norms)
