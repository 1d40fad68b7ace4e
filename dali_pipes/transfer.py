"""The copy of host values to the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return an array, or a tensor of the host, on a device, without waiting for a GPU's queue."""
    host = torch.as_tensor(values)
    if device.type == "cuda" and host.device.type == "cpu":
        # A copy from pageable memory would wait for the work that is queued before it.
        host = host.pin_memory()
    return host.to(device, non_blocking=True)
