"""What is asked of the headline's features besides its scores: the probes of one scoring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.probes import class_probes, sensitivity
from eval.prototypes import occupied
from eval.scorer import score
from eval.sets import BANK, TEST, EvalSets
from shards.reader import ShardSet
from train.checkpoint import LoadedTeacher
from train.schedules import values_at

MOST_TRAINING_IMAGES = 10_000
"""That are scored against the whole bank for the sensitivity, evenly spaced by id."""


def probes(
    features: Mapping[str, Tensor],
    sets: EvalSets,
    test_scores: NDArray[np.float64],
    tau: float,
    teacher: LoadedTeacher | None,
) -> dict[str, Any]:
    """`knn_accuracy`, `linear_probe`, `sensitivity`, and of a teacher `occupied`.

    What needs labels is left out where there are none, and `occupied` where the bank is not the set
    that the teacher was trained on: the temperature depends on the length of its epochs.

    Args:
        features: set -> float32 [N, d], the headline's.
        sets: the sets.
        test_scores: float64 [N], Eq. 6 of the in-distribution test images.
        tau: temperature of Eq. 6.
        teacher: whose features these are, if they are a teacher's.

    Raises:
        UserError: features cannot be scored.
    """
    bank, test = features[BANK], features[TEST]
    every = -(-len(bank) // MOST_TRAINING_IMAGES)
    train_scores = score(bank[::every], bank, tau, names=(BANK, BANK))
    found = class_probes(bank, _labels(sets.bank), test, _labels(sets.test))
    found["sensitivity"] = sensitivity(train_scores.cpu().numpy(), test_scores)
    if teacher is not None and sets.bank.manifest.sha256 == teacher.manifests["in-dist"]:
        config = teacher.config
        steps_per_epoch = len(bank) // config.global_batch
        last = values_at(config, max(0, teacher.step - 1), steps_per_epoch)
        count, of = occupied(teacher.head, test, teacher.centre, last.teacher_temp, TEST)
        found["occupied"] = {"count": count, "of": of}
    return found


def _labels(shards: ShardSet) -> NDArray[np.int64] | None:
    """Int64 [N]; None if the set has none."""
    return shards.labels(np.arange(len(shards))) if shards.manifest.classes else None
