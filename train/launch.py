"""The environment variables in which torchrun, or a similar launcher, gives a process its rank."""

from __future__ import annotations

from dataclasses import dataclass

from shards.terminal import environment

START_WITH_TORCHRUN = "torchrun sets it; without ranks, unset WORLD_SIZE, RANK and TORCHELASTIC_*"


@dataclass(frozen=True)
class Launch:
    """The rank of a process, the number of ranks, and where the ranks meet."""

    rank: int
    """Number of this process among all ranks."""
    world_size: int
    """Number of ranks on all machines together."""
    local_rank: int
    """Number of this process among the ranks of its machine."""
    local_world_size: int
    """Number of ranks on this machine."""
    machines: int
    """Number of machines."""
    address: str
    """Host of the store where the ranks meet; empty for a single process."""
    port: int
    """Port of the store; 0 for a single process."""

    @property
    def is_joined(self) -> bool:
        """True if this process joins a process group: torchrun started it, or it is not alone."""
        return bool(self.address)


def under_torchrun() -> bool:
    """Return True if torchrun started this process."""
    return bool(environment.text("TORCHELASTIC_RUN_ID"))


def read_launch() -> Launch:
    """Read and check the environment variables of the launcher; a single process needs none.

    Raises:
        UserError: a variable is missing or has a bad value; the message names it and what is
            expected.
    """
    hint = START_WITH_TORCHRUN
    world_size = environment.number("WORLD_SIZE", least=1, default=1, hint=hint)
    is_joined = world_size > 1 or under_torchrun()
    rank = environment.number(
        "RANK",
        least=0,
        most=world_size - 1,
        default=None if is_joined else 0,
        hint=f"WORLD_SIZE is {world_size}; {hint}",
    )
    return Launch(
        rank=rank,
        world_size=world_size,
        local_rank=environment.number("LOCAL_RANK", least=0, default=0, hint=hint),
        local_world_size=environment.number(
            "LOCAL_WORLD_SIZE", least=1, default=world_size, hint=hint
        ),
        machines=environment.number("GROUP_WORLD_SIZE", least=1, default=1, hint=hint),
        address=environment.text("MASTER_ADDR", None, hint=hint) if is_joined else "",
        port=environment.number("MASTER_PORT", least=1, most=65535, hint=hint) if is_joined else 0,
    )
