"""Scores from cosines in tiles: their values, order, memory and errors."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from eval.scores import cosine, neighbours
from eval.scores.cosine import NAMES, nearest_scores, score
from eval.scores.neighbours import nearest
from shards.errors import UserError
from tests.support.largest_tensor import LargestTensor


def features(count, width=16, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def tiles(rows=500, columns=2048):
    """Make tiles of `rows` x `columns` cosines in a block."""
    return patch.dict(cosine.TILE_SHAPE, cpu=(rows, columns))


def eq6_by_definition(test, bank, tau=0.04):
    """Compute Eq. 6 as the paper writes it, in float64."""
    test, bank = test.double().numpy(), bank.double().numpy()
    test = test / np.linalg.norm(test, axis=1, keepdims=True)
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    return -np.exp(test @ bank.T / tau).mean(axis=1)


@pytest.mark.parametrize("tau", [0.04, 0.5])
def test_equals_eq6(tau):
    test, bank = features(50) * 7, features(83, seed=1) * 0.01
    test[0] = bank[5] * 3  # cosine 1, the largest exponent
    expected = eq6_by_definition(test, bank, tau)
    with tiles(16, 32):
        scores = score(test, bank, tau)
    assert scores.dtype == torch.float64 and scores.shape == (50,)
    np.testing.assert_allclose(scores.numpy(), -np.log(-expected), rtol=0, atol=1e-5)
    np.testing.assert_allclose(-(-scores).exp(), expected, rtol=1e-5)


def test_same_order_as_eq6():
    test, bank = features(300), features(200, seed=1)
    scores = score(test, bank).numpy()
    expected = eq6_by_definition(test, bank)
    differences = np.diff(np.sort(-np.log(-expected)))
    assert differences.min() > 1e-6, "rounding decides the order"
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(expected))


def test_far_from_the_bank_scores_higher():
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    near, far, opposite = score(torch.tensor([[2.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), bank)
    assert near < far < opposite


@pytest.mark.parametrize("rows", [1, 7, 40, 1024])
@pytest.mark.parametrize("columns", [1, 13, 61, 8192])
def test_tiles_do_not_matter(rows, columns):
    test, bank = features(40), features(61, seed=1)
    with tiles(rows, columns):
        tiled = score(test, bank)
    torch.testing.assert_close(tiled, score(test, bank), rtol=0, atol=1e-5)


def test_equal_features_tie_wherever_they_stand():
    bank = features(500, width=384, seed=1)
    one = features(1, width=384, seed=2)
    test = features(300, width=384)
    places = [0, 1, 2, 63, 64, 65, 127, 200, 255, 256, 299]
    test[places] = one
    with tiles(64, 100):
        scores, alone = score(test, bank)[places], score(one, bank)
    assert scores.unique().tolist() == alone.tolist()


def test_rounding_makes_no_ties_where_all_features_are_alike():
    test, bank = (1 + 1e-2 * features(count, 64, seed) for seed, count in ((0, 2000), (1, 50)))
    expected = -np.log(-eq6_by_definition(test, bank))
    # Near 24.99, float32 has fewer values in this range than there are images.
    assert np.ptp(expected) < 2e-3
    assert len(score(test, bank).unique()) > 1980


def test_nothing_of_test_times_bank_is_held():
    """A tile has 4,000 elements, the sets have 2,400 and 3,600, all cosines are 540,000."""
    test, bank = features(600, width=4), features(900, width=4, seed=1)
    with tiles(50, 80), LargestTensor() as traced:
        score(test, bank)
    assert traced.numel == 50 * 80
    with tiles(50, 80), LargestTensor() as traced:
        nearest_scores(test, bank, 0.04, [5])
    assert traced.numel <= 50 * (80 + 3 * 5)  # a tile, and the candidates of earlier tiles


def test_autocast_outside_changes_nothing():
    test, bank = features(20), features(30, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = score(test, bank)
    assert torch.equal(within, score(test, bank))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("value", "fault"),
    [(0.0, "zero norm"), (1e-20, "zero norm"), (math.nan, "NaN"), (-math.inf, "NaN")],
)
def test_features_without_direction_are_named(side, value, fault):
    sets = [features(30), features(40, seed=1)]
    sets[side][[4, 21]] = value
    with pytest.raises(UserError, match=f"^{'ab'[side]}: 2 of .*{fault}.*; ids 4, 21$"):
        score(*sets, names=("a", "b"))


def test_one_bad_number_in_a_feature_is_enough():
    test = features(30)
    test[8, 3] = math.nan
    with pytest.raises(UserError, match="^test set: 1 of 30 features have NaN or Inf; ids 8$"):
        score(test, features(40))


@pytest.mark.parametrize(("sizes", "name"), [((0, 5), "test set"), ((5, 0), "bank")])
def test_empty_sets_are_named(sizes, name):
    with pytest.raises(UserError, match=f"^{name}: no features"):
        score(features(sizes[0]), features(sizes[1]))


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_tau_must_be_positive(tau):
    with pytest.raises(UserError, match="^tau is"):
        score(features(3), features(3), tau)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\[3, 16\] and bank \[3, 8\]"):
        score(features(3), features(3, width=8))


def cosines_by_definition(test, bank):
    """Return all cosines, float64 [N, M]."""
    test, bank = test.double().numpy(), bank.double().numpy()
    test = test / np.linalg.norm(test, axis=1, keepdims=True)
    return test @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T


# With and without whole groups of 32, with less than k features in a tile, with many tiles.
@pytest.mark.parametrize("bank_size", [9, 64, 700])
@pytest.mark.parametrize("columns", [5, 32, 100, 8192])
def test_all_scores_in_one_pass(bank_size, columns):
    test, bank = features(50), features(bank_size, seed=1)
    bank[3::4] = bank[::4][: len(bank[3::4])] * 2  # ties: these cosines occur twice
    test[0] = bank[5] * 3
    with tiles(16, columns):
        found = nearest_scores(test, bank, 0.04, [1, 4, 9])
        assert torch.equal(found["eq6"], score(test, bank))
    assert list(found) == ["eq6", "max-cosine", "knn-1", "knn-4", "knn-9"]
    assert {values.dtype for values in found.values()} == {torch.float64}
    sorted_cosines = -np.sort(-cosines_by_definition(test, bank), axis=1)
    for name, k in (("max-cosine", 1), ("knn-1", 1), ("knn-4", 4), ("knn-9", 9)):
        np.testing.assert_allclose(found[name], -sorted_cosines[:, k - 1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(-(-found["eq6"]).exp(), eq6_by_definition(test, bank), rtol=1e-5)


@pytest.mark.parametrize("rising", [True, False])
def test_neighbours_in_a_sorted_bank(rising):
    test, bank = features(1), features(2000, seed=1)
    order = np.argsort(cosines_by_definition(test, bank)[0])
    bank = bank[torch.from_numpy(order if rising else order[::-1].copy())]
    expected = -np.sort(-cosines_by_definition(test, bank)[0])[29]
    with tiles(columns=128):
        found = nearest_scores(test, bank, 0.04, [30])["knn-30"]
    assert float(found) == pytest.approx(-expected, abs=1e-6)


def test_weights_count_features():
    test, bank = features(40), features(90, seed=1)
    counts = torch.arange(90) % 4 + 1
    with tiles(columns=16):
        found = score(test, bank, weights=counts.float())
    expected = -np.log(-eq6_by_definition(test, bank.repeat_interleave(counts, 0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tau", [0.002, 0.0145])
def test_powers_beyond_float32(tau):
    test, bank = features(40), features(90, seed=1)
    test[0] = bank[5]
    exponents = cosines_by_definition(test, bank) / tau
    expected = np.log(90) - logsumexp(exponents, axis=1)
    with tiles(16, 32):
        found = score(test, bank, tau)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_nearest_and_their_ids(monkeypatch):
    monkeypatch.setattr(neighbours, "TILE_ROWS", 8)
    monkeypatch.setattr(neighbours, "TILE_COLUMNS", 250)  # 7 groups, and a rest
    test, bank = features(30), features(620, seed=1)
    cosines, ids = nearest(test, bank, 6, NAMES)
    expected = cosines_by_definition(test, bank)
    np.testing.assert_array_equal(ids, np.argsort(-expected, axis=1)[:, :6])
    np.testing.assert_allclose(cosines, -np.sort(-expected, axis=1)[:, :6], rtol=0, atol=1e-6)


def test_of_equal_ones_the_first_is_nearest(monkeypatch):
    monkeypatch.setattr(neighbours, "TILE_ROWS", 8)
    monkeypatch.setattr(neighbours, "TILE_COLUMNS", 20)
    bank = features(25, seed=1).repeat(3, 1)
    _, ids = nearest(bank[:25], bank, 3, NAMES)
    assert ids.tolist() == [[i, i + 25, i + 50] for i in range(25)]


@pytest.mark.slow
def test_auroc_does_not_depend_on_tiles_or_type():
    test, bank = features(400, 64).half().float(), features(300, 64, seed=1).half().float()
    test[200:] += 0.1
    is_ood = np.arange(400) >= 200
    for name in ("eq6", "max-cosine", "knn-5"):
        areas = []
        for shape in ((500, 2048), (7, 13), (500, 256)):
            with tiles(*shape):
                areas += [
                    roc_auc_score(is_ood, nearest_scores(*sets, 0.04, [5])[name])
                    for sets in ((test, bank), (test.double(), bank.half()))
                ]
        areas.append(
            roc_auc_score(
                is_ood, torch.cat([nearest_scores(t, bank, 0.04, [5])[name] for t in test.split(9)])
            )
        )
        assert len(set(areas)) == 1


@pytest.mark.parametrize("k", [0, -3])
def test_k_must_be_positive(k):
    with pytest.raises(UserError, match=f"^k is {k}, expected at least 1"):
        nearest_scores(features(3), features(9), 0.04, [5, k])
    with pytest.raises(UserError, match=f"^k is {k}, expected at least 1"):
        nearest(features(3), features(9), k, NAMES)


def test_a_bank_smaller_than_k_is_named():
    with pytest.raises(UserError, match="^train: 9 features, too few for 10 neighbours"):
        nearest_scores(features(3), features(9), 0.04, [5, 10], names=("test", "train"))
    with pytest.raises(UserError, match="^bank: 9 features, too few for 10 neighbours"):
        nearest(features(3), features(9), 10, NAMES)


@pytest.mark.parametrize("weights", [torch.ones(8), torch.zeros(9), torch.full((9,), math.nan)])
def test_weights_must_be_positive_and_fit(weights):
    with pytest.raises(ValueError, match="not 9 positive numbers"):
        score(features(3), features(9), weights=weights)
