"""The training graph: it makes all views of a step from the images, on the CPU or the GPU."""

from __future__ import annotations

from functools import partial
from typing import Literal

from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.dali.augment import decode, view_of
from dali_pipes.dali.inputs import GraphInputs


@pipeline_def(enable_conditionals=True)
def train_graph(inputs: GraphInputs, device: Literal["cpu", "gpu"]) -> tuple[DataNode, ...]:
    """Build the graph that makes all views in `inputs.views`.

    The engine finishes the views after the graph. In source space, only the normalisation remains
    to be done. In view space, the colours (`colour.colour_normalized`) and the shifts that are not
    early also remain to be done.

    Args:
        inputs: The callback that gives images and parameters.
        device: The device on which the graph works.

    Returns:
        One node per view, uint8 [side, side, C], in the order of `inputs.views`.
    """
    images_count = len(inputs.streams)
    params_count = sum(len(view.positions) for view in inputs.views)
    nodes = fn.external_source(
        source=inputs,
        num_outputs=images_count + params_count,
        batch=True,
        batch_info=True,
        layout=["" if inputs.encoded else "HWC"] * images_count + [""] * params_count,
    )
    images = {}
    for position, stream in enumerate(inputs.streams):
        if inputs.encoded:
            images[stream] = decode(nodes[position], inputs.channels, device)
        else:
            images[stream] = nodes[position].gpu() if device == "gpu" else nodes[position]
    outputs = []
    for plan in inputs.views:
        params = {name: nodes[position] for name, position in plan.positions.items()}
        image = images[plan.images]
        if plan.negative is not None and inputs.shifts_source:
            image = plan.negative.graph(image, params, inputs.image_px)
        early = None
        if plan.negative is not None and plan.negative.early:
            early = partial(plan.negative.graph, params=params, side_px=plan.side_px, part="early")
        view = view_of(image, params, in_source_space=plan.in_source_space, early=early)
        if plan.negative is not None and not inputs.shifts_source and plan.in_source_space:
            view = plan.negative.graph(view, params, plan.side_px)
        outputs.append(view)
    return tuple(outputs)
