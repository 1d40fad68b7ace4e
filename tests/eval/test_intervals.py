"""Intervals in hard cases: few images, equal scores, sets that lie apart."""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from eval.metrics import auroc_interval, mean_of_sets, measure

METRICS = ("auroc", "aupr_ood", "aupr_in", "fpr95")
SIZES = [(1, 1), (1, 6), (6, 1), (3, 3), (7, 23), (100, 41), (1000, 30)]


def without_a_loss(pairs: int) -> float:
    """Return the lower end of the interval of `pairs` pairs that are all won."""
    return stats.binomtest(pairs, pairs).proportion_ci(0.95, "exact").low


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, -1e300])
@pytest.mark.parametrize(("in_dist", "ood"), SIZES)
def test_equal_scores_leave_open_what_as_many_tosses_would(in_dist, ood, level) -> None:
    found = measure(np.full(in_dist, level), np.full(ood, level))
    pairs = min(in_dist, ood)
    for name, value in (
        ("auroc", 0.5),
        ("aupr_ood", ood / (in_dist + ood)),
        ("aupr_in", in_dist / (in_dist + ood)),
    ):
        won = pairs * value
        expected = (
            value,
            stats.beta.ppf(0.025, won, pairs - won + 1),
            stats.beta.ppf(0.975, won + 1, pairs - won),
        )
        assert astuple(getattr(found, name)) == pytest.approx(expected, abs=1e-9), name
    assert found.fpr95.value == 1 and found.fpr95.low < 1


@pytest.mark.parametrize(("in_dist", "ood"), SIZES)
def test_sets_that_lie_apart_are_as_sure_as_pairs_without_a_loss(in_dist, ood) -> None:
    lowest, highest = np.arange(in_dist) - 2000.0, np.arange(ood) + 0.0
    low = without_a_loss(min(in_dist, ood))
    right, wrong = measure(lowest, highest), measure(-lowest, -highest)
    for name in METRICS[:3]:
        assert astuple(getattr(right, name)) == pytest.approx((1, low, 1), abs=1e-9)
    assert astuple(wrong.auroc) == pytest.approx((0, 0, 1 - low), abs=1e-9)
    for name in METRICS[1:3]:  # not surer of a low value than tosses would be
        found = getattr(wrong, name)
        pairs = min(in_dist, ood)
        tosses = stats.beta.ppf([0.025, 0.975], *np.array([[0, 1], [1, 0]]) + [
            [pairs * found.value] * 2, [pairs - pairs * found.value] * 2
        ])  # fmt: skip
        assert found.low <= tosses[0] + 1e-9 and found.high >= tosses[1] - 1e-9
    several = mean_of_sets(lowest, [highest, highest]).auroc
    assert several.low == pytest.approx(low, abs=1e-9) and several.high == 1


@pytest.mark.slow
def test_every_order_of_a_few_images_has_a_sound_interval() -> None:
    """All ranks, ties included, of one to three images of a kind."""
    for in_dist, ood in itertools.product((1, 2, 3), repeat=2):
        low = without_a_loss(min(in_dist, ood))
        is_ood = np.arange(in_dist + ood) >= in_dist
        levels = range(in_dist + ood)
        of_kinds = (itertools.combinations_with_replacement(levels, n) for n in (in_dist, ood))
        for ranks in (one + other for one, other in itertools.product(*of_kinds)):
            if len({*ranks}) != max(ranks) + 1:
                continue  # the same order as with smaller ranks
            scores = np.array(ranks, np.float64)
            found = measure(scores[~is_ood], scores[is_ood])
            values = [
                roc_auc_score(is_ood, scores),
                average_precision_score(is_ood, scores),
                average_precision_score(~is_ood, -scores),
            ]
            for name, value in zip(METRICS, values, strict=False):
                ends = getattr(found, name)
                assert ends.value == pytest.approx(value, abs=1e-12)
                assert 0 <= ends.low <= min(value, low) + 1e-12, (name, ranks)
                assert max(value, 1 - low) - 1e-12 <= ends.high <= 1, (name, ranks)
            rate = found.fpr95
            assert 0 <= rate.low <= rate.value <= rate.high <= 1
            assert rate.high - rate.low > 0.5, ranks


@pytest.mark.parametrize(
    ("in_dist", "ood", "auroc"),
    [(20, 20, 0.9), (300, 20, 0.99), (1000, 30, 0.999), (30, 1000, 0.99), (40, 40, 0.98)],
)
def test_auroc_next_to_one_is_held_as_often_as_promised(in_dist, ood, auroc) -> None:
    rng = np.random.default_rng(4)
    shift = math.sqrt(2) * stats.norm.ppf(auroc)
    held = 0
    for _ in range(200):
        found = auroc_interval(rng.normal(size=in_dist), rng.normal(size=ood) + shift)
        held += found.low <= auroc <= found.high
    assert held >= 0.92 * 200


@pytest.mark.parametrize("missed", [0.01, 0.05, 0.2])
def test_a_share_of_ood_images_that_look_normal_is_held_too(missed) -> None:
    # The worst case of the bound: of 30 images often not one is of that share.
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        ood = np.where(rng.random(30) < missed, -1.0, 1.0)
        found = auroc_interval(np.zeros(50), ood)
        held += found.low <= 1 - missed
    assert held >= 0.92 * 200
