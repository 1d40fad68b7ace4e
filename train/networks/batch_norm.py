"""Batch norm: running statistics that a forward pass changes, and a batch that ranks share.

In training, student and teacher both normalise with the statistics of the views they are given, as
in DINO, and each keeps running ones of its own, which evaluation uses. The student's global and
local views are two passes, hence two updates a step.
"""

from __future__ import annotations

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shards.errors import UserError
from train.config import RunConfig
from train.world import World


def has_batch_norm(network: nn.Module) -> bool:
    """Whether what `network` makes of an image in training depends on the others of its batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def share_statistics(config: RunConfig, world: World, *networks: nn.Module) -> None:
    """Compute the statistics of batch norm over all ranks; parameters and buffers are kept.

    Raises:
        UserError: there are several ranks on CPUs, where torch cannot do that.
    """
    if world.world_size == 1 or not any(map(has_batch_norm, networks)):
        return
    if world.device.type != "cuda":
        raise UserError(
            f"model.name is {config.model.name}, whose batch norm would see another part of the "
            f"batch on each of {world.world_size} ranks on CPUs; run one process, or use GPUs"
        )
    for network in networks:
        # torch's own conversion would drop the activations that timm fuses with batch norm.
        convert_sync_batchnorm(network)


class RunningStatistics:
    """The buffers of some networks as they were, for a step that turns out not to count."""

    def __init__(self, *networks: nn.Module) -> None:
        """Copy them; networks without buffers cost nothing."""
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._before = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore_unless(self, finite: Tensor) -> None:
        """Put them back where `finite`, bool [], is false; the host does not wait for it."""
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(torch.where(finite, buffer, before))
