"""What a step is made of, as a pure function of its number: sample ids, and the draws of all views.

Both view engines read it. The draws are those of the global batch, sliced by rank, so that they do
not depend on the number of ranks; those of the positive views do not depend on the negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import GLOBAL_VIEWS, ViewSpec
from dali_pipes.negatives import CHOICE, NegativeSource, Part, needs_aux, parse_negatives
from dali_pipes.transfer import to_device
from dali_pipes.view_params import ViewKind, ViewParams, draw_view_params
from shards.errors import UserError
from shards.order import aux_ids, in_dist_ids, rank_slice, steps_per_epoch
from shards.reader import ShardSet

VIEW_DRAWS, CHOICES = 2, 3
"""Second words of the seeds of draws; those below are the orders of the streams."""


@dataclass(frozen=True)
class StreamOrder:
    """Everything that decides which samples a rank gets at a step."""

    global_batch: int
    seed: int
    rank: int = 0
    world_size: int = 1
    aux_replayed: bool = False
    """Whether each pass over the in-dist set sees the same auxiliary images in the same order, as
    the authors' code does: its sampler starts anew and is never told to reshuffle."""

    @property
    def rank_part(self) -> slice:
        """This rank's part of a global batch."""
        return rank_slice(self.global_batch, self.rank, self.world_size)


@dataclass(frozen=True)
class ViewGroup:
    """Views of one kind, of one set of images."""

    kind: ViewKind
    count: int
    """V."""
    side_px: int
    source: int | None = None
    """Which negative source they are of; None = positive views."""


@dataclass(frozen=True)
class GroupParams:
    """The parameters of a group's views at a step, on one rank."""

    group: ViewGroup
    view: ViewParams
    """[V, B, ...]"""
    from_aux: np.ndarray
    """bool [B]: which of its images are of the auxiliary stream; the others are in-dist."""
    shift: Mapping[str, np.ndarray]
    """Those of the negative source: [V, B, ...]; empty for positive views."""

    negative: NegativeSource | None = None
    """That source; None of positive views."""

    @property
    def turns(self) -> np.ndarray:
        """Quarter turns of negative views: integers [V, B], 0 where they are shifted otherwise."""
        assert self.negative is not None
        return np.broadcast_to(self.negative.turns(self.shift), self.view.flip.shape)

    @property
    def early(self) -> bool:
        """Whether some of its images are shifted before colours and blur."""
        return self.negative is not None and self.negative.early

    def one_by_one(self) -> Iterator[GroupParams]:
        """The draws of each of its V views."""
        for number in range(self.group.count):
            part = slice(number, number + 1)
            yield GroupParams(
                replace(self.group, count=1),
                self.view[part],
                self.from_aux,
                {name: values[part] for name, values in self.shift.items()},
                self.negative,
            )

    def shifted(
        self, views: Tensor, black: Tensor, *, skip_turns: bool = False, part: Part = "all"
    ) -> Tensor:
        """All V B negative views [V B, C, s, s], shifted as drawn; see `NegativeSource.tensor`."""
        assert self.negative is not None
        params = {
            name: to_device(
                values.reshape(-1, *values.shape[2:]),
                torch.device("cpu") if name == CHOICE else views.device,
            )
            for name, values in self.shift.items()
        }
        return self.negative.tensor(views, params, black, skip_turns=skip_turns, part=part)


