"""The evaluation loader: images in the order of their ids, resized and normalised by DALI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from dali_pipes.dali.engine import dali_stream, pipeline_options


class ImageSource(Protocol):
    """A collection of images of equal size: a `ShardSet`, or a user's images in memory.

    The ids of the images are 0 to len(self) - 1.
    """

    @property
    def channels(self) -> int:
        """The number of channels: 1 (gray) or 3 (RGB)."""

    def __len__(self) -> int:
        """Return the number of images."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return the images with the ids `ids`, int64 [B], as uint8 [B, H, W, C]."""


class EvalLoader:
    """An iterable over batches of images, in the order of their ids.

    A batch is a pair: the ids, int64 [B] on the CPU, and the normalised images, float32
    [B, 3, crop_px, crop_px] on the device. Each iteration starts a new pass over the images.
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
        """Prepare the loader; images are read during the iteration.

        Args:
            images: The images.
            crop_px: The side of the square to which images are resized, in pixels.
            batch: The number of images per batch. The last batch may be smaller.
            device: The device on which the images are returned.
            num_threads: The number of CPU threads of DALI.
            ids: The ids of the images to load; all images by default.
        """
        self._images = images
        self._all = range(len(images)) if ids is None else ids
        self._crop_px = crop_px
        self._batch = batch
        self._device = device
        self._num_threads = num_threads

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        return -(-len(self._all) // self._batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Start a pass over the images and yield its batches."""
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
