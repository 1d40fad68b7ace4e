"""Weights of an ensemble: against a general solver, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from eval.decisions.conformal import Calibration
from eval.ensemble.weights import Moments, weights_of
from eval.outliers.tuning_images import tuning_part


def drawn(rng: np.random.Generator, count: int, shift: list[float]) -> np.ndarray:
    return rng.normal(size=(count, len(shift))) + shift


def test_they_minimise_the_stated_sum() -> None:
    rng = np.random.default_rng(0)
    normal = drawn(rng, 80, [0, 0, 0, 0, 0])
    families = [drawn(rng, 40, [2, 0.5, 0.2, -1, 0.3]), drawn(rng, 25, [0, 1.5, 0.3, -2, 0.2])]
    auroc = [
        np.mean(
            [
                roc_auc_score(np.repeat([0, 1], [80, len(f)]), np.r_[normal[:, m], f[:, m]])
                for f in families
            ]
        )
        for m in range(5)
    ]
    trust = np.maximum(np.array(auroc) - 0.5, 0) ** 2
    trust /= trust.max()
    kept = trust > 0
    assert kept.tolist() == [True, True, True, False, True]

    def loss(values: np.ndarray) -> float:
        w, b = values[:-1], values[-1]
        error = np.mean((normal[:, kept] @ w + b) ** 2)
        error += np.mean([np.mean((f[:, kept] @ w + b - 1) ** 2) for f in families])
        return error + 10 * np.sum(w**2 / trust[kept])

    best = minimize(loss, np.full(5, 0.1), bounds=[(0, None)] * 4 + [(None, None)], tol=1e-14)
    expected = np.zeros(5)
    expected[kept] = best.x[:-1] / best.x[:-1].sum()
    assert 0.01 < expected[4] < 0.02  # too small to be worth its time
    expected[4] = 0
    np.testing.assert_allclose(
        weights_of(normal, families, [False] * 5), expected / expected.sum(), rtol=0, atol=1e-4
    )


def test_a_sum_over_turns_needs_twice_the_weight() -> None:
    rng = np.random.default_rng(4)
    normal, family = drawn(rng, 300, [0, 0, 0]), drawn(rng, 300, [2, 0.4, 0.4])
    free = weights_of(normal, [family], [False] * 3)
    assert 0.02 < free[1] < 0.04 and 0.02 < free[2] < 0.04
    found = weights_of(normal, [family], [False, True, False])
    np.testing.assert_allclose(found, np.array([free[0], 0, free[2]]) / (1 - free[1]))


def test_every_family_counts_the_same() -> None:
    rng = np.random.default_rng(1)
    normal, one, two = (drawn(rng, 60, shift) for shift in ([0, 0], [3, 0], [0, 3]))
    expected = weights_of(normal, [one, two], [False, False])
    np.testing.assert_allclose(
        weights_of(normal, [np.tile(one, (50, 1)), two], [False, False]), expected
    )


def test_if_no_member_sees_anything_all_weights_are_equal() -> None:
    rng = np.random.default_rng(2)
    found = weights_of(drawn(rng, 90, [0, 0]), [drawn(rng, 90, [-3, -3])], [False, False])
    assert found.tolist() == [0.5, 0.5]


def test_z_scores_are_limited_and_a_constant_member_has_none() -> None:
    scores = np.array([[1.0, 7], [2, 7], [3, 7]])
    moments = Moments.of(scores)
    z = moments.z(np.array([[2.0, 7], [100, 7], [-100, 7]]))
    assert z.tolist() == [[0, 0], [20, 0], [-5, 0]]
    assert moments.z(scores)[2, 0] == pytest.approx(1 / np.std([1, 2, 3]))
    assert Moments.none().z(np.array([[1e9], [-1e9]])).tolist() == [[1e9], [-1e9]]


@pytest.mark.slow
def test_false_positive_rates_are_those_that_were_chosen() -> None:
    """1,000 times: normal images are divided, one part tunes the ensemble, the other calibrates.

    The number of later normal images that are called OOD has a known mean, and its mean over the
    draws lies within 4 standard errors. With p-values from the tuning part it would not: there are
    as many members as tuning images can be fitted with.
    """
    rng, splits, later = np.random.default_rng(3), 1000, 20
    rates = 0.01, 0.05, 0.1
    called = {rate: 0 for rate in rates}
    members = 12
    for _ in range(splits):
        held_out = drawn(rng, 398, [0.0] * members) ** 3
        tuning, rest = (held_out[ids] for ids in tuning_part(np.arange(len(held_out))))
        moments = Moments.of(tuning)
        spoiled = drawn(rng, 30, list(rng.uniform(0, 1, members)))
        weights = weights_of(moments.z(tuning), [moments.z(spoiled)], [False] * members)
        calibration = Calibration(moments.z(rest) @ weights)
        p_values = calibration.p_values(
            moments.z(drawn(rng, later, [0.0] * members) ** 3) @ weights
        )
        for rate in rates:
            called[rate] += int((p_values <= rate).sum())
    for rate in rates:
        expected = np.floor(rate * 200) / 200
        # The rate of one split is Beta(k, n + 1 - k); images of one split share it.
        beta = expected * (1 - expected) / 201
        binomial = (expected * (1 - expected) - beta) / later
        deviation = np.sqrt((beta + binomial) / splits)
        assert abs(called[rate] / (splits * later) - expected) < 4 * deviation, rate
