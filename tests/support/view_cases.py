"""Graph functions on given images and parameters, on DALI's CPU backend."""

from __future__ import annotations

from functools import partial

from dali_pipes.parity import compare

run_graph = partial(compare.run_graph, device="cpu")
"""(images uint8 [B, H, W, C], `function(image node, parameter nodes)`, parameters) -> result."""
