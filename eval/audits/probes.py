"""Probes of features: how well they tell classes, and how test differs from training images.

Legend: M bank features (in-distribution training), N test features, d their width. Only these
probes use labels; no score does.

    k-NN accuracy    each test image is given the class with the largest sum of exp(cos / T) over
                     its k nearest bank features, as in DINO's evaluation (paper, Fig. 3 top)
    linear probe     accuracy of multinomial logistic regression
    sensitivity      AUROC of in-distribution training against test images by Eq. 6, with test
                     images as the positive class (paper, Fig. 3 bottom)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from eval.features.checks import check_features
from eval.intervals import Interval
from eval.metrics import auroc_interval
from eval.scores.neighbours import nearest
from shards.errors import UserError

KS = (10, 20)
"""Numbers of neighbours that vote, k."""
TEMPERATURES = (0.04, 0.07)
"""Temperatures of the weight of a vote, T."""
VOTES_AT_ONCE = 512
"""Number of test images whose votes are counted together."""
PENALTY = 1.0
"""Weight of the L2 penalty of the linear probe. Its loss is the sum over images of the cross
entropy, in nats, plus `PENALTY` / 2 times the squared weights; biases have no penalty."""
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class ClassProbes:
    """Results of the probes that need labels."""

    knn_accuracy: dict[str, float]
    """Settings of the vote -> accuracy in [0, 1]; see `knn_accuracy`."""
    linear_probe: float
    """Accuracy in [0, 1]."""


def class_probes(
    bank: Tensor, bank_labels: NDArray, test: Tensor, test_labels: NDArray
) -> ClassProbes | None:
    """Make the probes that need labels; None if the bank has one class.

    Args:
        bank: float32 [M, d].
        bank_labels: int64 [M].
        test: float32 [N, d].
        test_labels: int64 [N], of the same classes.

    Raises:
        UserError: features hold NaN, Inf or a zero norm.
    """
    if len(set(bank_labels.tolist())) < 2:
        return None
    ks = [k for k in KS if k <= len(bank)]
    return ClassProbes(
        knn_accuracy=knn_accuracy(bank, bank_labels, test, test_labels, ks),
        linear_probe=linear_probe(bank, bank_labels, test, test_labels),
    )


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
        bank: float32 [M, d].
        bank_labels: int64 [M], 0 or more.
        test: float32 [N, d], on the same device.
        test_labels: int64 [N].
        ks: numbers of neighbours that vote.
        temperatures: T in the weight of a vote, exp(cos / T).

    Returns:
        Settings of the vote ("k10-t0.04" and so on) -> accuracy in [0, 1].

    Raises:
        UserError: a k is larger than the bank; features hold NaN, Inf or a zero norm.
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
    The loss (see `PENALTY`) is convex and L-BFGS finds its minimum, without any randomness.

    Args:
        bank: float32 [M, d].
        bank_labels: int64 [M].
        test: float32 [N, d], on the same device.
        test_labels: int64 [N]; a class that the bank lacks is always counted as wrong.

    Returns:
        Accuracy in [0, 1].

    Raises:
        UserError: the bank has fewer than two classes; features hold NaN, Inf or a zero norm.
    """
    classes, targets = torch.as_tensor(bank_labels, device=bank.device).unique(return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"linear probe: the bank has {len(classes)} class, expected 2 or more")
    directions = _directions("the bank of the linear probe", bank)
    mean, sd = directions.mean(0), directions.std(0, correction=0)
    sd[sd == 0] = 1  # equal in all images: 0 after the mean is subtracted
    inputs = (directions - mean) / sd
    weights = inputs.new_zeros(len(classes), inputs.shape[1], requires_grad=True)
    biases = inputs.new_zeros(len(classes), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, biases],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-6,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        penalty = PENALTY / 2 * weights.square().sum() / len(inputs)
        value = F.cross_entropy(F.linear(inputs, weights, biases), targets) + penalty
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    tested = (_directions("the test images of the linear probe", test) - mean) / sd
    named = classes[F.linear(tested, weights, biases).argmax(1)]
    return float((named == torch.as_tensor(test_labels, device=named.device)).double().mean())


def sensitivity(train_scores: ArrayLike, test_scores: ArrayLike) -> Interval:
    """Return the AUROC of in-distribution training against test images (paper, Fig. 3 bottom).

    At 0.5 the scores do not tell them apart; above it, training images look less OOD. As in the
    paper, Eq. 6 is not changed for training images, which are in the bank themselves: the cosine
    of 1 with itself adds exp(1 / tau) / M to the S of a training image. Therefore the value lies
    above 0.5 even if training and test images are alike.

    Args:
        train_scores: float32 or float64 [M], scores of the bank's images against the bank.
        test_scores: float32 or float64 [N], scores of the in-distribution test images.

    Raises:
        UserError: see `eval.metrics.auroc`.
    """
    return auroc_interval(train_scores, test_scores)


def _directions(which: str, features: Tensor) -> Tensor:
    check_features(which, features)
    return F.normalize(features.float(), dim=1)
