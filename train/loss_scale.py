"""Steps in which something is not finite: all ranks skip them, and no host waits for its device.

Each rank adds its verdict to the one vector that a step averages over the ranks. So either all
ranks update optimizer, teacher and centre, or none does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
"""Scale of the first step in float16."""
GROW_STEPS = 2000
"""Steps without an overflow after which the scale doubles (as in torch's GradScaler)."""
LAG_STEPS = 2
"""The number of steps after which the host reads a result of its GPU, so the GPU never waits."""


class LossScale:
    """The factor that multiplies the loss in float16, whose range is narrow.

    With other types the factor stays 1.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        """Set the state before the first step."""
        self._moves = precision == "fp16"
        self.scale = torch.tensor(FIRST_SCALE if self._moves else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        """Number of finite steps since the last change of the scale: float32 []."""
        self.skips_in_a_row = torch.zeros((), device=device)
        """Number of skipped steps in a row: float32 []. Steps with a scale above 1 do not count,
        because a smaller scale may avoid their overflow."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state by name. Each is a float32 scalar."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide the gradients by the scale."""
        if self._moves:
            torch._foreach_mul_(list(gradients), 1 / self.scale)

    def update(self, finite: Tensor) -> None:
        """Count the step and set the next scale. The bool scalar `finite` is equal on all ranks."""
        skipped = (~finite).float()
        self.skips_in_a_row.copy_((self.skips_in_a_row + (self.scale <= 1)) * skipped)
        if self._moves:
            self.good_steps.copy_((self.good_steps + 1) * finite)
            grows = self.good_steps >= GROW_STEPS
            factor = torch.where(finite, 1.0 + grows, 0.5)
            self.scale.copy_((self.scale * factor).clamp_min(1))
            self.good_steps *= ~grows


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Return a bool scalar tensor: true if no value is NaN or infinite."""
    return torch.stack([tensor.isfinite().all() for tensor in tensors]).all()


class LateReader:
    """A reader of a small tensor per step: it reads at once on a CPU, LAG_STEPS late on a GPU.

    The lag is the same on all ranks, so that they take the same decisions at the same step.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepare for tensors on `device`."""
        self._is_cuda = device.type == "cuda"
        self._pending: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def read(self, value: Tensor) -> list[float] | None:
        """Take the tensor [n] of a step, and return the values of this or of an earlier tensor.

        On a CPU these are the values of the tensor itself. On a GPU they are those of the tensor
        LAG_STEPS steps before, or None if there is no such tensor yet.
        """
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
