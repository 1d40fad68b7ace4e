"""The view engine `product`: it makes a step's views while a thread prepares the next step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch
from torch import Tensor

from dali_pipes.batch_memory import BatchMemory
from dali_pipes.config import LoaderConfig
from dali_pipes.product.views import ProductViews
from dali_pipes.readers import open_readers
from dali_pipes.step_plan import GroupParams, StepPlan
from dali_pipes.transfer import to_device


@dataclass(frozen=True)
class PreparedStep:
    """The images and parameters of a step."""

    step: int
    images: list[Tensor]
    """Images of each stream, in-dist first, each uint8 [B, H, W, C]."""
    params: list[GroupParams]


class ProductEngine:
    """The engine that makes views by matrix products; see `loader.ViewEngine`."""

    def __init__(
        self, plan: StepPlan, config: LoaderConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Tabulate the operators, and load the images of a resident reader."""
        self._plan = plan
        self._readers = open_readers(plan.sets, config, device)
        self._dtype = dtype
        self._device = device
        self._memory = BatchMemory(device)
        spec, image_hw = plan.spec, (plan.height, plan.width)
        self._global, self._local = (
            ProductViews(spec, side_px, scale, image_hw, dtype, device)
            for side_px, scale in (
                (spec.global_px, spec.global_scale),
                (spec.local_px, spec.local_scale),
            )
        )
        # This thread must not call torch operations that run in parallel: it would get OpenMP
        # threads of its own. They wait actively and take the cores from the matrix products, which
        # then have half the speed.
        self._ahead = ThreadPoolExecutor(1, "oodino-prepare")
        self._next: Future[PreparedStep] | None = None

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the views of a step; see `loader.ViewEngine`."""
        waited_for, self._next = self._next, None
        prepared = waited_for.result() if waited_for is not None else None
        if prepared is None or prepared.step != step:
            prepared = self.prepare(step)
        self._next = self._ahead.submit(self.prepare, step + 1)
        return self.make(prepared)

    def make(self, prepared: PreparedStep) -> tuple[Tensor, Tensor]:
        """Return the views of a prepared step."""
        images = torch.cat([to_device(part, self._device) for part in prepared.images])
        split, spec = len(self._plan.global_groups), self._plan.spec
        return (
            self._make(self._global, images, prepared.params[:split], spec.global_px),
            self._make(self._local, images, prepared.params[split:], spec.local_px),
        )

    def close(self) -> None:
        """Drop the prepared step, after waiting until its images are read."""
        waited_for, self._next = self._next, None
        if waited_for is not None:
            wait([waited_for])

    def _make(
        self, size: ProductViews, images: Tensor, params: list[GroupParams], side_px: int
    ) -> Tensor:
        """Return all views of one size: [V, B, 3, s, s]."""
        count = sum(group.group.count for group in params)
        shape = (count, self._plan.batch, 3, side_px, side_px)
        views = self._memory.empty(shape, self._dtype)
        if count:
            size.make(images, params, views)
        return views

    def prepare(self, step: int) -> PreparedStep:
        """Read the images and draw the parameters of a step."""
        ids = self._plan.ids(step)
        images = [reader.read(ids[stream]) for stream, reader in self._readers.items()]
        return PreparedStep(step, images, self._plan.params(step))
