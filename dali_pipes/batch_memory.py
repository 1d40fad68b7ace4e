"""Memory of batches on the CPU, reused after the batch in it is no longer referenced.

The operating system maps a new tensor of a hundred megabytes page by page when it is first written.
This takes as long as making the views. On a GPU torch's caching allocator already reuses memory.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch


class BatchMemory:
    """Allocates tensors on a device, and reuses their memory after their last view is deleted."""

    def __init__(self, device: torch.device) -> None:
        """Start without any memory."""
        self._device = device
        self._free: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised tensor, as `torch.empty` does."""
        size = math.prod(shape) * dtype.itemsize
        if self._device.type != "cpu" or size == 0:
            return torch.empty(shape, dtype=dtype, device=self._device)
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else np.empty(size, np.uint8)
        # Only the tensor's storage references this array, so it is deleted with the last view of
        # the tensor. `memory` itself stays alive in the callback.
        lent = memory[:]
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)
