"""The graphs for the GPU, as far as they can be tried without one.

They are defined and serialised, which checks every operator's arguments, and each operator that is
to run on a GPU must have a kernel there. `make gpu-check` runs them.
"""

from __future__ import annotations

import dataclasses

import pytest
from nvidia.dali.backend import RegisteredGPUOps, RegisteredMixedOps

from dali_pipes.batch import ViewSpec
from dali_pipes.dali.eval_pipe import eval_graph
from dali_pipes.dali.inputs import GraphInputs
from dali_pipes.dali.train_pipe import train_graph
from dali_pipes.readers import EncodedReader, StreamReader
from dali_pipes.step_plan import StepPlan, StreamOrder
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, photographs

SPEC = ViewSpec(global_px=32, local_px=16, local_views=2)
EVERYTHING = (
    "rot-in+rot90x4-in+rot-any-in+perm-4-in+perm-16-in+pixperm-in+cutperm-in+blur-in+3*aux|rot-in"
)


def devices_of_operators(pipeline) -> dict[str, set[str]]:
    devices: dict[str, set[str]] = {}
    for op in pipeline._ops:
        name = op.name.lstrip("_").rsplit("_", 1)[0]
        devices.setdefault(name, set()).update(node.device for node in op.outputs)
    return devices


def assert_runs_on_a_gpu(pipeline, expected: set[str]) -> None:
    assert len(pipeline.serialize()) > 0
    devices = devices_of_operators(pipeline)
    for name in expected:
        assert devices[name] == {"gpu"}, (name, devices)
    registered = {*RegisteredGPUOps(), *RegisteredMixedOps()}
    on_gpu = [op for op in pipeline._ops if any(node.device == "gpu" for node in op.outputs)]
    names = {str(op.spec).split(":")[0].removeprefix("OpSpec for ") for op in on_gpu}
    assert names and names - registered == set()


@pytest.mark.slow
@pytest.mark.parametrize("shift_space", ["view", "source"])
@pytest.mark.parametrize("space", ["view", "source"])
@pytest.mark.parametrize("encoding", ["raw", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_training_graph(tmp_path, encoding, channels, space, shift_space) -> None:
    images = photographs(30, 32, channels).squeeze()
    sets = {
        name: ShardSet.open(build_npy_set(tmp_path, name, images, encoding=encoding))
        for name in ("own", "aux")
    }
    spec = dataclasses.replace(SPEC, photometric_space=space, shift_space=shift_space)
    everything = EVERYTHING
    if shift_space == "view":
        everything += "+rot-any-early-in|pixperm-in"
    plan = StepPlan(sets["own"], sets["aux"], spec, everything, StreamOrder(6, 0))
    reader = StreamReader if encoding == "raw" else EncodedReader
    readers = {stream: reader(shards) for stream, shards in plan.sets.items()}
    inputs = GraphInputs(plan, readers, first_step=0)
    pipeline = train_graph(inputs, device="gpu", batch_size=6, num_threads=1, device_id=None)
    expected = {"Slice", "Resize", "Filter"}
    if space == "source":
        expected |= {"CoordTransform", "LookupTable"}
    if shift_space == "source" or space == "source":
        expected |= {"Rotate", "SequenceRearrange", "Flip", "GaussianBlur", "Merge"}
    else:
        expected |= {"Rotate"}
    assert_runs_on_a_gpu(pipeline, expected)


def test_the_evaluation_graph(rgb_set) -> None:
    pipeline = eval_graph(
        lambda number: rgb_set.read([number]), 64, 3, "gpu", batch_size=1, num_threads=1
    )
    assert_runs_on_a_gpu(pipeline, {"Resize", "CropMirrorNormalize"})
