"""The training loader: the only part of this package that the trainer calls.

It returns torch tensors on the training device. A batch may be kept: as long as something refers to
it, its memory is not reused for a later batch.
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
    """An engine that makes all views of a training step.

    The steps are requested in order, except when a run resumes at another step.
    """

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the global views and the local views of a step, in the order that `Batch` states.

        Returns:
            The global views, [2 + S, B, 3, G, G], and the local views, [N * (1 + S), B, 3, L, L].
            The letters are explained in `batch.py`.

        Raises:
            UserError: An image cannot be read or decoded.
        """

    def close(self) -> None:
        """Discard the views that have been prepared for the next steps."""


class TrainLoader:
    """An endless iterator over batches (`Batch`), one batch per training step.

    Its whole state is the number of the next step.
    """

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
        """Check that the arguments fit each other, and start the engine.

        Args:
            in_dist: The in-distribution set.
            aux: The auxiliary set; None if no negatives are made of auxiliary images.
            spec: The number, sizes and transformations of the views.
            negatives: The strategy for negatives, as `parse_negatives` takes it.
            order: The global batch size, the seed and the rank.
            device: The training device.
            config: The engine, reader and threads; the defaults of `LoaderConfig` if None.
            dtype: The dtype of the views, float32 or bfloat16.

        Raises:
            UserError: The views, the strategy, the batch size and the sets do not fit each other;
                or the pixels of a resident reader need more memory than allowed.
        """
        config = config or LoaderConfig()
        spec.check()
        config.check()
        try:
            self.steps_per_epoch = steps_per_epoch(len(in_dist), order.global_batch)
        except UserError as error:
            raise UserError(f"{in_dist.directory}: {error}") from error
        self._plan = StepPlan(in_dist, aux, spec, negatives, order)
        image_px = max(self._plan.height, self._plan.width)
        self.engine = config.engine_for(image_px, spec)
        """The name of the engine that makes the views: "dali" or "product"."""
        self._engine = _start(self.engine, self._plan, config, dtype, device)
        self._identity = self._describe(negatives, config.reader)
        self._step = 0

    def __iter__(self) -> Iterator[Batch]:
        """Return the loader, which is its own iterator."""
        return self

    def __next__(self) -> Batch:
        """Return the batch of the next step. The call waits until its views are ready."""
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
        """Return the number of the next step, and a description of the images and views.

        The loader that loads this state compares the description with its own.
        """
        return {"step": self._step, **self._identity}

    def load_state_dict(self, state: dict[str, object], *, elastic: bool = False) -> None:
        """Continue at the step of a saved state.

        Args:
            state: The result of an earlier `state_dict`.
            elastic: If True, the number of ranks may differ from that of the saved state. This is
                safe, because the sample ids and the view parameters of a step do not depend on it.

        Raises:
            UserError: The state belongs to other images, views, seed, batch size or number of
                ranks, or to another engine or version of DALI.
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
        """Discard the views that have been prepared for the next steps."""
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
            # Tuples become lists, because a checkpoint returns tuples as lists.
            identity[f"views.{name}"] = list(value) if isinstance(value, tuple) else value
        if self.engine == "dali":
            from dali_pipes.dali.version import dali_version

            identity["dali"] = dali_version()
            if any(shards.manifest.encoding != "raw" for shards in sets.values()):
                # The stream reader decodes with DALI, the resident reader with Pillow.
                identity["reader"] = reader
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
    """Return a text with the first characters of the digest of each stream's manifest."""
    assert isinstance(digests, Mapping)
    return ", ".join(f"{stream} {digest[:12]}" for stream, digest in digests.items())
