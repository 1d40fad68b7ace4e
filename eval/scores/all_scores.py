"""All scores of a network: what each is called, and how they come from its features.

The headline is Eq. 6. Every score is higher for what is more OOD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.scores.cosine import nearest_scores
from eval.scores.mahalanobis import Mahalanobis, NoCovarianceError
from eval.scores.prototypes import prototype_scores
from eval.sets.opening import BANK
from train.teacher import LoadedTeacher
from train.world import World, share_of_rank

HEADLINE = "eq6"
MAHALANOBIS = "mahalanobis"


def label_of(score: str) -> str:
    """What a reader sees of a score's key."""
    if score.startswith("knn-"):
        return f"{score.removeprefix('knn-')}-th nearest neighbour"
    return {
        HEADLINE: "Eq. 6 (paper)",
        "max-cosine": "maximum cosine",
        MAHALANOBIS: "Mahalanobis (SSD)",
        "entropy": "entropy of prototypes",
        "energy": "energy of prototypes",
    }[score]


def all_scores(
    features: Mapping[str, Tensor],
    tau: float,
    ks: Sequence[int],
    world: World,
    label: str,
    *,
    has_covariance: bool,
    teacher: LoadedTeacher | None,
    tell: Callable[[str], None],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Scores of every set but the bank; every rank must call it, and gets them all.

    Args:
        features: set -> float32 [N, d], the bank among them.
        tau: temperature of Eq. 6.
        ks: neighbours of the k-NN scores.
        world: the ranks, among which the bank is shared out.
        label: the network's, for errors.
        has_covariance: whether a covariance of these features says anything; of pixels it does not.
        teacher: whose features these are, if they are a teacher's: its head has more to say.
        tell: is given a line where a score is left out, for these features have none.

    Returns:
        score -> set -> float64 [N].

    Raises:
        UserError: features, or a k, that cannot be scored; names the set and the network.
    """
    names = {name: f"{name} ({label})" for name in features}
    bank = features[BANK]
    tested = {name: values for name, values in features.items() if name != BANK}
    share = share_of_rank(len(bank), world.rank, world.world_size)
    found: dict[str, dict[str, Tensor]] = {}
    for name, values in tested.items():
        of_cosines = nearest_scores(
            values,
            bank[share.start : share.stop],
            tau,
            ks,
            world=world,
            names=(names[name], names[BANK]),
        )
        for score, scores in of_cosines.items():
            found.setdefault(score, {})[name] = scores
    if has_covariance:
        try:
            mahalanobis = Mahalanobis.fit(bank, name=names[BANK])
        except NoCovarianceError as reason:
            tell(f"{label_of(MAHALANOBIS)} is left out: {reason}")
        else:
            found[MAHALANOBIS] = {
                name: mahalanobis.score(values, names[name]) for name, values in tested.items()
            }
    if teacher is not None:
        temp = teacher.config.loss.student_temp
        for name, values in tested.items():
            of_prototypes = prototype_scores(teacher.head, values, temp, names[name])
            for score, scores in of_prototypes.items():
                found.setdefault(score, {})[name] = scores
    return {
        score: {name: scores.cpu().numpy() for name, scores in of_sets.items()}
        for score, of_sets in found.items()
    }