class StepPlan:
    """Sample ids and draws by step."""

    def __init__(
        self,
        in_dist: ShardSet,
        aux: ShardSet | None,
        spec: ViewSpec,
        negatives: str,
        order: StreamOrder,
    ) -> None:
        """Plan the views and check that the streams can feed them.

        Raises:
            UserError: a stream is missing, unused or of another shape than the other.
        """
        self.sources = parse_negatives(negatives)
        if needs_aux(self.sources) and aux is None:
            raise UserError(f"negatives={negatives} needs auxiliary images: name them with --aux")
        if aux is not None and not needs_aux(self.sources):
            raise UserError(f"{aux.directory}: negatives={negatives} reads no auxiliary images")
        self.sets = {"in-dist": in_dist}
        self.height, self.width, self.channels = in_dist.manifest.sample_shape
        if aux is not None:
            self.sets["aux"] = aux
            here, there = in_dist.manifest.sample_shape, aux.manifest.sample_shape
            if here != there:
                raise UserError(
                    f"{aux.directory}: images are {there}, those of {in_dist.directory} {here} "
                    "(height, width, channels); build the auxiliary shards at the same size"
                )
        if self.sources and spec.shift_space == "source" and self.height != self.width:
            raise UserError(
                f"views.shift_space is source, but the images of {in_dist.directory} are "
                f"{self.height} x {self.width} px; only square ones can be shifted"
            )
        if spec.shift_space == "source" and any(source.early for source in self.sources):
            raise UserError(
                f"negatives={negatives}: rot-any-early turns resized crops, but views.shift_space "
                "is source; leave it at view, or take rot-any (without compat.rot_any_early)"
            )
        self.spec = spec
        self.order = order
        self.batch = len(range(order.global_batch)[order.rank_part])
        """B, images a rank."""
        self.global_groups, self.local_groups = plan_views(spec, self.sources)
        for group in self.groups:
            if group.source is not None:  # what a side cannot be cut into is found here
                try:
                    self._shift(np.random.default_rng(0), group, batch=1)
                except UserError as error:
                    raise UserError(f"negatives={negatives}: {error}") from error

    @property
    def groups(self) -> list[ViewGroup]:
        """All groups: first the global views, then the local ones, each in the order of `Batch`."""
        return self.global_groups + self.local_groups

    def ids(self, step: int) -> dict[str, np.ndarray]:
        """This rank's sample ids at `step`, by stream: int64 [B]."""
        order = self.order
        batch, seed, part = order.global_batch, order.seed, order.rank_part
        ids = {"in-dist": in_dist_ids(len(self.sets["in-dist"]), batch, seed, step)[part]}
        if "aux" in self.sets:
            if order.aux_replayed:
                step %= steps_per_epoch(len(self.sets["in-dist"]), batch)
                # A smaller set comes again in the same order, its last incomplete batch left out.
                step %= max(1, len(self.sets["aux"]) // batch)
            ids["aux"] = aux_ids(len(self.sets["aux"]), batch, seed, step)[part]
        return ids

    def draws(self, step: int) -> list[GroupParams]:
        """This rank's draws at `step`, for each of `groups`."""
        choices = [
            source.choose(self._rng(CHOICES, step, number), self.order.global_batch)
            for number, source in enumerate(self.sources)
        ]
        return [
            self._draw(self._rng(VIEW_DRAWS, step, number), group, choices)
            for number, group in zip(self._seeds(), self.groups, strict=True)
        ]

    def _seeds(self) -> list[int]:
        """A number for each of `groups` that does not depend on which others there are."""
        kinds: dict[ViewKind, int] = {"global-1": 0, "global-2": 1, "global-any": 1, "local": 2}
        return [
            kinds[group.kind] + (0 if group.source is None else 2 + 2 * group.source)
            for group in self.groups
        ]

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([self.order.seed, *words])

    def _draw(
        self, rng: np.random.Generator, group: ViewGroup, choices: list[np.ndarray]
    ) -> GroupParams:
        batch, part = self.order.global_batch, self.order.rank_part
        shape = group.count, batch
        view = draw_view_params(rng, self.spec, group.kind, shape, (self.height, self.width))
        from_aux = np.zeros(batch, bool)
        shift: dict[str, np.ndarray] = {}
        source = None
        if group.source is not None:
            source, choice = self.sources[group.source], choices[group.source]
            from_aux = np.array([term.stream == "aux" for term in source.alternatives])[choice]
            shift = {
                name: values.reshape(*shape, *values.shape[1:])[:, part]
                for name, values in self._shift(rng, group, group.count * batch).items()
            }
            if len(source.alternatives) > 1:
                shift[CHOICE] = np.tile(choice[part], (group.count, 1))
        return GroupParams(group, view[:, part], from_aux[part], shift, source)

    def _shift(
        self, rng: np.random.Generator, group: ViewGroup, batch: int
    ) -> Mapping[str, np.ndarray]:
        assert group.source is not None
        side_px = group.side_px if self.spec.shift_space == "view" else self.height
        return self.sources[group.source].draw(rng, batch, side_px)


def plan_views(
    spec: ViewSpec, sources: tuple[NegativeSource, ...]
) -> tuple[list[ViewGroup], list[ViewGroup]]:
    """Groups of global and of local views in the order of `Batch`: positives, source by source."""
    global_groups = [
        ViewGroup("global-1", 1, spec.global_px),
        ViewGroup("global-2", 1, spec.global_px),
        *(ViewGroup("global-any", 1, spec.global_px, number) for number in range(len(sources))),
    ]
    assert sum(group.count for group in global_groups) == GLOBAL_VIEWS + len(sources)
    if not spec.local_views:
        return global_groups, []
    return global_groups, [
        ViewGroup("local", spec.local_views, spec.local_px, source)
        for source in (None, *range(len(sources)))
    ]
