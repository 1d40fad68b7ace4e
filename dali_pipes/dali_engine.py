"""The view engine `dali`: a DALI graph makes the views ahead, on its own threads or on the GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dali_pipes.batch import BLACK, RGB_STD
from dali_pipes.batch_memory import BatchMemory
from dali_pipes.colour import colour_normalized
from dali_pipes.config import LoaderConfig
from dali_pipes.dali_inputs import GraphInputs
from dali_pipes.plan import GroupDraws, StepPlan
from dali_pipes.readers import EncodedReader, Reader, open_readers

PREFETCH_BATCHES = 2

CHUNK_LEVELS = {"cpu": 2**18, "cuda": 2**40}
"""Levels that are normalised at once: on a CPU as many as its caches hold in float32."""


class DaliEngine:
    """See `loader.ViewEngine`."""

    def __init__(
        self, plan: StepPlan, config: LoaderConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        """The graph is built when the first views are asked for."""
        self._plan = plan
        self._readers: Mapping[str, Reader | EncodedReader]
        if config.reader == "stream" and all(
            shards.manifest.encoding != "raw" for shards in plan.sets.values()
        ):
            self._readers = {name: EncodedReader(shards) for name, shards in plan.sets.items()}
        else:
            self._readers = open_readers(plan.sets, config, torch.device("cpu"))
        self._threads = config.threads
        self._dtype = dtype
        self._device = device
        self._memory = BatchMemory(device)
        self._pipeline: Any = None
        self._inputs: GraphInputs
        self._next_step = -1

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """See `loader.ViewEngine`."""
        if step != self._next_step:
            self.close()
            self._pipeline = self._build(step)
        self._next_step = step + 1
        try:
            outputs = self._pipeline.run(dali_stream(self._device))
        except RuntimeError:
            self._name_what_cannot_be_decoded(step)
            raise
        draws = self._inputs.take_draws(step)
        split = sum(group.count for group in self._plan.global_groups)
        count = len(self._plan.global_groups)
        with threads_beside(self._threads, self._device):
            return (
                self._hand_over(outputs[:split], draws[:count], self._plan.spec.global_px),
                self._hand_over(outputs[split:], draws[count:], self._plan.spec.local_px),
            )

    def close(self) -> None:
        """Drop the graph and what it had prepared."""
        self._pipeline = None
        self._next_step = -1

    def _build(self, step: int) -> Any:
        from dali_pipes.train_pipe import train_graph

        self._inputs = GraphInputs(self._plan, self._readers, step)
        pipeline = train_graph(
            self._inputs,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=self._plan.batch,
            **pipeline_options(self._device, self._threads),
        )
        pipeline.build()
        return pipeline

    def _hand_over(self, outputs: Sequence, draws: Sequence[GroupDraws], side_px: int) -> Tensor:
        """Views uint8 [B, s, s, C] each -> all of them finished, [V, B, 3, s, s]."""
        levels = [torch.from_dlpack(output.as_tensor()) for output in outputs]
        count, batch = len(levels), self._plan.batch
        if self._inputs.in_source_space:
            views = self._memory.empty((count, batch, side_px, side_px, 3), self._dtype)
            for view, level in zip(views, levels, strict=True):
                normalize(level, view)
            return views.movedim(-1, 2)
        views = self._memory.empty((count, batch, 3, side_px, side_px), self._dtype)
        start = 0
        for group in draws:
            part = views[start : start + group.group.count]
            for number, view in enumerate(part):
                colour_normalized(levels[start + number], group.view[number], view)
            start += len(part)
            if group.shift and not self._inputs.shifts_source:
                self._shift(part.flatten(0, 1), group)
        return views

    def _shift(self, views: Tensor, group: GroupDraws) -> None:
        """What the graph leaves to do where colours come after it: views [V B, 3, s, s]."""
        assert group.group.source is not None
        source = self._plan.sources[group.group.source]
        black = torch.tensor(BLACK, device=self._device)
        views.copy_(source.tensor(views, group.flat_shift(self._device), black))

    def _name_what_cannot_be_decoded(self, step: int) -> None:
        """Read the images of a step one by one: DALI does not always say which one it was."""
        for stream, ids in self._plan.ids(step).items():
            for sample_id in ids:
                self._plan.sets[stream].read(sample_id[None])


def pipeline_options(device: torch.device, threads: int) -> dict[str, object]:
    """What all pipelines are made with."""
    return {
        "num_threads": threads,
        "device_id": (device.index or 0) if device.type == "cuda" else None,
        "prefetch_queue_depth": PREFETCH_BATCHES,
        "exec_dynamic": True,
    }


@contextmanager
def threads_beside(busy: int, device: torch.device) -> Iterator[None]:
    """Torch's CPU threads no more than the cores that `busy` others leave, but one.

    OpenMP threads wait busily, which takes the time of DALI's where there is no core for each: up
    to five times the time for a batch on two cores.
    """
    if device.type != "cpu":
        yield
        return
    usual = torch.get_num_threads()
    torch.set_num_threads(max(1, min(usual, len(os.sched_getaffinity(0)) - busy)))
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def dali_version() -> str:
    """The version whose operators make the views; others may round otherwise."""
    import nvidia.dali

    return str(nvidia.dali.__version__)


def dali_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Torch's stream: DALI's results are ready, and their memory is free again, in its order."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def normalize(levels: Tensor, out: Tensor) -> None:
    """Levels, uint8 [B, s, s, 1 or 3] -> normalised, into `out` [B, s, s, 3] of a float dtype."""
    side_px = out.shape[1]
    scale = 1 / torch.tensor(RGB_STD, device=out.device).repeat(side_px)
    offset = torch.tensor(BLACK, device=out.device).repeat(side_px)
    images = max(1, CHUNK_LEVELS[out.device.type] // out[0].numel())
    for chunk, part in zip(levels.split(images), out.split(images), strict=True):
        lines = part.view(-1, 3 * side_px)
        work = lines if out.dtype == torch.float32 else torch.empty(lines.shape, device=out.device)
        work.copy_(chunk.expand(part.shape).reshape(lines.shape))
        torch.addcmul(offset, work, scale, out=work)
        if work is not lines:
            lines.copy_(work)
