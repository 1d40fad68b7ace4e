"""The view engine `dali`: a DALI graph makes the views in advance, on its threads or on the GPU.

Images are read, and parameters are drawn, one or two steps ahead, on the thread of the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dali_pipes.batch import BLACK
from dali_pipes.batch_memory import BatchMemory
from dali_pipes.config import LoaderConfig
from dali_pipes.dali.colour import colour_normalized
from dali_pipes.dali.inputs import GraphInputs
from dali_pipes.normalised import constant, normalize
from dali_pipes.readers import EncodedReader, Reader, open_readers
from dali_pipes.step_plan import GroupParams, StepPlan
from shards.errors import UserError
from shards.terminal.environment import usable_cpus

PREFETCH_BATCHES = 2
"""The number of batches that DALI prepares in advance."""


class DaliEngine:
    """The engine that makes views with a DALI graph; see `loader.ViewEngine`."""

    def __init__(
        self, plan: StepPlan, config: LoaderConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Open the readers. The graph is built later, when the first views are requested.

        Args:
            plan: The plan of the run.
            config: The options of the loader.
            dtype: The dtype of the views.
            device: The device on which the views are made and returned.
        """
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
        """Return the views of a step; see `loader.ViewEngine.views`."""
        if step != self._next_step:
            self.close()
            self._pipeline = self._build(step)
        self._next_step = step + 1
        try:
            outputs = self._pipeline.run(dali_stream(self._device))
        except RuntimeError as error:
            self.close()
            self._find_undecodable_image(step)
            folders = ", ".join(str(shards.directory) for shards in self._plan.sets.values())
            raise UserError(f"{folders}: DALI stopped near step {step}: {error}") from error
        params = self._inputs.take_params(step)
        split = sum(group.count for group in self._plan.global_groups)
        count = len(self._plan.global_groups)
        with threads_beside(self._threads, self._device):
            return (
                self._hand_over(outputs[:split], params[:count], self._plan.spec.global_px),
                self._hand_over(outputs[split:], params[count:], self._plan.spec.local_px),
            )

    def close(self) -> None:
        """Discard the graph and the views that it has prepared."""
        self._pipeline = None
        self._next_step = -1

    def _build(self, step: int) -> Any:
        from dali_pipes.dali.train_pipe import train_graph

        self._inputs = GraphInputs(self._plan, self._readers, step)
        pipeline = train_graph(
            self._inputs,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=self._plan.batch,
            **pipeline_options(self._device, self._threads),
        )
        pipeline.build()
        return pipeline

    def _hand_over(self, outputs: Sequence, params: Sequence[GroupParams], side_px: int) -> Tensor:
        """Finish the views that the graph has made, and join them in one tensor.

        Args:
            outputs: V outputs of the graph, each with one view per image, uint8 [B, s, s, C].
            params: The parameters of the groups of these views.
            side_px: The side s of the views, in pixels.

        Returns:
            The normalised views, [V, B, 3, s, s].
        """
        levels = [torch.from_dlpack(output.as_tensor()) for output in outputs]
        count, batch = len(levels), self._plan.batch
        if self._inputs.in_source_space:
            pixels = self._memory.empty((count, batch, side_px, side_px, 3), self._dtype)
            views = pixels.movedim(-1, 2)
        else:
            views = self._memory.empty((count, batch, 3, side_px, side_px), self._dtype)
        start = 0
        for group in params:
            part = slice(start, start + group.group.count)
            start = part.stop
            if not self._inputs.in_source_space:
                self._finish(levels[part], group, views[part])
            elif group.early:
                views[part] = self._finish(
                    levels[part],
                    group,
                    torch.empty(views[part].shape, dtype=self._dtype, device=self._device),
                )
            else:
                for view, level in zip(pixels[part], levels[part], strict=True):
                    normalize(level, view)
        return views

    def _finish(self, levels: Sequence[Tensor], group: GroupParams, out: Tensor) -> Tensor:
        """Apply colours and shift to the views of one group in view space.

        Args:
            levels: V tensors of views, each uint8 [B, s, s, C].
            group: The parameters of the group.
            out: The tensor [V, B, 3, s, s] to which the result is written; it is also returned.
        """
        for number, (level, view) in enumerate(zip(levels, out, strict=True)):
            colour_normalized(level, group.view[number], view)
        if group.shift and not self._inputs.shifts_source:
            views = out.flatten(0, 1)
            shifted = group.shifted(views, constant(BLACK, self._device), part="late")
            if shifted is not views:
                views.copy_(shifted)
        return out

    def _find_undecodable_image(self, step: int) -> None:
        """Read and decode the images of `step` and of the steps prepared after it, with Pillow.

        This is done after an error of DALI, because DALI does not always name the bad image.

        Raises:
            UserError: An image cannot be read or decoded. The message names the image.
        """
        for ahead in range(PREFETCH_BATCHES + 1):
            for stream, ids in self._plan.ids(step + ahead).items():
                self._plan.sets[stream].read(ids)


def pipeline_options(device: torch.device, threads: int) -> dict[str, object]:
    """Return the options that all DALI pipelines have in common."""
    return {
        "num_threads": threads,
        "device_id": (device.index or 0) if device.type == "cuda" else None,
        "prefetch_queue_depth": PREFETCH_BATCHES,
        "exec_dynamic": True,
    }


@contextmanager
def threads_beside(busy: int, device: torch.device) -> Iterator[None]:
    """Limit the number of torch's CPU threads within a `with` block.

    Torch gets the CPU cores that other threads leave free, and at least one thread. The reason is
    that OpenMP threads wait actively: if there are more threads than cores, they take time from
    DALI's threads. On two cores, a batch then took up to five times as long. On a GPU nothing is
    changed.

    Args:
        busy: The number of other threads.
        device: The device on which torch works.
    """
    if device.type != "cpu":
        yield
        return
    usual = torch.get_num_threads()
    torch.set_num_threads(max(1, min(usual, usable_cpus() - busy)))
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def dali_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the CUDA stream on which DALI must work, which is torch's current stream.

    On the same stream, DALI's work and torch's work are done in order. Returns None for a CPU.
    """
    return torch.cuda.current_stream(device) if device.type == "cuda" else None
