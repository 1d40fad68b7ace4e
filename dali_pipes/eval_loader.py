"""The evaluation loader: images resized and normalised by DALI, in order of their ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from dali_pipes.dali.engine import dali_stream, pipeline_options


class ImageSource(Protocol):
    """Images of one size by id, 0 .. len-1: a `ShardSet`, or a user's images in memory."""

    @property
    def channels(self) -> int:
        """Number of channels, 1 or 3."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return the images of some ids: int64 [B] -> uint8 [B, H, W, C]."""


class EvalLoader:
    """One pass over images in order of id.

    A batch is (ids int64 [B] on the CPU, images float32 [B, 3, G, G] on the device).
    """

    def __init__(
        self,
        images: ImageSource,
        crop_px: int,
        batch: int,
        device: torch.device,
        num_threads: int = 2,
        ids: range | None = None,
    ) -> None:
        """Load the images of `ids` (all by default), resized to squares of side `crop_px`.

        The last batch may be smaller.
        """
        self._images = images
        self._all = range(len(images)) if ids is None else ids
        self._crop_px = crop_px
        self._batch = batch
        self._device = device
        self._num_threads = num_threads

    def __len__(self) -> int:
        """Return the number of batches in the pass."""
        return -(-len(self._all) // self._batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Start a pass and yield its batches."""
        if not self._all:
            return
        from nvidia.dali.plugin.pytorch import feed_ndarray

        from dali_pipes.dali.eval_pipe import eval_graph

        pipeline = eval_graph(
            self._read,
            self._crop_px,
            self._images.channels,
            device="gpu" if self._device.type == "cuda" else "cpu",
            batch_size=min(self._batch, len(self._all)),
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
        return np.array(self._all[number * self._batch : (number + 1) * self._batch])

    def _read(self, number: int) -> np.ndarray:
        if number >= len(self):
            raise StopIteration
        return self._images.read(self._ids(number))
