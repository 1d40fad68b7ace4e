"""A function that builds a DALI graph and runs it once, on given images and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch


def run_graph(
    images: np.ndarray, function: Callable, params: Mapping[str, np.ndarray], device: str
) -> np.ndarray:
    """Build a DALI graph, run it once on a batch of images, and return the results.

    Args:
        images: The images, uint8 [B, H, W, C].
        function: A function that builds the graph of one image: (image node, parameter nodes by
            name) -> result node.
        params: Parameter name -> values, [B, ...]. Parameters stay on the CPU.
        device: The device of the images, "cpu" or "gpu".

    Returns:
        The results for all images, [B, ...].
    """
    from nvidia.dali import fn
    from nvidia.dali.pipeline import pipeline_def

    @pipeline_def(enable_conditionals=True)
    def graph():
        image, *nodes = fn.external_source(
            source=lambda: [images, *params.values()],
            num_outputs=1 + len(params),
            batch=True,
            layout=["HWC", *[""] * len(params)],
        )
        if device == "gpu":
            image = image.gpu()
        return function(image, dict(zip(params, nodes)))  # noqa: B905 (rewritten by DALI)

    device_id = 0 if device == "gpu" else None
    pipeline = graph(batch_size=len(images), num_threads=2, device_id=device_id)
    pipeline.build()
    (output,) = pipeline.run()
    return np.asarray((output.as_cpu() if device == "gpu" else output).as_array())


def torch_device(device: str) -> torch.device:
    """Return torch's device for DALI's device name "cpu" or "gpu"."""
    return torch.device("cuda" if device == "gpu" else "cpu")
