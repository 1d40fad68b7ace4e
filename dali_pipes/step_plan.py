"""The plan of a training step: the sample ids and the parameters of all views of the step.

Both view engines use the plan. The plan of a step depends only on the seed and the number of the
step. Parameters are drawn for the global batch, and each rank takes a slice, so they do not depend
on the number of ranks. The parameters of the positive views do not depend on the negatives.

Legend: B images per rank, V views per image in a group, C channels, s the side of a view in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dali_pipes.batch import GLOBAL_VIEWS, ViewSpec
from dali_pipes.negatives import CHOICE, NegativeBranch, Part, needs_aux, parse_negatives
from dali_pipes.transfer import to_device
from dali_pipes.view_params import ViewKind, ViewParams, draw_view_params
from shards.errors import UserError
from shards.order import aux_ids, in_dist_ids, rank_slice, steps_per_epoch
from shards.random_streams import RandomStream, stream_rng
from shards.reader import ShardSet


@dataclass(frozen=True)
class StreamOrder:
    """The settings that determine which samples a rank gets at each step."""

    global_batch: int
    """The number of images per step on all ranks together."""
    seed: int
    rank: int = 0
    world_size: int = 1
    """The number of ranks."""
    aux_replayed: bool = False
    """True if every epoch uses the same auxiliary images in the same order, where an epoch is one
    pass over the in-distribution set. The authors' code behaves in this way, because its sampler
    restarts in each epoch and is never told to shuffle again."""

    @property
    def rank_part(self) -> slice:
        """The slice of a global batch that belongs to this rank."""
        return rank_slice(self.global_batch, self.rank, self.world_size)


@dataclass(frozen=True)
class ViewGroup:
    """Views of one kind and size that are all positive, or all of the same negative branch."""

    kind: ViewKind
    count: int
    """The number of views per image, V."""
    side_px: int
    branch: int | None = None
    """The number of the negative branch that makes the views; None for positive views."""


@dataclass(frozen=True)
class GroupParams:
    """The parameters of all views of a group at one step, on one rank."""

    group: ViewGroup
    view: ViewParams
    """The parameters of the random transformations T (crop, colours, blur), arrays [V, B, ...]."""
    from_aux: np.ndarray
    """bool [B]: True if the image comes from the auxiliary set, False if it is in-distribution."""
    shift: Mapping[str, np.ndarray]
    """The parameters of the negative branch by name, arrays [V, B, ...]; empty for positive views.
    """

    negative: NegativeBranch | None = None
    """The negative branch that makes the views; None for positive views."""

    @property
    def turns(self) -> np.ndarray:
        """The number of quarter turns of each negative view, integers [V, B].

        The number is 0 for a view whose shift does not turn by quarter turns.
        """
        assert self.negative is not None
        return np.broadcast_to(self.negative.turns(self.shift), self.view.flip.shape)

    @property
    def early(self) -> bool:
        """True if the shift of any image acts before colour jitter and blur."""
        return self.negative is not None and self.negative.early

    def one_by_one(self) -> Iterator[GroupParams]:
        """Split the group into V groups with one view per image, and yield their parameters."""
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
        """Shift negative views [V * B, C, s, s], and return the shifted views.

        The arguments are explained in `NegativeBranch.tensor`.
        """
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
    """The plan of a training run: it gives the sample ids and the view parameters of each step."""

    def __init__(
        self,
        in_dist: ShardSet,
        aux: ShardSet | None,
        spec: ViewSpec,
        negatives: str,
        order: StreamOrder,
    ) -> None:
        """Plan the views, and check that the sets have the images that the views need.

        Args:
            in_dist: The in-distribution set.
            aux: The auxiliary set; None if no negatives are made of auxiliary images.
            spec: The number, sizes and transformations of the views.
            negatives: The strategy for negatives, as `parse_negatives` takes it.
            order: The global batch size, the seed and the rank.

        Raises:
            UserError: The auxiliary set is missing, is not used, or has images of another shape; or
                images or views of this size cannot be shifted.
        """
        self.branches = parse_negatives(negatives)
        if needs_aux(self.branches) and aux is None:
            raise UserError(f"negatives={negatives} needs auxiliary images: name them with --aux")
        if aux is not None and not needs_aux(self.branches):
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
        if self.branches and spec.shift_space == "source" and self.height != self.width:
            raise UserError(
                f"views.shift_space is source, but the images of {in_dist.directory} are "
                f"{self.height} x {self.width} px; only square ones can be shifted"
            )
        if spec.shift_space == "source" and any(branch.early for branch in self.branches):
            raise UserError(
                f"negatives={negatives}: rot-any-early turns resized crops, but views.shift_space "
                "is source; leave it at view, or take rot-any (without compat.rot_any_early)"
            )
        self.spec = spec
        self.order = order
        self.batch = len(range(order.global_batch)[order.rank_part])
        """The number of images per step on this rank, B."""
        self.global_groups, self.local_groups = plan_views(spec, self.branches)
        for group in self.groups:
            # A side that cannot be cut is refused now, and not at the first step.
            if group.branch is not None:
                try:
                    self._draw_shift(np.random.default_rng(0), group, batch=1)
                except UserError as error:
                    raise UserError(f"negatives={negatives}: {error}") from error

    @property
    def groups(self) -> list[ViewGroup]:
        """All groups of views: first the global views, then the local views.

        Within each of the two, the order is that of the views in `Batch`.
        """
        return self.global_groups + self.local_groups

    def ids(self, step: int) -> dict[str, np.ndarray]:
        """Return the sample ids of this rank at `step`.

        Returns:
            Stream ("in-dist", and "aux" if there is an auxiliary set) -> ids, int64 [B].
        """
        order = self.order
        batch, seed, part = order.global_batch, order.seed, order.rank_part
        ids = {"in-dist": in_dist_ids(len(self.sets["in-dist"]), batch, seed, step)[part]}
        if "aux" in self.sets:
            if order.aux_replayed:
                step %= steps_per_epoch(len(self.sets["in-dist"]), batch)
                # If the auxiliary set is smaller than the in-distribution set, it is repeated in
                # the same order, without its last incomplete batch.
                step %= max(1, len(self.sets["aux"]) // batch)
            ids["aux"] = aux_ids(len(self.sets["aux"]), batch, seed, step)[part]
        return ids

    def params(self, step: int) -> list[GroupParams]:
        """Return the parameters of this rank at `step`: one entry per group in `groups`."""
        seed, batch = self.order.seed, self.order.global_batch
        choices = [
            branch.choose(stream_rng(seed, RandomStream.NEGATIVE_CHOICES, step, number), batch)
            for number, branch in enumerate(self.branches)
        ]
        return [
            self._draw(stream_rng(seed, RandomStream.VIEW_PARAMS, step, number), group, choices)
            for number, group in zip(self._seeds(), self.groups, strict=True)
        ]

    def _seeds(self) -> list[int]:
        """Return a number for each group, from which its parameters are drawn.

        The number of a group does not depend on the presence of other groups.
        """
        kinds: dict[ViewKind, int] = {"global-1": 0, "global-2": 1, "global-any": 1, "local": 2}
        return [
            kinds[group.kind] + (0 if group.branch is None else 2 + 2 * group.branch)
            for group in self.groups
        ]

    def _draw(
        self, rng: np.random.Generator, group: ViewGroup, choices: list[np.ndarray]
    ) -> GroupParams:
        batch, part = self.order.global_batch, self.order.rank_part
        shape = group.count, batch
        view = draw_view_params(rng, self.spec, group.kind, shape, (self.height, self.width))
        from_aux = np.zeros(batch, bool)
        shift: dict[str, np.ndarray] = {}
        branch = None
        if group.branch is not None:
            branch, choice = self.branches[group.branch], choices[group.branch]
            from_aux = np.array([term.stream == "aux" for term in branch.alternatives])[choice]
            shift = {
                name: values.reshape(*shape, *values.shape[1:])[:, part]
                for name, values in self._draw_shift(rng, group, group.count * batch).items()
            }
            if len(branch.alternatives) > 1:
                shift[CHOICE] = np.tile(choice[part], (group.count, 1))
        return GroupParams(group, view[:, part], from_aux[part], shift, branch)

    def _draw_shift(
        self, rng: np.random.Generator, group: ViewGroup, batch: int
    ) -> Mapping[str, np.ndarray]:
        assert group.branch is not None
        side_px = group.side_px if self.spec.shift_space == "view" else self.height
        return self.branches[group.branch].draw(rng, batch, side_px)


def plan_views(
    spec: ViewSpec, branches: tuple[NegativeBranch, ...]
) -> tuple[list[ViewGroup], list[ViewGroup]]:
    """Return the groups of global views, and the groups of local views.

    In both lists, the positive views come first, and then the views of each negative branch.
    """
    global_groups = [
        ViewGroup("global-1", 1, spec.global_px),
        ViewGroup("global-2", 1, spec.global_px),
        *(ViewGroup("global-any", 1, spec.global_px, number) for number in range(len(branches))),
    ]
    assert sum(group.count for group in global_groups) == GLOBAL_VIEWS + len(branches)
    if not spec.local_views:
        return global_groups, []
    return global_groups, [
        ViewGroup("local", spec.local_views, spec.local_px, branch)
        for branch in (None, *range(len(branches)))
    ]
