"""The training loader: what the trainer sees of all this.

It hands out torch tensors on the training device that are not touched again while they are held:
batch k stays as it is while batch k + 1 is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor

from dali_pipes.batch import Batch, ViewSpec
from dali_pipes.config import LoaderConfig
from dali_pipes.step_plan import StepPlan, StreamOrder
from shards.errors import UserError
from shards.order import steps_per_epoch
from shards.reader import ShardSet


class ViewEngine(Protocol):
    """Makes all views of a step; steps are asked for in order, until a run resumes at another."""

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """Global views [2 + S, B, 3, G, G] and local views [N (1 + S), B, 3, L, L], as in `Batch`.

        Raises:
            UserError: an image cannot be read or decoded.
        """

    def close(self) -> None:
        """Drop what was prepared."""


class TrainLoader:
    """Endless iterator of `Batch`, one a step; its whole state is the number of the next step."""

    def __init__(
        self,
        in_dist: ShardSet,
        aux: ShardSet | None,
        spec: ViewSpec,
        negatives: str,
        order: StreamOrder,
        device: torch.device,
        config: LoaderConfig | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Check the request and start the engine that it asks for; views are of `dtype`.

        Raises:
            UserError: the views, the strategy, the batch and the sets do not fit each other, or do
                not fit into the memory that they may take.
        """
        config = config or LoaderConfig()
        spec.check()
        config.check()
        try:
            self.steps_per_epoch = steps_per_epoch(len(in_dist), order.global_batch)
        except UserError as error:
            raise UserError(f"{in_dist.directory}: {error}") from error
        self._plan = StepPlan(in_dist, aux, spec, negatives, order)
        source_px = max(self._plan.height, self._plan.width)
        self.engine = config.engine_for(source_px, spec)
        """Which engine makes the views."""
        self._engine = _start(self.engine, self._plan, config, dtype, device)
        self._identity = self._describe(negatives, config.reader)
        self._step = 0

    def __iter__(self) -> Iterator[Batch]:
        """The loader is its own iterator."""
        return self

    def __next__(self) -> Batch:
        """The views of the next step; waits for them if they are not ready."""
        ids = self._plan.ids(self._step)
        global_views, local_views = self._engine.views(self._step)
        batch = Batch(
            step=self._step,
            global_views=global_views,
            local_views=local_views,
            in_dist_ids=torch.from_numpy(ids["in-dist"]),
            aux_ids=torch.from_numpy(ids["aux"]) if "aux" in ids else None,
        )
        self._step += 1
        return batch

    def state_dict(self) -> dict[str, object]:
        """Position, and all that it is a position in."""
        return {"step": self._step, **self._identity}

    def load_state_dict(self, state: dict[str, object], *, elastic: bool = False) -> None:
        """Go on from a saved position; with `elastic`, also on another number of ranks.

        The sample ids and draws of a step are those of any number of ranks.

        Raises:
            UserError: the state is of other images, views, seed, batch or number of ranks, or of
                another engine or version of DALI.
        """
        step = state.get("step")
        if not isinstance(step, int) or step < 0:
            raise UserError(f"the loader's state has step {step!r}, expected 0 or more")
        for field, ours in self._identity.items():
            if field not in state:
                raise UserError(
                    f"the run's state has no {field}: another version of oodino wrote it"
                )
            theirs = state[field]
            if theirs == ours or (elastic and field == "world_size"):
                continue
            if field == "manifests":
                folders = ", ".join(str(shards.directory) for shards in self._plan.sets.values())
                raise UserError(
                    f"the run was trained on other manifests than those of {folders}: "
                    f"{_shortened(theirs)} then, {_shortened(ours)} now"
                )
            hint = "; allow it with --elastic" if field == "world_size" else ""
            raise UserError(f"the run's {field} is {theirs!r}, here it is {ours!r}{hint}")
        self._engine.close()
        self._step = step

    def close(self) -> None:
        """Drop what was prepared."""
        self._engine.close()

    def _describe(self, negatives: str, reader: str) -> dict[str, object]:
        order, sets = self._plan.order, self._plan.sets
        identity: dict[str, object] = {
            "seed": order.seed,
            "global_batch": order.global_batch,
            "world_size": order.world_size,
            "aux_replayed": order.aux_replayed,
            "negatives": negatives,
            "engine": self.engine,
            "manifests": {name: shards.manifest.sha256 for name, shards in sets.items()},
        }
        for name, value in dataclasses.asdict(self._plan.spec).items():
            # Lists, as they come back from a checkpoint.
            identity[f"views.{name}"] = list(value) if isinstance(value, tuple) else value
        if self.engine == "dali":
            from dali_pipes.dali.engine import dali_version

            identity["dali"] = dali_version()
            if any(shards.manifest.encoding != "raw" for shards in sets.values()):
                identity["reader"] = reader  # one has DALI decode, the other Pillow
        return identity


def _start(
    name: Literal["dali", "product"],
    plan: StepPlan,
    config: LoaderConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> ViewEngine:
    if name == "product":
        from dali_pipes.product.engine import ProductEngine

        return ProductEngine(plan, config, dtype, device)
    from dali_pipes.dali.engine import DaliEngine

    return DaliEngine(plan, config, dtype, device)


def _shortened(digests: object) -> str:
    """The manifests' digests by stream, as far as one compares them by eye."""
    assert isinstance(digests, Mapping)
    return ", ".join(f"{stream} {digest[:12]}" for stream, digest in digests.items())
