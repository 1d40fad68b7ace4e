"""Loaders: what the trainer and the scorer see of all this.

A loader owns a DALI pipeline, which makes views ahead on its own threads (reading and drawing, a
millisecond or so, are done when a batch is asked for), and hands out torch tensors on the training
device that it never touches again: batch k stays as it is while batch k + 1 is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dali_pipes.batch import Batch, ViewSpec
from dali_pipes.inputs import StepInputs, StreamOrder
from dali_pipes.negatives import StrategyName
from shards.cli import UserError
from shards.order import steps_per_epoch
from shards.reader import ShardSet

PREFETCH_BATCHES = 2


class TrainLoader:
    """Endless iterator of `Batch`, one a step; its whole state is the number of the next step."""

    def __init__(
        self,
        in_dist: ShardSet,
        aux: ShardSet | None,
        spec: ViewSpec,
        strategy: StrategyName,
        order: StreamOrder,
        device: torch.device,
        num_threads: int,
    ) -> None:
        """Check the request; the pipeline is built when the first batch is asked for.

        Raises:
            UserError: the views, the strategy, the batch and the sets do not fit each other.
        """
        spec.check()
        try:
            self.steps_per_epoch = steps_per_epoch(len(in_dist), order.global_batch)
        except UserError as error:
            raise UserError(f"{in_dist.directory}: {error}") from error
        self._inputs = StepInputs(in_dist, aux, spec, strategy, order)
        self._batch_size = len(range(order.global_batch)[order.rank_part])
        self._device = device
        self._num_threads = num_threads
        self._step = 0
        self._pipeline: Any = None

    def __iter__(self) -> Iterator[Batch]:
        """The loader is its own iterator."""
        return self

    def __next__(self) -> Batch:
        """The views of the next step; waits for them if they are not ready."""
        if self._pipeline is None:
            self._pipeline = self._build()
        outputs = self._pipeline.run(_stream(self._device))
        split = len(self._inputs.global_views)
        ids = self._inputs.ids(self._step)
        batch = Batch(
            step=self._step,
            global_views=self._stack(outputs[:split], self._inputs.spec.global_px),
            local_views=self._stack(outputs[split:], self._inputs.spec.local_px),
            in_dist_ids=torch.from_numpy(ids["in-dist"]),
            aux_ids=torch.from_numpy(ids["aux"]) if "aux" in ids else None,
        )
        self._step += 1
        return batch

    def state_dict(self) -> dict[str, object]:
        """Position, and what it is a position in."""
        order = self._inputs.order
        return {
            "step": self._step,
            "global_batch": order.global_batch,
            "seed": order.seed,
            "manifests": {
                stream: samples.manifest.sha256 for stream, samples in self._inputs.sets.items()
            },
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a saved position, with any number of ranks.

        Raises:
            UserError: the state is of other images, another batch size or another seed.
        """
        for field, ours in self.state_dict().items():
            if field == "manifests" and state.get(field) != ours:
                folders = ", ".join(str(shards.directory) for shards in self._inputs.sets.values())
                raise UserError(f"the run was trained on other manifests than those of {folders}")
            if field != "step" and state.get(field) != ours:
                raise UserError(f"the run's {field} is {state.get(field)!r}, here it is {ours!r}")
        self.close()
        self._step = int(state["step"])  # type: ignore[call-overload]

    def close(self) -> None:
        """Drop the pipeline and what it had prepared."""
        self._pipeline = None

    def _build(self):
        from dali_pipes.train_pipe import train_graph

        self._inputs.first_step = self._step
        pipeline = train_graph(
            self._inputs,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=self._batch_size,
            **_pipeline_options(self._device, self._num_threads),
        )
        pipeline.build()
        return pipeline

    def _stack(self, outputs, side_px: int) -> torch.Tensor:
        shape = (len(outputs), self._batch_size, 3, side_px, side_px)
        views = torch.empty(shape, device=self._device)
        for view, output in zip(views, outputs, strict=True):
            _copy(output, view)
        return views


class EvalLoader:
    """One pass over a set in order of id: (ids int64 [B] on the CPU, images [B, 3, G, G])."""

    def __init__(
        self,
        shards: ShardSet,
        crop_px: int,
        batch: int,
        device: torch.device,
        num_threads: int = 2,
    ) -> None:
        """The images come out at `crop_px` squared; the last batch may be smaller."""
        self._shards = shards
        self._crop_px = crop_px
        self._batch = batch
        self._device = device
        self._num_threads = num_threads

    def __len__(self) -> int:
        """Batches in the pass."""
        return -(-len(self._shards) // self._batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Start a pass."""
        from dali_pipes.eval_pipe import eval_graph

        pipeline = eval_graph(
            self._read,
            self._crop_px,
            self._shards.manifest.channels,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=min(self._batch, len(self._shards)),
            **_pipeline_options(self._device, self._num_threads),
        )
        pipeline.build()
        for number in range(len(self)):
            (output,) = pipeline.run(_stream(self._device))
            ids = self._ids(number)
            images = torch.empty((len(ids), 3, self._crop_px, self._crop_px), device=self._device)
            _copy(output, images)
            yield torch.from_numpy(ids), images

    def _ids(self, number: int) -> np.ndarray:
        start = number * self._batch
        return np.arange(start, min(start + self._batch, len(self._shards)))

    def _read(self, number: int) -> np.ndarray:
        if number >= len(self):
            raise StopIteration
        return self._shards.read(self._ids(number))


def _pipeline_options(device: torch.device, num_threads: int) -> dict[str, object]:
    return {
        "num_threads": num_threads,
        "device_id": (device.index or 0) if device.type == "cuda" else None,
        "prefetch_queue_depth": PREFETCH_BATCHES,
        "exec_dynamic": True,
    }


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """Torch's stream: DALI's results are ready, and their memory is free again, in its order."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _copy(output, destination: torch.Tensor) -> None:
    """Copy a dense DALI batch into `destination`."""
    from nvidia.dali.plugin.pytorch import feed_ndarray

    feed_ndarray(output.as_tensor(), destination, cuda_stream=_stream(destination.device))
