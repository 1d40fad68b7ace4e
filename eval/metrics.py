"""How well scores tell OOD from in-distribution, and the sign convention, stated here once.

    A HIGHER SCORE IS MORE OOD. OOD is the positive class.

So AUROC is the probability that a random OOD image scores above a random in-distribution image,
ties counted half: 1.0 = every OOD image scores higher, 0.5 = chance, 0.0 = the sign is wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from shards.cli import UserError

IDS_NAMED = 5


def auroc(in_dist_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Area under the ROC curve, from the exact scores (no binning, ties counted half).

    Args:
        in_dist_scores: float32 or float64 [N], scores of in-distribution test images.
        ood_scores: float32 or float64 [M], scores of OOD images, the positive class.

    Returns:
        A value in [0, 1].

    Raises:
        UserError: a set is empty, not one-dimensional, or holds NaN or Inf.
    """
    in_dist = _checked("in-distribution", in_dist_scores)
    ood = _checked("OOD", ood_scores)
    is_ood = np.concatenate([np.zeros(len(in_dist), bool), np.ones(len(ood), bool)])
    return float(roc_auc_score(is_ood, np.concatenate([in_dist, ood])))


def _checked(which: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"{which} scores have shape {array.shape}, expected [N]")
    if len(array) == 0:
        raise UserError(f"{which} scores are empty: AUROC needs at least one image of each kind")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        shown = ", ".join(f"{i} ({array[i]})" for i in bad[:IDS_NAMED])
        more = ", ..." if len(bad) > IDS_NAMED else ""
        raise UserError(
            f"{which} scores: {len(bad)} of {len(array)} are not finite, at positions {shown}{more}"
        )
    return array
