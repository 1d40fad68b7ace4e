"""Counts where a host waits for its device, on any device: for the tests and the benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class HostWaits(TorchDispatchMode):
    """Lists the operations whose result a host reads, or whose shape depends on values."""

    NAMES = (
        "_local_scalar_dense",
        "item",
        "is_nonzero",
        "_is_all_true",
        "_is_any_true",
        "equal",
        "nonzero",
        "masked_select",
        "_unique2",
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in self.NAMES or any(
            mask is not None and mask.dtype == torch.bool for mask in masks
        ):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted_reads(counter: HostWaits) -> Iterator[HostWaits]:
    """Count also what takes a tensor to the host without an operation of its own."""
    real = {name: getattr(torch.Tensor, name) for name in ("tolist", "numpy", "cpu")}

    def counted(name: str):
        def read(tensor, *args):
            counter.found.append(name)
            return real[name](tensor, *args)

        return read

    try:
        for name in real:
            setattr(torch.Tensor, name, counted(name))
        yield counter
    finally:
        for name, method in real.items():
            setattr(torch.Tensor, name, method)
