"""Who this process is among the ranks, and on which device: read once, passed on as an argument."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from shards.cli import UserError

GROUP_TIMEOUT_S = 120
"""A collective that waits longer than this fails: a lost rank must not look like a slow one."""


@dataclass(frozen=True)
class World:
    """This process's rank of `world_size`, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def check_equal(self, what: str, value: str) -> None:
        """Make sure that all ranks have the same `value`; every rank must call it.

        Raises:
            UserError: on every rank, if one differs; names `what`.
        """
        if self.world_size == 1:
            return
        digest = hashlib.sha256(value.encode()).digest()[:7]
        ours = torch.tensor([int.from_bytes(digest)], device=self.device)
        theirs = [torch.empty_like(ours) for _ in range(self.world_size)]
        dist.all_gather(theirs, ours)
        for rank, other in enumerate(theirs):
            if not torch.equal(other, theirs[0]):
                raise UserError(
                    f"{what}: rank {rank} does not see what rank 0 sees (rank {self.rank} sees "
                    f"{value}); the folder must be shared, or equal, on all machines"
                )

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of `value` over all ranks, in place; every rank must call it."""
        if self.world_size > 1:
            dist.all_reduce(value)
            value /= self.world_size
        return value


def pick_device(requested: str, local_rank: int = 0) -> torch.device:
    """The device of a process.

    Raises:
        UserError: CUDA was asked for and there is none, or fewer GPUs than ranks on this machine.
    """
    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device is cuda, but no CUDA device is available here (try --device cpu)")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"local rank {local_rank} has no GPU: this machine has {torch.cuda.device_count()}; "
            "lower --nproc-per-node"
        )
    return torch.device("cuda", local_rank)


def start_world(requested_device: str) -> World:
    """Join the ranks that torchrun started; without torchrun, a world of one."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = pick_device(requested_device, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        return World(rank=0, world_size=1, device=device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        timeout=timedelta(seconds=GROUP_TIMEOUT_S),
        device_id=device if device.type == "cuda" else None,
    )
    return World(rank=dist.get_rank(), world_size=dist.get_world_size(), device=device)


def stop_world() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
