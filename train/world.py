"""The rank and the device of this process: read once, then passed on as an argument."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from shards.errors import UserError
from train.launch import Launch, read_launch, under_torchrun

START_TIMEOUT = timedelta(minutes=5)
"""The longest time that ranks wait for each other when they start."""
STORE_TIMEOUT = timedelta(seconds=10)
"""The longest time that a rank waits for an answer of torchrun's store during a run."""


@dataclass(frozen=True)
class World:
    """The rank of this process, the number of ranks, and the device of this process."""

    rank: int
    """Number of this process among all ranks."""
    world_size: int
    """Number of ranks on all machines together."""
    device: torch.device
    store: dist.Store | None = None
    """The key-value store of torchrun. Its keys have a prefix that is new at each start of the
    ranks. None without torchrun."""

    @property
    def under_torchrun(self) -> bool:
        """True if torchrun started this process."""
        return under_torchrun()

    @property
    def is_main(self) -> bool:
        """True for the rank that writes files and reports: rank 0."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Return when every rank has called this."""
        if self.world_size > 1:
            dist.barrier()

    def check_equal(self, what: str, value: str) -> None:
        """Check that all ranks have the same `value`; every rank must call this.

        Raises:
            UserError: on every rank, if one rank has another value; the message names `what`.
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

    def from_main(self, text: str) -> str:
        """Return the `text` of rank 0 on every rank; every rank must call this."""
        if self.world_size == 1:
            return text
        data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        size = torch.tensor(len(data), device=self.device)
        dist.broadcast(size, 0)
        if not self.is_main:
            data = data.new_empty(int(size))
        dist.broadcast(data, 0)
        return bytes(data.tolist()).decode()

    def everywhere(self, holds: bool) -> bool:
        """Return True if `holds` is true on all ranks; every rank must call this."""
        if self.world_size == 1:
            return holds
        flag = torch.tensor(int(holds), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag)

    def mean(self, value: Tensor) -> Tensor:
        """Average `value` over all ranks, in place, and return it; every rank must call this."""
        if self.world_size > 1:
            dist.all_reduce(value)
            value /= self.world_size
        return value


def share_of_rank(count: int, rank: int, world_size: int) -> range:
    """Return the share of a rank of the ids 0 .. count-1.

    The ids of a share are consecutive, and the lengths of shares differ by one at most. Together
    the ranks have each id once. With fewer ids than ranks some shares are empty.
    """
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def over_ranks(count: int, world: World, rows_of: Callable[[range], Tensor]) -> Tensor:
    """Compute one row for each id, divided among the ranks. Every rank must call this function.

    Args:
        count: number N of ids.
        world: the ranks.
        rows_of: a function of ids that returns their rows, float32 [len(ids), d] on the rank's
            device; [0, 0] for no ids.

    Returns:
        float32 [N, d], on every rank; row i belongs to id i.
    """
    ours = rows_of(share_of_rank(count, world.rank, world.world_size))
    if world.world_size == 1:
        return ours
    width = torch.tensor(ours.shape[1], device=world.device)
    dist.all_reduce(width, dist.ReduceOp.MAX)
    # A collective needs equal shapes: pad the shares to the longest, and cut them afterwards.
    padded = torch.zeros(-(-count // world.world_size), int(width), device=world.device)
    padded[: len(ours), : ours.shape[1]] = ours
    parts = [torch.empty_like(padded) for _ in range(world.world_size)]
    dist.all_gather(parts, padded)
    lengths = [len(share_of_rank(count, rank, world.world_size)) for rank in range(len(parts))]
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def pick_device(requested: str, local_rank: int = 0) -> torch.device:
    """Return the device of a process.

    Args:
        requested: "cpu", "cuda", or "auto" for CUDA if there is a GPU.
        local_rank: number of the process among the ranks of this machine. With CUDA, the process
            gets the GPU of this number.

    Raises:
        UserError: CUDA was requested and there is none, or the machine has fewer GPUs than ranks.
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


def start_world(requested_device: str, stall_s: float) -> World:
    """Join the ranks that torchrun started; without torchrun, return a world of one rank.

    A collective fails if it waits for twice `stall_s`. Before that, `watch/watchdog.py` names the
    rank that it waits for.

    Raises:
        UserError: an environment variable has a bad value, there is no such device, or the other
            ranks cannot be reached.
    """
    launch = read_launch()
    device = pick_device(requested_device, launch.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not launch.is_joined:
        return World(rank=0, world_size=1, device=device)
    group_store = store = None
    try:
        if under_torchrun():
            client = _store_client(launch, START_TIMEOUT)
            name = _agree_on_name(client, launch)
            group_store = dist.PrefixStore(name, client)
            # A second connection, because a client serves one thread at a time.
            store = dist.PrefixStore(name, _store_client(launch, STORE_TIMEOUT))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            timeout=timedelta(seconds=2 * stall_s),
            store=group_store,
            rank=launch.rank,
            world_size=launch.world_size,
            device_id=device if device.type == "cuda" else None,
        )
    except dist.DistError as error:
        where = f"MASTER_ADDR is {launch.address!r} and MASTER_PORT {launch.port}"
        reason = str(error).partition("\n")[0]
        raise UserError(f"{where}: rank {launch.rank} cannot join there: {reason}") from error
    return World(dist.get_rank(), dist.get_world_size(), device, store)


def _store_client(launch: Launch, timeout: timedelta) -> dist.Store:
    return dist.TCPStore(launch.address, launch.port, is_master=False, timeout=timeout)


def _agree_on_name(store: dist.Store, launch: Launch) -> str:
    """Return a name for this start of the ranks, equal on all ranks and not used before.

    When torchrun restarts ranks, its store still has the addresses of the ranks that have ended,
    and a rank that reads them waits for processes that are gone. So the keys of each start get a
    prefix, the name of the start. The number of restarts cannot be this name, because machines may
    count it differently. Instead rank 0 draws a random name, every other rank answers it with a
    random text, and rank 0 publishes all answers. A rank that finds its own answer among them knows
    that the name is not from an earlier start.

    Raises:
        DistError: a rank did not come in time, or the store cannot be reached.
        UserError: rank 0 did not come in time.
    """
    rank, ours = launch.rank, secrets.token_hex(8)
    others = [str(other) for other in range(1, launch.world_size)]
    if rank == 0:
        store.set("oodino", ours)
        answers = {other: store.get(f"{ours}/{other}").decode() for other in others}
        store.set(f"{ours}/all", json.dumps(answers))
        return ours
    until_s = time.monotonic() + START_TIMEOUT.total_seconds()
    answered = ""
    while time.monotonic() < until_s:
        name = store.get("oodino").decode()
        if name != answered:
            store.set(f"{name}/{rank}", ours)
            answered = name
        if store.check([f"{name}/all"]) and json.loads(store.get(f"{name}/all"))[str(rank)] == ours:
            return name
        time.sleep(0.05)
    raise UserError(f"rank {rank} waited for rank 0 for {START_TIMEOUT}")


def stop_world() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
