"""All scores of a network: their names, and their computation from the features of the network.

Eq. 6 is the score of the paper's tables. For every score, a higher value means more OOD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.config import EQ6
from eval.scores.cosine import nearest_scores
from eval.scores.mahalanobis import Mahalanobis, NoCovarianceError
from eval.scores.prototypes import prototype_scores
from eval.sets.opening import BANK
from train.teacher import LoadedTeacher
from train.world import World, share_of_rank

MAHALANOBIS = "mahalanobis"


def label_of(score: str) -> str:
    """Return the name that tables and figures show for a score.

    Args:
        score: key of the score in results.json.
    """
    if score.startswith("knn-") and score.removeprefix("knn-").isdecimal():
        return f"{score.removeprefix('knn-')}-th nearest neighbour"
    return {
        EQ6: "Eq. 6 (paper)",
        "isolation-forest": "isolation forest",
        "pca-residual": "PCA residual",
        "lof": "local outlier factor",
        "knn-5-mean": "5 nearest neighbours, Euclid",
        "knn-5-cosine": "5-th nearest neighbour, centred cosine",
        "ledoit-wolf": "Mahalanobis (Ledoit-Wolf)",
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
    """Return all scores of every set except the bank. Every rank must call this function.

    Args:
        features: set -> float32 [N, d]. The bank is one of the sets.
        tau: temperature of Eq. 6.
        ks: numbers of neighbours of the k-NN scores.
        world: the ranks. Each rank compares the test features with its share of the bank.
        label: name of the network, for error messages.
        has_covariance: True to add the Mahalanobis score. False for raw pixels, for which this
            score makes no sense.
        teacher: the teacher if it computed the features, otherwise None. With a teacher, the scores
            of its head are added.
        tell: function that shows a line of text to the user. It is called if a score is left out.

    Returns:
        Score -> set -> float64 [N], the same on every rank.

    Raises:
        UserError: features cannot be scored, or k is larger than the bank. The message names the
            set and the network.
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
