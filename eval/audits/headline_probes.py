"""The probes of one scoring: measurements on the features of the headline's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.audits.probes import KS, knn_accuracy, linear_probe
from eval.intervals import Interval
from eval.metrics import auroc_interval
from eval.scores.cosine import score
from eval.scores.prototypes import occupied
from eval.sets.opening import BANK, TEST, EvalSets
from train.schedules import values_at
from train.teacher import LoadedTeacher

MOST_TRAINING_IMAGES = 10_000
"""Largest number of training images that are scored for the sensitivity. Their ids are evenly
spaced."""


@dataclass(frozen=True)
class Occupied:
    """The number of occupied prototypes (soft classes)."""

    count: int
    of: int
    """The number K of all prototypes."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The results of the probes. A result is None if the probe could not be made."""

    knn_accuracy: dict[str, float] | None = None
    """Settings of the vote, such as "k20-t0.07" -> k-NN accuracy in [0, 1]. See
    `eval.audits.probes.knn_accuracy`."""
    linear_probe: float | None = None
    """Accuracy of the linear probe, in [0, 1]."""
    sensitivity: Interval
    """AUROC of Eq. 6 between in-distribution training images and test images, with test images as
    the positive class (paper, Fig. 3 bottom). At 0.5, the scores do not tell training images from
    test images. Above 0.5, training images look less OOD. Training images are in the bank
    themselves. As in the paper, Eq. 6 is not changed for them: the cosine of 1 of a training image
    with itself adds exp(1 / tau) / M to the mean of Eq. 6, where M is the number of images in the
    bank. Therefore the value lies above 0.5 even if training and test images are alike."""
    occupied: Occupied | None = None
    """The number of prototypes that the in-distribution test images occupy."""


def probes(
    features: Mapping[str, Tensor],
    sets: EvalSets,
    test_scores: NDArray[np.float64],
    tau: float,
    teacher: LoadedTeacher | None,
    tell: Callable[[str], None],
) -> Probes:
    """Make all probes that are possible.

    The probes of classes need labels, and the bank and the test set must have the same classes.
    `occupied` needs a teacher, and the bank must be the training set of the teacher. The reason is
    that the teacher's temperature depends on the length of an epoch.

    Args:
        features: set -> features of the headline's network, float32 [N, d].
        sets: the sets.
        test_scores: scores of the in-distribution test images from Eq. 6, float64 [N].
        tau: temperature of Eq. 6.
        teacher: the teacher that computed the features. None if another network did.
        tell: function that shows a line of text to the user. It is called if a probe of classes is
            left out or says little.

    Raises:
        UserError: features cannot be scored.
    """
    bank, test = features[BANK], features[TEST]
    every = -(-len(bank) // MOST_TRAINING_IMAGES)
    train_scores = score(bank[::every], bank, tau, names=(BANK, BANK))
    knn, linear = None, None
    if _has_same_classes(sets, tell):
        of_bank, of_test = (sets.shards[n].labels(np.arange(sets.counts[n])) for n in (BANK, TEST))
        if np.ptp(of_bank):
            ks = [k for k in KS if k <= len(bank)]
            knn = knn_accuracy(bank, of_bank, test, of_test, ks)
            linear = linear_probe(bank, of_bank, test, of_test)
        if told := _too_few_labels(of_bank):
            tell(told)
    return Probes(
        knn_accuracy=knn,
        linear_probe=linear,
        sensitivity=auroc_interval(train_scores.cpu().numpy(), test_scores),
        occupied=_occupied(bank, test, sets, teacher),
    )


def _occupied(
    bank: Tensor, test: Tensor, sets: EvalSets, teacher: LoadedTeacher | None
) -> Occupied | None:
    if teacher is None or not sets.bank_is_training_set(teacher):
        return None
    config = teacher.config
    steps_per_epoch = len(bank) // config.global_batch
    last = values_at(config, max(0, teacher.step - 1), steps_per_epoch)
    return Occupied(*occupied(teacher.head, test, teacher.centre, last.teacher_temp, TEST))


def _too_few_labels(of_bank: NDArray[np.int64]) -> str:
    """Return a line of text if the bank has too few labels for probes of classes, otherwise "".

    With one class, there are no probes of classes. With few images in a class, they say little.
    """
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
    """Return True if every label stands for the same class in the bank and in the test set.

    Returns False if a set has no images or no classes. If classes differ, `tell` gets the reason.
    """
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
