"""Largest tensor that a computation makes: a measure of its memory."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Inside a `with` block, keep the largest number of elements of any operation's result."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Call an operation and measure its result."""
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result
