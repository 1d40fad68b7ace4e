"""The peers of `benchmarks.step`: our step, the bare network, and the authors' step."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.options import StepOptions
from dali_pipes.batch import Batch
from dali_pipes.loader import TrainLoader
from shards.reader import ShardSet
from tests.support.authors_reference import PublicHead, PublicNetwork, PublicOptions, PublicStep
from tests.support.host_waits import HostWaits, counted_reads
from train.checkpoint import CheckpointWriter
from train.config import RunConfig
from train.networks.model import build_backbone
from train.networks.onednn import Linear
from train.objective import AUTOCAST
from train.recipes import RECIPES
from train.schedules import StepValues, values_at
from train.state import TrainState
from train.step import StepResult, train_step
from train.training import build_loader, wrap_student
from train.world import World, pick_device

STEPS_PER_EPOCH = 100


def paper_run(shards: Path, out: Path, options: StepOptions, **changes: object) -> RunConfig:
    """Return a run with the paper's network and views, and rotated in-distribution negatives.

    `changes` are fields of `RunConfig` that get other values.
    """
    return dataclasses.replace(
        RECIPES["icann22-paper-cifar10"](),
        in_dist=shards,
        out=out,
        negatives="rot-in",
        global_batch=options.batch,
        **changes,  # type: ignore[arg-type]
    )


class Peers:
    """All peers by name: each makes one step when it is called."""

    def __init__(self, shards: ShardSet, out: Path, options: StepOptions) -> None:
        """Build the networks, optimizers and loaders of all peers."""
        self._device = pick_device(options.device)
        self._world = World(rank=0, world_size=1, device=self._device)
        self._options, self._shards, self._out = options, shards.directory, out
        self.batch = next(build_loader(self._config("fp32"), self._world))
        self.steps: dict[str, Callable[[], object]] = {}
        self.states: dict[str, TrainState] = {}
        self.loaders: dict[str, TrainLoader] = {}
        self._take: dict[str, Callable[[Batch, StepValues], StepResult]] = {}
        for precision in ["bf16", "fp32"] + (["fp16"] if self._device.type == "cuda" else []):
            self.steps[f"bare {precision}"] = self._bare(precision)
            self.steps[f"ours {precision}"] = self._ours(f"ours {precision}", precision)
        if options.compile:
            self.steps["compiled bf16"] = self._ours("compiled bf16", "bf16", compile=True)
        if has_apex() and self._device.type == "cuda":
            optim = dataclasses.replace(self._config("bf16").optim, impl="apex")
            self.steps["apex bf16"] = self._ours("apex bf16", "bf16", optim=optim)
        self.steps["reference fp32"] = self._reference()

    def _config(self, precision: str, **changes: object) -> RunConfig:
        return paper_run(self._shards, self._out, self._options, precision=precision, **changes)

    def _bare(self, precision: str) -> Callable[[], object]:
        config = self._config(precision)
        view_px = config.views.global_px
        backbone = build_backbone(config.model, view_px, self._device, drop_path=0.1)
        dtype = AUTOCAST[precision]
        sizes = [self.batch.global_views, self.batch.local_views]
        views = [size.flatten(0, 1).to(dtype) for size in sizes]

        def step() -> None:
            with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
                loss = sum(backbone(size).float().square().mean() for size in views)
            loss.backward()  # type: ignore[union-attr]
            backbone.zero_grad(set_to_none=True)

        return step

    def _ours(self, name: str, precision: str, **changes: object) -> Callable[[], object]:
        config = self._config(precision, **changes)
        state = self.states[name] = TrainState.start(config, self._device)
        student = wrap_student(config, self._world, state)
        loader = self.loaders[name] = build_loader(config, self._world)
        self._take[name] = take = partial(train_step, config, self._world, state, student)
        return lambda: take(next(loader), values_at(config, state.step, STEPS_PER_EPOCH))

    def _reference(self) -> Callable[[], object]:
        config = self._config("fp32")
        student, teacher = (
            PublicNetwork(
                build_backbone(
                    config.model, config.views.global_px, self._device, drop_path=drop_path
                ),
                PublicHead(config.model.width, config.head.prototypes).to(self._device),
            )
            for drop_path in (config.model.drop_path, 0.0)
        )
        for network in (student, teacher):
            for module in network.modules():
                if hasattr(module, "fused_attn"):  # the authors' code multiplies matrices
                    module.fused_attn = False  # type: ignore[assignment]
                if isinstance(module, Linear):  # and leaves the choice of a library to torch
                    module.__class__ = nn.Linear
        reference = PublicStep(student, teacher, PublicOptions(steps_per_epoch=STEPS_PER_EPOCH))
        batch, iterations = self.batch, itertools.count()
        return lambda: reference.step(batch.global_views, batch.local_views, next(iterations))

    def seconds(self, name: str) -> float:
        """Take one step with a peer, and return its time in seconds."""
        started_s = self._now_s()
        self.steps[name]()
        return self._now_s() - started_s

    def _now_s(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def flops(self, name: str) -> int:
        """Return the number of floating-point operations in the matrix products of a step."""
        with FlopCounterMode(display=False) as counter:
            self.steps[name]()
        return counter.get_total_flops()

    def waits(self, name: str) -> int:
        """Return how often the host waits for the device in one step; the views are made before."""
        values = values_at(self._config("bf16"), self.states[name].step, STEPS_PER_EPOCH)
        batch = next(self.loaders[name])
        with counted_reads(HostWaits()) as counter, counter:
            self._take[name](batch, values)
        return len(counter.found)

    def memory_gb(self, name: str) -> float:
        """Return the peak GPU memory in GB during a step, with the networks of all peers in it."""
        torch.cuda.reset_peak_memory_stats()
        self.steps[name]()
        return torch.cuda.max_memory_allocated() / 1e9

    def save_cost(self, name: str, steps: int) -> dict[str, float]:
        """Return the cost of saving a checkpoint.

        Returns:
            `copy_s`: the seconds in which the state is copied. `step_s` and `step_beside_it_s`: the
            median seconds of a step before the save, and of a step while the copy is written.
        """
        state = self.states[name]
        config = self._config(name.split()[-1])
        plain = [self.seconds(name) for _ in range(steps)]
        with contextlib.closing(CheckpointWriter(config)) as writer:
            started_s = self._now_s()
            writer.save(state, {})
            copied_s = self._now_s() - started_s
            beside = [self.seconds(name) for _ in range(steps)]
        return {
            "copy_s": round(copied_s, 3),
            "step_s": round(statistics.median(plain), 3),
            "step_beside_it_s": round(statistics.median(beside), 3),
        }


def has_apex() -> bool:
    """Return True if NVIDIA's apex is installed."""
    try:
        from apex.optimizers import FusedAdam  # noqa: F401
    except ImportError:
        return False
    return True
