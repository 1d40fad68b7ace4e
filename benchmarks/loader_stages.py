"""The time of each stage of the view engines, for `benchmarks.loader`.

`dali`: for each stage there is a graph that ends after this stage. All graphs are timed, as wall
time per image on all cores. The time of a stage is the time of its graph minus that of the graph
before it, and at least 0. This is the time that the stage adds to a step, not the time that it
takes alone, because it may use a core that is idle in other stages. "read" and "draw" run on one
thread.

`product`: the calls of a step are timed one after the other. In a run, reading and drawing for the
next step go on at the same time, so the sum is more than the time of a step.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def

from benchmarks.loader_peers import BATCH, CPU, CPUS, Peer
from dali_pipes.batch import ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.dali.augment import blur, colour, decode, resize, solarize
from dali_pipes.dali.engine import pipeline_options
from dali_pipes.dali.inputs import GraphInputs
from dali_pipes.dali.params import graph_params
from dali_pipes.product import views
from dali_pipes.product.engine import ProductEngine
from dali_pipes.product.views import ProductViews
from dali_pipes.readers import EncodedReader, Reader, ResidentReader, StreamReader
from dali_pipes.step_plan import StepPlan, StreamOrder
from shards.reader import ShardSet

RAW_STAGES = ("read", "draw", "slice", "photometric", "resize", "solarize", "hand_over")
"""Stages for small raw images, whose colours and blur act on the crop. The last stage, "normalise",
is not timed with a graph of its own: it is the rest of a step."""
JPEG_STAGES = ("read", "draw", "decode", "slice", "resize", "blur", "hand_over")
"""Stages for large images. The last stage, "colour_normalise", is the rest of a step."""
LIMIT_STEPS = 8
"""Number of steps whose crops `resize_limit` draws in advance and then uses again and again."""


def plan_of(shards: ShardSet, spec: ViewSpec) -> StepPlan:
    """Return the plan of a run on `shards` that has positive views only."""
    return StepPlan(shards, None, spec, "none", StreamOrder(BATCH, seed=0))


def stream_reader(shards: ShardSet) -> Reader | EncodedReader:
    """Return the reader that the engine `dali` uses for a set."""
    return StreamReader(shards) if shards.manifest.encoding == "raw" else EncodedReader(shards)


def runs(pipeline: Any) -> Iterator:
    """Yield the outputs of a pipeline, run after run."""
    while True:
        yield pipeline.run()


def arrays_of(images: Any) -> Any:
    """Return the images of a reader in the form that DALI takes."""
    return images.numpy() if isinstance(images, torch.Tensor) else images


# --- DALI, stage by stage ---


def stage_peers(shards: ShardSet, spec: ViewSpec) -> dict[str, Peer]:
    """Return a peer for each stage: the graph of positive views that ends after this stage."""
    stages = RAW_STAGES if shards.manifest.encoding == "raw" else JPEG_STAGES
    return {stage: Peer(_until(shards, spec, stage)) for stage in stages}


def stage_us(rates: Mapping[str, float], whole_rate: float) -> dict[str, float]:
    """Return the time of each stage, in microseconds per image.

    Args:
        rates: stage -> images per second of its peer in `stage_peers`, in the order of the stages.
        whole_rate: images per second of the whole engine.
    """
    last = "normalise" if "photometric" in rates else "colour_normalise"
    totals_us = {stage: 1e6 / rate for stage, rate in {**rates, last: whole_rate}.items()}
    differences = np.diff(list(totals_us.values()), prepend=0).clip(min=0)
    return {name: round(float(us), 1) for name, us in zip(totals_us, differences, strict=True)}


def _until(shards: ShardSet, spec: ViewSpec, stage: str) -> Iterator:
    if stage == "read":
        return ours_reading(shards, stream_reader(shards)).batches
    inputs = GraphInputs(plan_of(shards, spec), {"in-dist": stream_reader(shards)}, first_step=0)

    def source(info: Any) -> list:
        arrays = inputs(info)
        inputs.take_params(info.iteration)
        return arrays

    pipeline = _graph_until(inputs, source, stage, batch_size=BATCH, **pipeline_options(CPU, CPUS))
    return map(_handed_over, runs(pipeline)) if stage == "hand_over" else runs(pipeline)


def _handed_over(outputs: Sequence) -> list[torch.Tensor]:
    return [torch.from_dlpack(output.as_tensor()) for output in outputs]


@pipeline_def(enable_conditionals=True)
def _graph_until(inputs: GraphInputs, source: Callable, stage: str) -> tuple:
    """Build the graph `train_graph` for positive views, but only up to a stage."""
    count = 1 + sum(len(view.positions) for view in inputs.views)
    nodes = fn.external_source(
        source=source,
        num_outputs=count,
        batch=True,
        batch_info=True,
        layout=["" if inputs.encoded else "HWC"] + [""] * (count - 1),
    )
    image = decode(nodes[0], inputs.channels, "cpu") if inputs.encoded else nodes[0]
    if stage == "draw":
        return tuple(nodes)
    if stage == "decode":
        return image, *nodes[1:]
    views = []
    for view in inputs.views:
        params = {name: nodes[position] for name, position in view.positions.items()}
        views.append(_view_until(image, params, inputs.in_source_space, stage))
    if stage == "hand_over":
        return tuple(views)
    # All parameters are outputs, because DALI would not copy parameters that are not used.
    return *views, *nodes[1:]


def _view_until(image: Any, params: dict, in_source_space: bool, stage: str) -> Any:
    """Build the nodes that `augment.view_of` builds for a view, but only up to a stage."""
    view = fn.slice(image, params["crop_start"], params["crop_shape"], axes=[0, 1])
    if stage == "slice":
        return view
    if in_source_space:
        view = blur(colour(view, params), params)
        if stage == "photometric":
            return view
    view = resize(view, params["size"])
    if stage == "resize":
        return view
    if not in_source_space:
        view = blur(view, params)
    if "solarize" in params:
        view = solarize(view, params["solarize"])
    return view


# --- limits ---


def resize_limit(shards: ShardSet, spec: ViewSpec) -> Peer:
    """Return a peer in which DALI does only a part of the engine's work.

    It reads and decodes the images, and resizes the same crops as the engine. Its views are uint8.
    """
    plan, reader = plan_of(shards, spec), stream_reader(shards)
    names = ("crop_start", "crop_shape", "size")
    crops: list[list[np.ndarray]] = []
    for step in range(LIMIT_STEPS):
        crops.append([])
        for group in plan.params(step):
            kind, side_px = group.group.kind, group.group.side_px
            for number in range(group.group.count):
                params = group.view[number]
                arrays = graph_params(params, kind, side_px, plan.channels, in_source_space=False)
                crops[-1] += [arrays[name] for name in names]
    encoded = isinstance(reader, EncodedReader)

    def source(info: Any) -> list:
        ids = plan.ids(info.iteration)["in-dist"]
        return [arrays_of(reader.read(ids)), *crops[info.iteration % LIMIT_STEPS]]

    @pipeline_def
    def graph() -> tuple:
        count = 1 + len(crops[0])
        layout = ["" if encoded else "HWC"] + [""] * (count - 1)
        image, *nodes = fn.external_source(
            source=source, num_outputs=count, batch=True, batch_info=True, layout=layout
        )
        if encoded:
            image = decode(image, plan.channels, "cpu")
        places = zip(*[iter(nodes)] * 3, strict=True)
        return tuple(
            resize(fn.slice(image, start, shape, axes=[0, 1]), size)
            for start, shape, size in places
        )

    return Peer(runs(graph(batch_size=BATCH, **pipeline_options(CPU, CPUS))))


# --- readers ---


def dali_reading(shards: ShardSet) -> Peer:
    """Return a peer that only reads, with DALI's own WebDataset reader and its shuffle buffer."""

    @pipeline_def
    def graph() -> Any:
        files = shards.manifest.shards
        return fn.readers.webdataset(
            paths=[str(shards.directory / shard.file) for shard in files],
            index_paths=[str(shards.directory / shard.idx_file) for shard in files],
            ext=[shards.manifest.extensions[0]],
            random_shuffle=True,
        )

    return Peer(runs(graph(batch_size=BATCH, **pipeline_options(CPU, CPUS))))


