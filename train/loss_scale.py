"""Steps in which something is not finite: they are skipped, on all ranks, without a host's wait.

Every rank puts its verdict into the one vector that is averaged over the ranks in a step, so that
optimizer, teacher and centre stand still everywhere or nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
GROW_STEPS = 2000
"""Steps without an overflow after which the scale doubles (as in torch's GradScaler)."""
LAG_STEPS = 2
"""How many steps late a host reads what its GPU says, so that the GPU never waits for it."""


class LossScale:
    """What the loss is multiplied by for float16's narrow range; 1, for good, else."""

    def __init__(self, precision: str, device: torch.device) -> None:
        """The state before the first step."""
        self._moves = precision == "fp16"
        self.scale = torch.tensor(FIRST_SCALE if self._moves else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        """Since the scale has changed."""
        self.skips_in_a_row = torch.zeros((), device=device)
        """Not counted while the scale could still fall: an overflow is no fault of the data."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; float32 []."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide the gradients by the scale."""
        if self._moves:
            torch._foreach_mul_(list(gradients), 1 / self.scale)

    def update(self, finite: Tensor) -> None:
        """Count the step and choose the next one's scale; `finite`, bool [], of all ranks."""
        skipped = (~finite).float()
        self.skips_in_a_row.copy_((self.skips_in_a_row + (self.scale <= 1)) * skipped)
        if self._moves:
            self.good_steps.copy_((self.good_steps + 1) * finite)
            grows = self.good_steps >= GROW_STEPS
            factor = torch.where(finite, 1.0 + grows, 0.5)
            self.scale.copy_((self.scale * factor).clamp_min(1))
            self.good_steps *= ~grows


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Bool []: whether no value is NaN or infinite."""
    return torch.stack([tensor.isfinite().all() for tensor in tensors]).all()


class LateReader:
    """The host's view of a small tensor of each step: at once on a CPU, some steps late on a GPU.

    As late on every rank, so that ranks that decide by it decide alike.
    """

    def __init__(self, device: torch.device) -> None:
        """For tensors on `device`."""
        self._is_cuda = device.type == "cuda"
        self._pending: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def read(self, value: Tensor) -> list[float] | None:
        """Hand in a step's tensor [n]; get that of LAG_STEPS before, None if there is none yet."""
        if not self._is_cuda:
            return value.tolist()
        copy = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        copy.copy_(value, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._pending.append((copy, copied))
        if len(self._pending) <= LAG_STEPS:
            return None
        oldest, copied = self._pending.popleft()
        copied.synchronize()
        return oldest.tolist()
