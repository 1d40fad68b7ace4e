"""Probes of features: how well they tell classes apart.

Legend: M bank features (in-distribution training), N test features, d feature width. The k-NN
accuracy and the linear probe use labels. No score uses labels.

    k-NN accuracy    accuracy of a weighted vote of the k nearest bank features: the test image gets
                     the class with the largest sum of exp(cos / T), as in DINO's evaluation
                     (paper, Fig. 3 top)
    linear probe     accuracy of multinomial logistic regression

The third probe, the sensitivity, needs no labels: see `eval.audits.headline_probes.Probes`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor

from eval.features.checks import check_features
from eval.scores.neighbours import nearest
from shards.errors import UserError

KS = (10, 20)
"""Values of k, the number of nearest neighbours that vote on the class of an image."""
TEMPERATURES = (0.04, 0.07)
"""Temperatures T in the weight of a vote, exp(cos / T)."""
VOTES_AT_ONCE = 512
"""Number of test images whose votes are counted together."""
PENALTY = 1.0
"""Weight of the L2 penalty in the loss of the linear probe. The loss is the sum of the cross
entropy over the images, in nats, plus `PENALTY` / 2 times the sum of the squared weights. Biases
have no penalty."""
TOLERANCE, MAX_ITERATIONS = 1e-6, 500
"""The fit of the linear probe ends when no element of the gradient is larger than the tolerance, or
after this number of iterations."""


def knn_accuracy(
    bank: Tensor,
    bank_labels: NDArray,
    test: Tensor,
    test_labels: NDArray,
    ks: Sequence[int] = KS,
    temperatures: Sequence[float] = TEMPERATURES,
) -> dict[str, float]:
    """Return the share of test images whose class wins the weighted vote of their neighbours.

    If classes have equal votes, the lowest label wins.

    Args:
        bank: features of the bank, float32 [M, d].
        bank_labels: int64 [M], 0 or more.
        test: features of the test images, float32 [N, d], on the same device.
        test_labels: int64 [N].
        ks: numbers of neighbours that vote.
        temperatures: temperatures T in the weight of a vote, exp(cos / T).

    Returns:
        Settings of the vote ("k10-t0.04" and so on) -> accuracy in [0, 1].

    Raises:
        UserError: a k is larger than the bank, or features hold NaN, Inf or a zero norm.
    """
    if not ks:
        return {}
    names = "the test images of the k-NN accuracy", "the bank of the k-NN accuracy"
    cosines, ids = nearest(test, bank, max(ks), names)
    of_bank, truth = (torch.as_tensor(a, device=bank.device) for a in (bank_labels, test_labels))
    right = {f"k{k}-t{temperature:g}": 0 for k in ks for temperature in temperatures}
    for first in range(0, len(test), VOTES_AT_ONCE):
        rows = slice(first, first + VOTES_AT_ONCE)
        for k in ks:
            for temperature in temperatures:
                weights = (cosines[rows, :k].double() / temperature).exp()
                votes = weights.new_zeros(len(weights), int(of_bank.max()) + 1)
                votes.scatter_add_(1, of_bank[ids[rows, :k]], weights)
                named = votes.argmax(1)  # the lowest label among equal votes
                right[f"k{k}-t{temperature:g}"] += int((named == truth[rows]).sum())
    return {name: count / len(test) for name, count in right.items()}


def linear_probe(bank: Tensor, bank_labels: NDArray, test: Tensor, test_labels: NDArray) -> float:
    """Return the test accuracy of multinomial logistic regression on the bank's features.

    Features are L2-normalised and then standardised with the bank's mean and standard deviation.
    The loss (see `PENALTY`) is convex, and L-BFGS finds its minimum without any randomness.

    Args:
        bank: features of the bank, float32 [M, d].
        bank_labels: int64 [M].
        test: features of the test images, float32 [N, d], on the same device.
        test_labels: int64 [N]. An image of a class that the bank lacks always counts as wrong.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        UserError: the bank has fewer than two classes, or features hold NaN, Inf or a zero norm.
    """
    classes = np.unique(bank_labels)
    if len(classes) < 2:
        raise UserError(f"linear probe: the bank has {len(classes)} class, expected 2 or more")
    check_features("the bank of the linear probe", bank)
    check_features("the test images of the linear probe", test)
    fit = LogisticRegression(C=1 / PENALTY, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    probe = make_pipeline(Normalizer(), StandardScaler(), fit)
    with warnings.catch_warnings():
        # The limit of iterations is stated above; scikit-learn's advice is not for a user.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(bank.cpu().double().numpy(), bank_labels)
    return float(probe.score(test.cpu().double().numpy(), test_labels))
