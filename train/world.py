"""Who this process is among the ranks, and on which device: read once, passed on as an argument."""

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
"""How long ranks wait for each other when they start."""
STORE_TIMEOUT = timedelta(seconds=10)
"""How long torchrun's store may take for an answer during a run."""


@dataclass(frozen=True)
class World:
    """This process's rank of `world_size`, and its device."""

    rank: int
    world_size: int
    device: torch.device
    store: dist.Store | None = None
    """torchrun's key-value store, with keys of this start only; None without torchrun."""

    @property
    def under_torchrun(self) -> bool:
        """Whether an agent of torchrun looks after this process."""
        return under_torchrun()

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

    def from_main(self, text: str) -> str:
        """The text that rank 0 has; every rank must call it."""
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
        """Whether something holds on all ranks; every rank must call it."""
        if self.world_size == 1:
            return holds
        flag = torch.tensor(int(holds), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of `value` over all ranks, in place; every rank must call it."""
        if self.world_size > 1:
            dist.all_reduce(value)
            value /= self.world_size
        return value


def share_of_rank(count: int, rank: int, world_size: int) -> range:
    """The ids of 0 .. count-1 that are a rank's: consecutive, as many as another's but for one.

    Together the ranks have each id once; with fewer images than ranks some have none.
    """
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def over_ranks(count: int, world: World, rows_of: Callable[[range], Tensor]) -> Tensor:
    """Rows of a whole set, of which every rank computes its share; every rank must call it.

    Args:
        count: N, rows of the set.
        world: the ranks.
        rows_of: ids -> float32 [len(ids), d] on the rank's device; [0,0] for no ids.

    Returns:
        float32 [N,d], on every rank, row i = id i.
    """
    ours = rows_of(share_of_rank(count, world.rank, world.world_size))
    if world.world_size == 1:
        return ours
    width = torch.tensor(ours.shape[1], device=world.device)
    dist.all_reduce(width, dist.ReduceOp.MAX)
    # A collective takes equal shapes: shares are padded to the longest, and cut again.
    padded = torch.zeros(-(-count // world.world_size), int(width), device=world.device)
    padded[: len(ours), : ours.shape[1]] = ours
    parts = [torch.empty_like(padded) for _ in range(world.world_size)]
    dist.all_gather(parts, padded)
    lengths = [len(share_of_rank(count, rank, world.world_size)) for rank in range(len(parts))]
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


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


def start_world(requested_device: str, stall_s: float) -> World:
    """Join the ranks that torchrun started; without torchrun, a world of one.

    A collective that waits for twice `stall_s` fails: `watchdog.py` has told why before.

    Raises:
        UserError: a variable of the environment is not as it must be, there is no such device, or
            the other ranks cannot be reached.
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
    and a rank that reads them waits for processes that are gone. Keys below the name of a start
    are free of them. The number of restarts is no such name, because machines may count it
    differently. So rank 0 draws a name, every other rank answers it with a name of its own, and
    rank 0 publishes all answers: a rank that finds its own answer there knows that the name is not
    from an earlier start.

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
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
