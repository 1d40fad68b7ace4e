"""The health monitor: signs of collapse in the reports of a run, and a remedy for each.

DINO collapses in two ways, and a run shows no error in either. In a collapse to the uniform
response, all prototypes respond equally to every image (L_pos = ln K). In a collapse to a point,
all images get the same response or the same feature. Negatives, which are pushed to the uniform
response, make the first more likely, most of all on small data.

The limits are fractions of ln K or of a largest possible value. They were set on runs of the recipe
`demo-cpu`; `tests/faults/health.py` tests them on runs that collapse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from train.config import RunConfig
from train.metrics import (
    NEGATIVE_ENTROPY,
    NEGATIVE_KL,
    OCCUPIED,
    POSITIVE,
    POSITIVE_ENTROPY,
    SKIPPED,
    SPREAD,
    TEACHER_ENTROPY,
)

UNIFORM = 0.97
"""A fraction of ln K. If an entropy or a loss is above it, hardly any prototype is preferred."""
NARROW_SPREAD = 0.01
"""Smallest healthy spread of the features, between 0 (all equal) and 1 (all directions alike)."""
POINT_LOSS = 0.02
"""A fraction of ln K. If L_pos is below it, all images look alike to the network."""
FEW_PROTOTYPES = 8
"""The smallest healthy number of prototypes in use, if K is 320 or more. For a smaller K it is
K / 40; healthy runs use some tenths of a small K."""
OVERFLOWS = 0.1
"""Largest fraction of steps that float16 may skip without a warning."""
PATIENCE_STEPS = 200
"""Number of steps that a network may stay at the uniform response, where it starts. A longer
warm-up extends it."""


def looks_after_step(config: RunConfig, steps_per_epoch: int) -> int:
    """Return the last step at which the monitor does not look for collapse."""
    warmup_epochs = max(config.optim.warmup_epochs, config.loss.negative_warmup_epochs)
    return max(PATIENCE_STEPS, round(warmup_epochs * steps_per_epoch))


def looked_for_collapse(unseen: int, last_step: int) -> str:
    """Return a sentence that says from which step on the health monitor looked for collapse.

    Args:
        unseen: the last step at which the monitor did not look; see `looks_after_step`.
        last_step: step of the last report.
    """
    if last_step <= unseen:
        return (
            f"Collapse was not looked for: the monitor begins after step {unseen:,}, and the last "
            f"report is of step {last_step:,}"
        )
    return f"The monitor looked for collapse in the reports after step {unseen:,}"


class Health:
    """The health monitor of a run: it judges each report."""

    def __init__(self, config: RunConfig, steps_per_epoch: int) -> None:
        """Set the limits for the K of the run, and the step after which collapse is looked for."""
        self._config = config
        self._ln_k = math.log(config.head.prototypes)
        self._patience_steps = looks_after_step(config, steps_per_epoch)

    def look(self, values: Mapping[str, float]) -> dict[str, str]:
        """Return the problems that a report of `Meters` shows: kind -> one line with a remedy."""
        found = {}
        if self._skips_too_much(values):
            found["skipped steps"] = (
                f"{values[SKIPPED.key]:.0f} steps were skipped because something in them was not "
                "finite; try a lower --optim.lr-base or --precision fp32"
            )
        if values["step"] <= self._patience_steps:
            return found
        if self._is_point(values):
            found["collapse to a point"] = (
                f"all images look alike to the network (feature spread {values[SPREAD.key]:.3f}, "
                f"{values[OCCUPIED.key]:.0f} prototypes in use): it has collapsed to a point; try "
                "a lower --optim.lr-base, a --loss.centre-momentum of 0.9, or start again"
            )
        elif values[POSITIVE.key] > UNIFORM * self._ln_k:
            found["uniform response"] = self._uniform(values)
        elif self._mixes_up(values):
            found["negatives not told apart"] = (
                "the responses to negatives are as decided as those to positives (entropies "
                f"{values[NEGATIVE_ENTROPY.key]:.2f} and {values[POSITIVE_ENTROPY.key]:.2f}): try "
                "a higher --loss.negative-weight or other --negatives"
            )
        return found

    def _skips_too_much(self, values: Mapping[str, float]) -> bool:
        if self._config.precision != "fp16":
            return values[SKIPPED.key] > 0
        # float16 finds its scale by skipping steps, and tries a larger one from time to time.
        often = values[SKIPPED.key] > OVERFLOWS * self._config.log_steps
        return values["step"] > self._patience_steps and often

    def _uniform(self, values: Mapping[str, float]) -> str:
        stuck = (
            f"L_pos is {values[POSITIVE.key]:.2f}, at ln K = {self._ln_k:.2f}: the network prefers "
            "no prototype"
        )
        config = self._config
        remedies = []
        if values.get(NEGATIVE_KL.key, math.inf) < (1 - UNIFORM) * self._ln_k:
            weight = config.loss.negative_weight
            remedies.append(f"a lower --loss.negative-weight than {weight:g} (or a warm-up of it)")
        if values[TEACHER_ENTROPY.key] > UNIFORM * self._ln_k:
            remedies.append(
                f"a lower --loss.teacher-temp-start than {config.loss.teacher_temp_start:g}"
            )
        remedies.append(f"fewer --head.prototypes than {config.head.prototypes}")
        return f"{stuck}; try {', '.join(remedies)}"

    def _is_point(self, values: Mapping[str, float]) -> bool:
        return (
            values[SPREAD.key] < NARROW_SPREAD
            or values[POSITIVE.key] < POINT_LOSS * self._ln_k
            or values[OCCUPIED.key] < min(FEW_PROTOTYPES, self._config.head.prototypes / 40)
        )

    def _mixes_up(self, values: Mapping[str, float]) -> bool:
        if NEGATIVE_ENTROPY.key not in values:
            return False
        return values[NEGATIVE_ENTROPY.key] < values[POSITIVE_ENTROPY.key]
