"""The view engine `product`: it makes the views of a step while a thread prepares the next step."""

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
    """The images and the view parameters of a step."""

    step: int
    images: list[Tensor]
    """The images of each stream, uint8 [B, H, W, C] per stream: first in-distribution images, then
    auxiliary images if the run has them."""
    params: list[GroupParams]


class ProductEngine:
    """The engine that makes views with matrix products; see `loader.ViewEngine`."""

    def __init__(
        self, plan: StepPlan, config: LoaderConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Compute the tables of matrices, and open the readers.

        Readers that keep all their images in memory load them now.

        Args:
            plan: The plan of the run.
            config: The options of the loader.
            dtype: The dtype of the views.
            device: The device on which the views are made and returned.
        """
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
        # This thread must not call torch operations that run in parallel, because it would get
        # OpenMP threads of its own. These threads wait actively, and take the cores from the matrix
        # products, which then run at half the speed.
        self._ahead = ThreadPoolExecutor(1, "oodino-prepare")
        self._next: Future[PreparedStep] | None = None

    def views(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the views of a step; see `loader.ViewEngine.views`."""
        waited_for, self._next = self._next, None
        prepared = waited_for.result() if waited_for is not None else None
        if prepared is None or prepared.step != step:
            prepared = self.prepare(step)
        self._next = self._ahead.submit(self.prepare, step + 1)
        return self.make(prepared)

    def make(self, prepared: PreparedStep) -> tuple[Tensor, Tensor]:
        """Make the views of a prepared step; the result is as in `loader.ViewEngine.views`."""
        images = torch.cat([to_device(part, self._device) for part in prepared.images])
        split, spec = len(self._plan.global_groups), self._plan.spec
        return (
            self._make(self._global, images, prepared.params[:split], spec.global_px),
            self._make(self._local, images, prepared.params[split:], spec.local_px),
        )

    def close(self) -> None:
        """Discard the prepared step. The call waits until the images of that step are read."""
        waited_for, self._next = self._next, None
        if waited_for is not None:
            wait([waited_for])

    def _make(
        self, size: ProductViews, images: Tensor, params: list[GroupParams], side_px: int
    ) -> Tensor:
        """Return all views of one size, [V, B, 3, s, s].

        Args:
            size: The maker of views of this size.
            images: The images of all streams, [images, H, W, C].
            params: The parameters of the groups of views of this size.
            side_px: The side s of the views, in pixels.
        """
        count = sum(group.group.count for group in params)
        shape = (count, self._plan.batch, 3, side_px, side_px)
        views = self._memory.empty(shape, self._dtype)
        if count:
            size.make(images, params, views)
        return views

    def prepare(self, step: int) -> PreparedStep:
        """Read the images of a step, and draw the parameters of its views."""
        ids = self._plan.ids(step)
        images = [reader.read(ids[stream]) for stream, reader in self._readers.items()]
        return PreparedStep(step, images, self._plan.params(step))
