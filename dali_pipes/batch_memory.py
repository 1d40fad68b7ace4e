"""Memory for batches on the CPU that is reused when nothing refers to an earlier batch any more.

When a new tensor of a hundred megabytes is first written, the operating system maps its memory page
by page. This takes as long as making the views. On a GPU, torch's caching allocator already reuses
memory.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch


class BatchMemory:
    """An allocator of tensors that reuses the memory of tensors that are no longer referenced."""

    def __init__(self, device: torch.device) -> None:
        """Start without memory; tensors will be on `device`."""
        self._device = device
        self._free: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised tensor of this shape and dtype, as `torch.empty` does."""
        size = math.prod(shape) * dtype.itemsize
        if self._device.type != "cpu" or size == 0:
            return torch.empty(shape, dtype=dtype, device=self._device)
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else np.empty(size, np.uint8)
        # Only the tensor's storage references the array `lent`, so `lent` is deleted together with
        # the last view of the tensor. The callback keeps `memory` alive and returns it to `free`.
        lent = memory[:]
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)
