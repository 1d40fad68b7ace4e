"""Batch norm: running statistics that a forward pass changes, and batches spread over ranks.

In training, student and teacher both normalise with the statistics of the views that they get, as
in DINO. Each has its own running statistics, which evaluation uses. The student takes global and
local views in two passes, so its running statistics change twice in a step.
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
    """Return True if `network` has batch norm: its features depend on all images of a batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def share_statistics(config: RunConfig, world: World, *networks: nn.Module) -> None:
    """Make batch norm compute its statistics over all ranks, with the same parameters and buffers.

    Raises:
        UserError: there are several ranks on CPUs, which torch does not support.
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
    """A copy of the buffers of some networks, to restore them after a step that is skipped."""

    def __init__(self, *networks: nn.Module) -> None:
        """Copy the buffers; networks without buffers cost nothing."""
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._before = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore_unless(self, finite: Tensor) -> None:
        """Restore the buffers if the bool scalar `finite` is false. The host does not wait."""
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(torch.where(finite, buffer, before))
