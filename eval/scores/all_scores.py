"""All scores of a network: their names, and their computation from its features.

The headline score is Eq. 6 of the paper. A higher score is more OOD, for every score.
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
    """Return the name of a score in tables and figures, from its key in results.json."""
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
    """Return all scores of every set except the bank; every rank must call this function.

    Args:
        features: set -> float32 [N, d], the bank included.
        tau: temperature of Eq. 6.
        ks: numbers of neighbours of the k-NN scores.
        world: the ranks; each compares with its share of the bank.
        label: name of the network, for messages of errors.
        has_covariance: True to add the Mahalanobis score. It makes no sense for raw pixels.
        teacher: the teacher, if the features are its own; adds the scores of its head.
        tell: function that shows a line to the user, if a score must be left out.

    Returns:
        Score -> set -> float64 [N], the same on every rank.

    Raises:
        UserError: features cannot be scored, or k is larger than the bank; names the set and the
            network.
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
