"""The evaluation loader: what the scorer sees of all this."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dali_pipes.dali_engine import dali_stream, pipeline_options
from shards.reader import ShardSet


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
        from nvidia.dali.plugin.pytorch import feed_ndarray

        from dali_pipes.eval_pipe import eval_graph

        pipeline = eval_graph(
            self._read,
            self._crop_px,
            self._shards.manifest.channels,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=min(self._batch, len(self._shards)),
            **pipeline_options(self._device, self._num_threads),
        )
        pipeline.build()
        stream = dali_stream(self._device)
        for number in range(len(self)):
            (output,) = pipeline.run(stream)
            ids = self._ids(number)
            images = torch.empty((len(ids), 3, self._crop_px, self._crop_px), device=self._device)
            feed_ndarray(output.as_tensor(), images, cuda_stream=stream)
            yield torch.from_numpy(ids), images

    def _ids(self, number: int) -> np.ndarray:
        start = number * self._batch
        return np.arange(start, min(start + self._batch, len(self._shards)))

    def _read(self, number: int) -> np.ndarray:
        if number >= len(self):
            raise StopIteration
        return self._shards.read(self._ids(number))
