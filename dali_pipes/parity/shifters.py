"""The two forms of the shifting transformations (DALI and torch), as functions of finished views.

Legend: B views, C channels, s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from dali_pipes.parity.run_graph import run_graph, torch_device
from dali_pipes.shifts.table import shift_named

Shifter = Callable[[np.ndarray, str, Mapping[str, np.ndarray]], np.ndarray]
"""A function that shifts views: (views uint8 [B, s, s, C], name of a shift, parameters of the shift
[B, ...]) -> shifted views uint8 [B, s, s, C]."""


def shifters(devices: Sequence[str]) -> dict[str, Shifter]:
    """Return the functions that shift views with DALI and with torch, on all given devices.

    Args:
        devices: The devices, each "cpu" or "gpu".

    Returns:
        Name, such as "dali cpu" -> function.
    """
    found: dict[str, Shifter] = {}
    for device in devices:
        found[f"dali {device}"] = partial(shift_by_dali, device=device)
        found[f"torch {device}"] = partial(shift_by_torch, device=torch_device(device))
    return found


def shift_by_dali(
    views: np.ndarray, name: str, params: Mapping[str, np.ndarray], *, device: str
) -> np.ndarray:
    """Shift views with a DALI graph on `device`, "cpu" or "gpu" (see `Shifter`)."""
    shift, side_px = shift_named(name), views.shape[1]
    return run_graph(views, lambda view, nodes: shift.graph(view, nodes, side_px), params, device)


def shift_by_torch(
    views: np.ndarray, name: str, params: Mapping[str, np.ndarray], *, device: torch.device
) -> np.ndarray:
    """Shift views with torch operations on `device` (see `Shifter`)."""
    planes = torch.from_numpy(views).permute(0, 3, 1, 2).to(device)
    given = {key: torch.from_numpy(value).to(device) for key, value in params.items()}
    black = torch.zeros(planes.shape[1], device=device)
    return shift_named(name).tensor(planes, given, black).permute(0, 2, 3, 1).cpu().numpy()
