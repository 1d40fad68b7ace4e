"""The view engine `product` by steps: what it reads and draws for the next one while it waits."""

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
    """A step's images by stream, in-dist first, each uint8 [B, H, W, C], and its draws."""

    step: int
    images: list[Tensor]
    draws: list[GroupParams]


class ProductEngine:
    """See `loader.ViewEngine`."""

    def __init__(
        self, plan: StepPlan, config: LoaderConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Tabulate the operators, and load the images of a resident reader."""
        self._plan = plan
        self._readers = open_readers(plan.sets, config, device)
        self._dtype = dtype
        self._device = device
        self._memory = BatchMemory(device)
        spec, source_hw = plan.spec, (plan.height, plan.width)
        self._global, self._local = (
            ProductViews(spec, side_px, scale, source_hw, dtype, device)
            for side_px, scale in (
                (spec.global_px, spec.global_scale),
                (spec.local_px, spec.local_scale),
            )
        )
        # It must not call what torch does in parallel: that would give it OpenMP threads of its
        # own, which wait busily and take the cores from the products (half of the speed).
        self._ahead = ThreadPoolExecutor(1, "oodino-draws")
        self._next: Future[PreparedStep] | None = None

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """See `loader.ViewEngine`."""
        waited_for, self._next = self._next, None
        prepared = waited_for.result() if waited_for is not None else None
        if prepared is None or prepared.step != step:
            prepared = self.prepare(step)
        self._next = self._ahead.submit(self.prepare, step + 1)
        return self.make(prepared)

    def make(self, prepared: PreparedStep) -> tuple[Tensor, Tensor]:
        """The views of what was read and drawn."""
        images = torch.cat([to_device(part, self._device) for part in prepared.images])
        split, spec = len(self._plan.global_groups), self._plan.spec
        return (
            self._make(self._global, images, prepared.draws[:split], spec.global_px),
            self._make(self._local, images, prepared.draws[split:], spec.local_px),
        )

    def close(self) -> None:
        """Forget what was prepared, and wait until nothing is read any more."""
        waited_for, self._next = self._next, None
        if waited_for is not None:
            wait([waited_for])

    def _make(
        self, size: ProductViews, images: Tensor, draws: list[GroupParams], side_px: int
    ) -> Tensor:
        """All views of one size: [V, B, 3, s, s]."""
        count = sum(group.group.count for group in draws)
        shape = (count, self._plan.batch, 3, side_px, side_px)
        views = self._memory.empty(shape, self._dtype)
        if count:
            size.make(images, draws, views)
        return views

    def prepare(self, step: int) -> PreparedStep:
        """Read and draw a step."""
        ids = self._plan.ids(step)
        images = [reader.read(ids[stream]) for stream, reader in self._readers.items()]
        return PreparedStep(step, images, self._plan.draws(step))
