"""What a training step costs, beside the bare network and a straightforward step.

All peers take turns in one process, on the same views of ViT-S/16 at 256 and 128 px (2 + 8 positive
ones and 1 + 8 of rotated negatives):

    bare        forward and backward of timm's ViT over the views, and nothing else
    ours        a whole step: the loader's views, student, teacher, head, loss, update, averages
    reference   a step as the authors' public code takes it, on given views (`authors_reference.py`
                of tests/support)

Then what `train/main.py` itself reports of its waits, what it says of memory with micro-batches and
with recomputation, the cost of a checkpoint beside the steps, and the waits for the device in a
step. One line of JSON at the end; ratios are medians over the rounds, with least and largest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.images import image_set
from benchmarks.rounds import chosen, in_turn, ratio
from dali_pipes.batch import Batch
from dali_pipes.loader import TrainLoader
from shards.reader import ShardSet
from shards.terminal import cli
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

ROOT = Path(__file__).parents[1]
STEPS_PER_EPOCH = 100
SAVE_STEPS = 3
"""Steps without a save, and as many beside one."""


RATIOS = (
    ("overhead_vs_bare", "ours bf16", "bare bf16"),
    ("overhead_vs_bare_fp32", "ours fp32", "bare fp32"),
    ("overhead_vs_bare_fp16", "ours fp16", "bare fp16"),
    ("ratio_reference_step", "reference fp32", "ours bf16"),
    ("ratio_reference_step_fp32", "reference fp32", "ours fp32"),
    ("ratio_compiled", "ours bf16", "compiled bf16"),
    ("ratio_apex", "ours bf16", "apex bf16"),
)
"""Name, and whose seconds over whose."""


@dataclass(frozen=True)
class StepRequest:
    """What is measured."""

    batch: int = 4
    """Images a step; on a GPU 64 or more."""
    rounds: int = 5
    """Turns of all peers."""
    peers: tuple[str, ...] = ()
    """Only these, "bare bf16" say: more rounds of them in the same time. By default all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    """Also a student whose kernels torch.compile makes: minutes on a CPU."""
    steps_only: bool = False
    """Leave out what runs in processes of its own: waits, memory."""


def paper_run(shards: Path, out: Path, request: StepRequest, **changes: object) -> RunConfig:
    """The paper's network and views, with rotated in-distribution negatives."""
    return dataclasses.replace(
        RECIPES["icann22-paper-cifar10"](),
        in_dist=shards,
        out=out,
        negatives="rot-in",
        global_batch=request.batch,
        **changes,  # type: ignore[arg-type]
    )


