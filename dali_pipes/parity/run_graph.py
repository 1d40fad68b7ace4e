"""One run of a DALI graph on given images and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch


def run_graph(
    images: np.ndarray, function: Callable, params: Mapping[str, np.ndarray], device: str
) -> np.ndarray:
    """Return what `function(image node, parameter nodes)` makes of each image.

    Args:
        images: uint8 [B, H, W, C].
        function: Builds the graph of one image; the parameter nodes come by name.
        params: The parameters by name, each [B, ...]; they stay on the CPU.
        device: "cpu" or "gpu", the place of the images.
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
    """Return torch's device for DALI's "cpu" or "gpu"."""
    return torch.device("cuda" if device == "gpu" else "cpu")