def ours_reading(shards: ShardSet, reader: Reader | EncodedReader) -> Peer:
    """Return a peer that only reads: DALI gets the images of each step from one of our readers."""
    plan = plan_of(shards, ViewSpec())

    def source(info: Any) -> Any:
        return arrays_of(reader.read(plan.ids(info.iteration)["in-dist"]))

    @pipeline_def
    def graph() -> Any:
        return fn.external_source(source=source, batch=True, batch_info=True)

    return Peer(runs(graph(batch_size=BATCH, **pipeline_options(CPU, CPUS))))


def reader_peers(raw: ShardSet, jpeg: ShardSet) -> dict[tuple[str, str], Peer]:
    """Return the peers that only read images: (reader, kind of set) -> peer."""
    peers = {}
    for kind, shards in (("32px_raw", raw), ("256px_jpeg", jpeg)):
        peers["dali", kind] = dali_reading(shards)
        peers["ours", kind] = ours_reading(shards, stream_reader(shards))
    peers["resident", "32px_raw"] = ours_reading(raw, ResidentReader(raw, CPU))
    return peers


# --- product, stage by stage ---


def product_stage_us(
    shards: ShardSet, spec: ViewSpec, dtype: torch.dtype, repeats: int, steps: int = 8
) -> dict[str, float]:
    """Return the time of each stage of the engine `product`, in microseconds per image.

    The time is the median over `repeats` rounds of `steps` steps. The stages are "read", "draw",
    "jitter", and: "place", which computes where each pixel of a crop lies; "cut", which gathers the
    crops and normalises them; "products", the two matrix products; "finish", which fetches the
    operators of the products; "other", which has levels of 0..1, clipping, solarization and memory.
    """
    engine = ProductEngine(plan_of(shards, spec), LoaderConfig(), dtype, CPU)
    plan = engine._plan
    spent_s: dict[str, float] = defaultdict(float)

    def timed(stage: str, call: Callable) -> Callable:
        def wrapper(*args: Any, **options: Any) -> Any:
            start_s = time.perf_counter()
            result = call(*args, **options)
            spent_s[stage] += time.perf_counter() - start_s
            return result

        return wrapper

    def step(number: int) -> None:
        engine.make(engine.prepare(number))

    rounds: list[dict[str, float]] = []
    with ExitStack() as patches:
        for owner, name, stage in (
            (engine._readers["in-dist"], "read", "read"),
            (plan, "params", "draw"),
            (views, "place_crops", "place"),
            (ProductViews, "_cut", "cut"),
            (ProductViews, "_colour", "colour"),
            (views, "jitter_", "jitter"),
            (ProductViews, "_resize", "finish"),
            (torch, "bmm", "products"),
        ):
            patches.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        step(0)
        for _ in range(repeats):
            spent_s.clear()
            start_s = time.perf_counter()
            for number in range(1, steps + 1):
                step(number)
            total_s = time.perf_counter() - start_s
            # Some of these calls contain others. The time of the inner calls is subtracted.
            spent_s["cut"] += spent_s.pop("colour") - spent_s["jitter"] - spent_s["place"]
            spent_s["finish"] -= spent_s["products"]
            spent_s["other"] = total_s - sum(spent_s.values())
            rounds.append({stage: 1e6 * s / (steps * BATCH) for stage, s in spent_s.items()})
    return {stage: round(statistics.median(one[stage] for one in rounds), 1) for stage in rounds[0]}