class Peers:
    """Steps to be timed, by name."""

    def __init__(self, shards: ShardSet, out: Path, request: StepRequest) -> None:
        """Build networks, optimizers and loaders."""
        self._device = pick_device(request.device)
        self._world = World(rank=0, world_size=1, device=self._device)
        self._request, self._shards, self._out = request, shards.directory, out
        self.batch = next(build_loader(self._config("fp32"), self._world))
        self.steps: dict[str, Callable[[], object]] = {}
        self.states: dict[str, TrainState] = {}
        self.loaders: dict[str, TrainLoader] = {}
        self._take: dict[str, Callable[[Batch, StepValues], StepResult]] = {}
        for precision in ["bf16", "fp32"] + (["fp16"] if self._device.type == "cuda" else []):
            self.steps[f"bare {precision}"] = self._bare(precision)
            self.steps[f"ours {precision}"] = self._ours(f"ours {precision}", precision)
        if request.compile:
            self.steps["compiled bf16"] = self._ours("compiled bf16", "bf16", compile=True)
        if has_apex() and self._device.type == "cuda":
            optim = dataclasses.replace(self._config("bf16").optim, impl="apex")
            self.steps["apex bf16"] = self._ours("apex bf16", "bf16", optim=optim)
        self.steps["reference fp32"] = self._reference()

    def _config(self, precision: str, **changes: object) -> RunConfig:
        return paper_run(self._shards, self._out, self._request, precision=precision, **changes)

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
                if hasattr(module, "fused_attn"):  # that code multiplies matrices,
                    module.fused_attn = False  # type: ignore[assignment]
                if isinstance(module, Linear):  # and lets torch choose how
                    module.__class__ = nn.Linear
        reference = PublicStep(student, teacher, PublicOptions(steps_per_epoch=STEPS_PER_EPOCH))
        batch, iterations = self.batch, itertools.count()
        return lambda: reference.step(batch.global_views, batch.local_views, next(iterations))

    def seconds(self, name: str) -> float:
        """One step of a peer."""
        started_s = self._now_s()
        self.steps[name]()
        return self._now_s() - started_s

    def _now_s(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def flops(self, name: str) -> int:
        """Floating-point operations of the matrix products of a step."""
        with FlopCounterMode(display=False) as counter:
            self.steps[name]()
        return counter.get_total_flops()

    def waits(self, name: str) -> int:
        """How often the host asks for a value of the device in a step, its views at hand."""
        values = values_at(self._config("bf16"), self.states[name].step, STEPS_PER_EPOCH)
        batch = next(self.loaders[name])
        with counted_reads(HostWaits()) as counter, counter:
            self._take[name](batch, values)
        return len(counter.found)

    def memory_gb(self, name: str) -> float:
        """The most that a step allocates on the GPU, with all peers' networks there."""
        torch.cuda.reset_peak_memory_stats()
        self.steps[name]()
        return torch.cuda.max_memory_allocated() / 1e9

    def save_cost(self, name: str, steps: int) -> dict[str, float]:
        """Seconds that a save takes of the loop, and of a step while it is written."""
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
    """Whether NVIDIA's apex is there."""
    try:
        from apex.optimizers import FusedAdam  # noqa: F401
    except ImportError:
        return False
    return True


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product, the best of some."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best_s = math.inf
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started_s = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * side**3 / best_s


def run_trainer(shards: Path, out: Path, request: StepRequest, *options: str) -> str:
    """What `train/main.py` prints."""
    command = [sys.executable, str(ROOT / "train" / "main.py"), "icann22-paper-cifar10"]
    command += ["--in-dist", str(shards), "--out", str(out), "--negatives", "rot-in"]
    command += ["--global-batch", str(request.batch), "--device", request.device, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def real_run(shards: Path, out: Path, request: StepRequest) -> dict[str, float]:
    """Its own report of the share of time that it waits for views, the first steps left out."""
    # A report waits for the device: on a GPU, where others do not, it has to be rare.
    steps, epochs = (50, 40) if pick_device(request.device).type == "cuda" else (1, 2)
    options = f"--log-steps {steps} --epochs {epochs} --optim.warmup-epochs 1".split()
    run_trainer(shards, out, request, *options)
    reports = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][2:]
    waits = [report["data_wait_pct"] for report in reports]
    return {
        "data_wait_pct": round(statistics.median(waits), 2),
        "data_wait_pct_max": round(max(waits), 2),
        "data_wait_steps": len(waits),
    }


def memory_of(shards: Path, out: Path, request: StepRequest) -> dict[str, float]:
    """GB at most of a rank, as `--dry-run` says, whole and with less kept."""
    variants = {
        "whole": (),
        "micro_batch_1": ("--micro-batch", "1"),
        "recompute": ("--model.recompute",),
    }
    found = {}
    for name, options in variants.items():
        told = run_trainer(shards, out, request, "--dry-run", *options)
        match = re.search(r"([\d.]+) GB at most", told)
        assert match, told
        found[name] = float(match[1])
    return found


def measure(request: StepRequest) -> dict[str, object]:
    """All figures."""
    results: dict[str, object] = {}
    device = pick_device(request.device)
    with tempfile.TemporaryDirectory() as folder, image_set(8 * request.batch) as shards:
        out = Path(folder)
        peers = Peers(shards, out / "peers", request)
        names = chosen(request.peers, peers.steps)
        for name in names:  # whose first step fills tables and caches
            peers.seconds(name)
        seconds = in_turn(names, peers.seconds, request.rounds)
        for name, over, under in RATIOS:
            if over in seconds and under in seconds:
                results |= ratio(name, seconds[over], seconds[under])
        results["step_s"] = {n: round(statistics.median(s), 4) for n, s in seconds.items()}
        flops = peers.flops("ours bf16")
        for name in peers.states.keys() & seconds.keys():
            # Of the plain step: what a compiled kernel multiplies is not counted.
            rate = flops / statistics.median(seconds[name])
            results[f"tflops {name}"] = round(rate / 1e12, 3)
            best = matmul_rate(device, AUTOCAST[name.split()[-1]])
            results[f"fraction_of_matmul {name}"] = round(rate / best, 3)
            if device.type == "cuda":
                results[f"memory_gb {name}"] = round(peers.memory_gb(name), 2)
        results["host_waits_per_step"] = peers.waits("ours bf16")
        results["checkpoint"] = peers.save_cost("ours bf16", SAVE_STEPS)
        if not request.steps_only:
            results |= real_run(shards.directory, out / "run", request)
            results["memory_gb"] = memory_of(shards.directory, out / "dry", request)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    request = cli.parse(StepRequest, argv, description=__doc__)
    machine = {
        "load_before": round(os.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name(0)
        if pick_device(request.device).type == "cuda"
        else "cpu",
        "cpus": os.cpu_count(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
    }
    results = measure(request)
    print(json.dumps({**results, "batch": request.batch, "rounds": request.rounds, **machine}))


if __name__ == "__main__":
    cli.run(main)
