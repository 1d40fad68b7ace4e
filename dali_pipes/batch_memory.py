"""Memory for batches that is used again once nobody holds the batch that was in it.

A fresh tensor of a hundred megabytes is given to a process page by page as it is first written,
which takes as long as making the views in it. On a GPU torch's allocator sees to this already.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch


class BatchMemory:
    """Hands out tensors on a device; the memory of each comes back when its last view is gone."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is held yet."""
        self._device = device
        self._free: dict[int, list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Like `torch.empty`."""
        size = math.prod(shape) * dtype.itemsize
        if self._device.type != "cpu" or size == 0:
            return torch.empty(shape, dtype=dtype, device=self._device)
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else np.empty(size, np.uint8)
        # Whatever shares the tensor's storage keeps this array alive, which nothing else holds: its
        # end is the last view's. (`memory` lives on, in the callback.)
        lent = memory[:]
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)
