"""The score of SSD against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance

from eval.scores.mahalanobis import SHRINKAGE, Mahalanobis
from shards.errors import UserError
from tests.support.largest_tensor import LargestTensor


def features(count, width=8, seed=0, centre=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=draw) * torch.arange(1, width + 1) + centre


def unit(rows):
    rows = rows.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shrunk_distances(bank, test):
    """Compute the squared distances with scikit-learn's covariance and scipy."""
    fitted = EmpiricalCovariance().fit(bank)
    width = bank.shape[1]
    covariance = (1 - SHRINKAGE) * fitted.covariance_
    covariance += SHRINKAGE * np.trace(fitted.covariance_) / width * np.eye(width)
    inverse = np.linalg.inv(covariance)
    return np.array([mahalanobis(row, fitted.location_, inverse) ** 2 for row in test])


def test_distances_are_those_of_scipy(monkeypatch):
    monkeypatch.setattr("eval.scores.mahalanobis.TILE", 64)  # several tiles, the last one shorter
    bank, test = features(300, centre=3), features(150, seed=1)
    scores = Mahalanobis.fit(bank).score(test)
    assert scores.dtype == torch.float64
    expected = shrunk_distances(unit(bank), unit(test))
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9)


def test_no_second_copy_of_the_bank_is_held(monkeypatch):
    monkeypatch.setattr("eval.scores.mahalanobis.TILE", 64)
    bank, test = features(600, centre=3), features(500, seed=1)
    with LargestTensor() as traced:
        Mahalanobis.fit(bank).score(test)
    assert traced.numel == 600  # norms of the bank; a tile is 64 x 8, the bank 600 x 8


def test_moments_are_those_of_float64_where_directions_hardly_differ(monkeypatch):
    monkeypatch.setattr("eval.scores.mahalanobis.TILE", 64)
    bank = features(300, centre=3000)  # a variance of 1e-6 beside a mean of length 1
    fitted = Mahalanobis.fit(bank)
    rows = unit(bank)
    mean = rows.sum(0) / 300
    covariance = (rows - mean).T @ (rows - mean) / 300
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 8 * np.eye(8)
    centre, whitening = fitted.centre.numpy(), fitted.whitening.numpy()
    np.testing.assert_allclose(centre, mean, rtol=1e-14)
    np.testing.assert_allclose(whitening.T @ whitening, np.linalg.inv(shrunk), rtol=1e-9)


def test_higher_is_more_ood():
    bank = features(200, centre=30)
    scores = Mahalanobis.fit(bank).score(torch.cat([bank, -bank]))
    assert scores[:200].max() < scores[200:].min()


def test_fewer_features_than_dimensions():
    bank, test = features(20, width=64), features(10, width=64, seed=1)
    scores = Mahalanobis.fit(bank).score(test)
    np.testing.assert_allclose(scores.numpy(), shrunk_distances(unit(bank), unit(test)), rtol=1e-9)


@pytest.mark.parametrize(("value", "fault"), [(math.nan, "NaN or Inf"), (0.0, "zero norm")])
def test_features_without_direction_are_named(value, fault):
    fitted, bad = Mahalanobis.fit(features(30)), features(30)
    bad[7] = value
    with pytest.raises(UserError, match=f"^train: 1 of 30 features have {fault}.*; ids 7$"):
        Mahalanobis.fit(bad, name="train")
    with pytest.raises(UserError, match=f"^test: 1 of 30 features have {fault}.*; ids 7$"):
        fitted.score(bad, name="test")


def test_equal_features_have_no_covariance():
    with pytest.raises(UserError, match="^bank: its 30 features do not differ"):
        Mahalanobis.fit(features(1).repeat(30, 1) * torch.arange(1, 31)[:, None])
    with pytest.raises(UserError, match="its 1 features do not differ"):
        Mahalanobis.fit(features(1))
