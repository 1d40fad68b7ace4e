"""DALI graphs on given images and parameters, on the CPU."""

from __future__ import annotations

from functools import partial

from dali_pipes.parity.run_graph import run_graph as run_graph_on

run_graph = partial(run_graph_on, device="cpu")
"""(images uint8 [B, H, W, C], `function(image node, parameter nodes)`, parameters) -> result."""
