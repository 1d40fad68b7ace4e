"""How what is made on the host comes to the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """An array, or a tensor of the host, on a device; a GPU's queue is not waited for."""
    host = torch.as_tensor(values)
    if device.type == "cuda" and host.device.type == "cpu":
        host = host.pin_memory()  # else the copy would wait for what is queued before it
    return host.to(device, non_blocking=True)
