"""The training graph: the images of a step -> all its views, on the CPU or the GPU."""

from __future__ import annotations

from typing import Literal

from nvidia.dali import fn, pipeline_def
from nvidia.dali.data_node import DataNode

from dali_pipes.augment import normalize, view_of
from dali_pipes.inputs import StepInputs
from dali_pipes.negatives import SHIFTS


@pipeline_def(enable_conditionals=True)
def train_graph(inputs: StepInputs, device: Literal["cpu", "gpu"]) -> tuple[DataNode, ...]:
    """All views of `inputs.views`, each float32 [3, side, side], in that order."""
    images_count = len(inputs.streams)
    params_count = sum(len(positions) for positions in inputs.positions)
    nodes = fn.external_source(
        source=inputs,
        num_outputs=images_count + params_count,
        batch=True,
        batch_info=True,
        layout=["HWC"] * images_count + [""] * params_count,
    )
    images = {}
    for position, stream in enumerate(inputs.streams):
        images[stream] = nodes[position].gpu() if device == "gpu" else nodes[position]
    outputs = []
    for number, plan in enumerate(inputs.views):
        params = {name: nodes[position] for name, position in inputs.positions[number].items()}
        view = view_of(
            images[plan.stream],
            params,
            plan.side_px,
            inputs.channels,
            in_source_space=inputs.in_source_space,
        )
        view = SHIFTS[plan.shift].apply(view, params)
        outputs.append(normalize(view, inputs.channels))
    return tuple(outputs)
