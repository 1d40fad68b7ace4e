"""What is asked of the headline's features besides its scores: the probes of one scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.audits.probes import KS, class_probes, sensitivity
from eval.scores.cosine import score
from eval.scores.prototypes import occupied
from eval.sets.opening import BANK, TEST, EvalSets
from train.schedules import values_at
from train.teacher import LoadedTeacher

MOST_TRAINING_IMAGES = 10_000
"""That are scored against the whole bank for the sensitivity, evenly spaced by id."""


def probes(
    features: Mapping[str, Tensor],
    sets: EvalSets,
    test_scores: NDArray[np.float64],
    tau: float,
    teacher: LoadedTeacher | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """`knn_accuracy`, `linear_probe`, `sensitivity`, and of a teacher `occupied`.

    What needs labels is left out where there are none, or where those of bank and test set are of
    other classes, and `occupied` where the bank is not the set that the teacher was trained on: the
    temperature depends on the length of its epochs.

    Args:
        features: set -> float32 [N, d], the headline's.
        sets: the sets.
        test_scores: float64 [N], Eq. 6 of the in-distribution test images.
        tau: temperature of Eq. 6.
        teacher: whose features these are, if they are a teacher's.
        tell: is given a line where classes differ.

    Raises:
        UserError: features cannot be scored.
    """
    bank, test = features[BANK], features[TEST]
    every = -(-len(bank) // MOST_TRAINING_IMAGES)
    train_scores = score(bank[::every], bank, tau, names=(BANK, BANK))
    found: dict[str, Any] = {}
    if _has_same_classes(sets, tell):
        of_bank, of_test = (sets.shards[n].labels(np.arange(sets.counts[n])) for n in (BANK, TEST))
        found |= class_probes(bank, of_bank, test, of_test)
        if told := _too_few_labels(of_bank):
            tell(told)
    found["sensitivity"] = sensitivity(train_scores.cpu().numpy(), test_scores)
    if teacher is not None and sets.bank_is_training_set(teacher):
        config = teacher.config
        steps_per_epoch = len(bank) // config.global_batch
        last = values_at(config, max(0, teacher.step - 1), steps_per_epoch)
        count, of = occupied(teacher.head, test, teacher.centre, last.teacher_temp, TEST)
        found["occupied"] = {"count": count, "of": of}
    return found


def _too_few_labels(of_bank: NDArray[np.int64]) -> str:
    """A line where the bank's labels allow no probe, or one that says little; "" otherwise."""
    labels, counts = np.unique(of_bank, return_counts=True)
    if len(labels) == 1:
        return "k-NN accuracy and linear probe are left out: the bank has one class"
    rarest = int(counts.argmin())
    if counts[rarest] >= min(KS):
        return ""
    return (
        f"k-NN accuracy and linear probe say little: label {labels[rarest]} has {counts[rarest]} "
        f"images in the bank, fewer than the {min(KS)} neighbours that vote"
    )


def _has_same_classes(sets: EvalSets, tell: Callable[[str], None]) -> bool:
    """Whether a label of the bank and the same number in the test set are one class."""
    if not sets.shards:
        return False
    of_bank, of_test = (sets.manifests[name].classes for name in (BANK, TEST))
    differ = [
        f"label {label} is {here} in {BANK}, {there} in {TEST}"
        for label, (here, there) in enumerate(zip_longest(of_bank, of_test, fillvalue="no class"))
        if here != there
    ]
    if of_bank and of_test and differ:
        tell(f"k-NN accuracy and linear probe are left out: {differ[0]}")
    return bool(of_bank) and not differ
