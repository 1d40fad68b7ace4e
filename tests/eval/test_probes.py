"""Probes of the features: k-NN accuracy and linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.preprocessing import normalize

from eval.audits import probes
from eval.audits.probes import knn_accuracy, linear_probe
from eval.scores import neighbours
from shards.errors import UserError
from tests.support.score_cases import vote


def clouds(seed, count, classes=4, width=6, spread=1.1):
    """Features around one centre a class, and their labels: float32 [N, d], int64 [N]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, count)
    features = centres[labels] + spread * rng.normal(size=(count, width))
    return torch.from_numpy(features.astype(np.float32)), labels


def test_knn_accuracy_is_the_weighted_vote(monkeypatch):
    monkeypatch.setattr(probes, "VOTES_AT_ONCE", 50)
    monkeypatch.setattr(neighbours, "TILE_ROWS", 64)
    monkeypatch.setattr(neighbours, "TILE_COLUMNS", 130)
    monkeypatch.setattr(neighbours, "GROUP", 4)  # 32 groups and two over; 10 in the last tile
    sets = (*clouds(0, 300), *clouds(1, 200))
    numpy_sets = [np.asarray(array) for array in sets]
    found = knn_accuracy(*sets)
    assert list(found) == ["k10-t0.04", "k10-t0.07", "k20-t0.04", "k20-t0.07"]
    for k in (10, 20):
        for temperature in (0.04, 0.07):
            assert found[f"k{k}-t{temperature}"] == vote(*numpy_sets, k, temperature)
    assert len(set(found.values())) > 2  # k and T make a difference here


def test_weights_decide_against_the_majority():
    bank = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])  # cosines 1, 0.8, 0.8
    labels, test = np.array([0, 1, 1]), torch.tensor([[2.0, 0.0]])
    found = knn_accuracy(bank, labels, test, np.array([0]), [3], [0.04, 10.0])
    assert found == {"k3-t0.04": 1.0, "k3-t10": 0.0}


def test_of_equal_votes_the_lowest_class_wins():
    bank = torch.tensor([[0.6, 0.8], [0.6, -0.8]])
    test = torch.tensor([[1.0, 0.0]])
    for labels in ([1, 3], [3, 1]):
        assert knn_accuracy(bank, np.array(labels), test, np.array([1]), [2], [0.07]) == {
            "k2-t0.07": 1.0
        }


def test_linear_probe_is_logistic_regression():
    (bank, labels), (test, truth) = clouds(2, 120, spread=1.5), clouds(3, 400, spread=1.5)
    bank[:, 0] *= 30  # scales differ
    test[:, 0] *= 30
    unit, tested = (normalize(features.double().numpy()) for features in (bank, test))
    mean, sd = unit.mean(0), unit.std(0)
    inputs, tested = (np.c_[(rows - mean) / sd, np.ones(len(rows))] for rows in (unit, tested))

    def loss(flat):
        weights = flat.reshape(-1, 4)  # the biases are the last row
        log_p = log_softmax(inputs @ weights, axis=1)
        return (weights[:-1] ** 2).sum() / 2 - log_p[np.arange(120), labels].sum()

    weights = minimize(loss, np.zeros(28)).x.reshape(-1, 4)
    expected = ((tested @ weights).argmax(1) == truth).mean()
    assert 0.3 < expected < 0.9
    labels, truth = 10 * labels + 5, 10 * truth + 5  # labels need not count from 0
    assert linear_probe(bank, labels, test, truth) == pytest.approx(expected, abs=1e-12)


def test_a_column_that_never_changes_is_no_harm():
    (bank, labels), (test, truth) = clouds(2, 120), clouds(3, 200)
    unit = [features / features.norm(dim=1, keepdim=True) for features in (bank, test)]
    padded = [torch.cat([features, torch.zeros(len(features), 1)], 1) for features in unit]
    assert linear_probe(padded[0], labels, padded[1], truth) == linear_probe(
        unit[0], labels, unit[1], truth
    )


def test_a_class_that_the_bank_lacks_is_never_right():
    bank, labels = clouds(4, 60, classes=2)
    truth = np.full(60, 7)
    assert linear_probe(bank, labels, bank, truth) == 0.0
    assert set(knn_accuracy(bank, labels, bank, truth).values()) == {0.0}


def test_errors_name_what_is_wrong():
    features, labels = clouds(7, 12)
    with pytest.raises(
        UserError, match="^the bank of the k-NN accuracy: 12 features, too few for 20"
    ):
        knn_accuracy(features, labels, features, labels)
    with pytest.raises(UserError, match="linear probe: the bank has 1 class"):
        linear_probe(features, np.zeros(12, int), features, labels)
    broken = features.clone()
    broken[3] = float("nan")
    with pytest.raises(UserError, match=r"test images .*NaN or Inf; ids 3"):
        knn_accuracy(features, labels, broken, labels, [5])
    with pytest.raises(UserError, match=r"the bank of the linear probe.* ids 3"):
        linear_probe(broken, labels, features, labels)
