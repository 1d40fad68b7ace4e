"""The copy of values from the host to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return an array or a tensor as a tensor on `device`.

    The call does not wait for the work that is queued on a GPU.
    """
    host = torch.as_tensor(values)
    if device.type == "cuda" and host.device.type == "cpu":
        # A copy from pageable memory would wait until the GPU has done all queued work.
        host = host.pin_memory()
    return host.to(device, non_blocking=True)
