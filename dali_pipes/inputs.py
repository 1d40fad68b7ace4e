"""What a training graph is fed each step: raw images by id, and the parameters of every view.

`StepInputs` is the callback of the graph's only source. It is a function of the step alone, so the
graph behind it needs no state: to resume is to start it at another step.

Samples are read with one positioned read each, straight from the tars by the offsets of their
index, rather than by DALI's reader: any order at no cost, hence a truly global shuffle, and a file
that is cut under a running job is an error that names the shard where a mapped file is a crash.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dali_pipes.batch import GLOBAL_VIEWS, ViewSpec
from dali_pipes.draws import ViewDraw, ViewKind, draw_view
from dali_pipes.negatives import SHIFTS, STRATEGIES, StrategyName, needs_aux
from shards.cli import UserError
from shards.order import aux_ids, in_dist_ids, rank_slice
from shards.reader import ShardSet

VIEW_DRAWS = 2
"""Second word of a draw's seed; the words below it are the orders of the streams."""


@dataclass(frozen=True)
class ViewPlan:
    """One view of the graph."""

    stream: str
    """"in-dist" or "aux"."""
    kind: ViewKind
    side_px: int
    shift: str
    """A name in `SHIFTS`; "identity" for positives."""


def plan_views(spec: ViewSpec, strategy: StrategyName) -> tuple[list[ViewPlan], list[ViewPlan]]:
    """Global and local views in the order of `Batch`: positives, then source by source."""
    kinds: tuple[ViewKind, ...] = ("global-1", "global-2")
    global_views = [ViewPlan("in-dist", kind, spec.global_px, "identity") for kind in kinds]
    local_views = [ViewPlan("in-dist", "local", spec.local_px, "identity")] * spec.local_views
    for source in STRATEGIES[strategy]:
        global_views.append(ViewPlan(source.stream, "global-any", spec.global_px, source.shift))
        local_views += [
            ViewPlan(source.stream, "local", spec.local_px, source.shift)
        ] * spec.local_views
    assert len(global_views) == GLOBAL_VIEWS + len(STRATEGIES[strategy])
    return global_views, local_views


@dataclass(frozen=True)
class StreamOrder:
    """Everything that decides which samples a rank gets at a step."""

    global_batch: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def rank_part(self) -> slice:
        """This rank's part of a global batch."""
        return rank_slice(self.global_batch, self.rank, self.world_size)


class StepInputs:
    """Callable for `fn.external_source(batch=True, batch_info=True)`: step -> arrays [B, ...]."""

    def __init__(
        self,
        in_dist: ShardSet,
        aux: ShardSet | None,
        spec: ViewSpec,
        strategy: StrategyName,
        order: StreamOrder,
    ) -> None:
        """Plan the views and check that the streams can feed them.

        Raises:
            UserError: a stream is missing, unused or of another shape than the other.
        """
        if needs_aux(strategy) and aux is None:
            raise UserError(f"negatives={strategy} needs auxiliary images: name them with --aux")
        if aux is not None and not needs_aux(strategy):
            raise UserError(f"{aux.directory}: negatives={strategy} reads no auxiliary images")
        self.sets = {"in-dist": in_dist}
        if aux is not None:
            self.sets["aux"] = aux
            here, there = in_dist.manifest.sample_shape, aux.manifest.sample_shape
            if here != there:
                raise UserError(
                    f"{aux.directory}: images are {there}, those of {in_dist.directory} {here} "
                    "(height, width, channels); build the auxiliary shards at the same size"
                )
        self.spec = spec
        self.order = order
        self.first_step = 0
        self.global_views, self.local_views = plan_views(spec, strategy)
        self.height, self.width, self.channels = in_dist.manifest.sample_shape
        self.in_source_space = spec.works_in_source_space(max(self.height, self.width))
        self.streams = tuple(self.sets)
        """The streams in the order of their images, which come first in a call."""
        self.positions = self._positions()
        """For each of `views`, the position in a call of each of its parameters."""

    @property
    def views(self) -> list[ViewPlan]:
        """All views in the order of the graph's outputs."""
        return self.global_views + self.local_views

    def _positions(self) -> list[dict[str, int]]:
        position = len(self.streams)
        views = []
        for inputs in self.draws(0):
            views.append({name: position + i for i, name in enumerate(inputs)})
            position += len(inputs)
        return views

    def ids(self, step: int) -> dict[str, np.ndarray]:
        """This rank's sample ids at `step`, by stream: int64 [B]."""
        pick = {"in-dist": in_dist_ids, "aux": aux_ids}
        order = self.order
        return {
            stream: pick[stream](len(samples), order.global_batch, order.seed, step)[
                order.rank_part
            ]
            for stream, samples in self.sets.items()
        }

    def draws(self, step: int) -> list[dict[str, np.ndarray]]:
        """This rank's parameters at `step`, a dictionary for each of `views`."""
        return [self._draw(step, index, view) for index, view in enumerate(self.views)]

    def _draw(self, step: int, index: int, view: ViewPlan) -> dict[str, np.ndarray]:
        batch, part = self.order.global_batch, self.order.rank_part
        rng = np.random.default_rng([self.order.seed, VIEW_DRAWS, step, index])
        draw = draw_view(rng, self.spec, view.kind, batch, (self.height, self.width))
        shift = SHIFTS[view.shift].draw(rng, batch)
        return {
            **graph_inputs(
                draw[part], view.side_px, self.channels, in_source_space=self.in_source_space
            ),
            **{name: values[part] for name, values in shift.items()},
        }

    def __call__(self, info) -> list[np.ndarray]:
        """The arrays of DALI's batch number `info.iteration`, arranged images first."""
        step = self.first_step + info.iteration
        ids = self.ids(step)
        images = [samples.read(ids[stream]) for stream, samples in self.sets.items()]
        return images + [values for view in self.draws(step) for values in view.values()]


def graph_inputs(
    draw: ViewDraw, side_px: int, channels: int, *, in_source_space: bool
) -> dict[str, np.ndarray]:
    """The parameters of a view as the graph takes them: the blur as sigma and window, each [B, 2].

    Gray images have no colour to change, so its parameters are left out for them.
    """
    inputs = {field.name: getattr(draw, field.name) for field in fields(draw)}
    sigma = inputs.pop("blur_sigma_px")[:, None].repeat(2, 1)
    if in_source_space:
        # A blur of the enlarged view is a blur of the crop, smaller by the enlargement.
        sigma = sigma * draw.crop_shape / np.float32(side_px)
    off = sigma == 0
    inputs["blur_sigma"] = np.where(off, 1, sigma).astype(np.float32)
    # A window of one pixel leaves the image as it is; otherwise it reaches three sigma.
    inputs["blur_window"] = np.where(off, 1, 2 * np.ceil(3 * sigma) + 1).astype(np.int32)
    if channels == 1:
        del inputs["saturation"], inputs["hue_deg"]
    return inputs
