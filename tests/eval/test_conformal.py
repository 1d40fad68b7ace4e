"""p-values against their definition, and the false-positive rate that they guarantee."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.decisions.conformal import Calibration, rate_of_one_set
from shards.errors import UserError

DRAWS = 200
TESTED = 500


def by_definition(score: float, calibration: np.ndarray) -> float:
    at_least = sum(1 for other in calibration if other >= score)
    return (1 + at_least) / (len(calibration) + 1)


@pytest.mark.parametrize("levels", [4, 10**9])
def test_p_values_are_those_of_the_definition(levels) -> None:
    rng = np.random.default_rng(0)
    calibration = rng.integers(levels, size=37) / 7
    scores = np.concatenate([rng.integers(levels, size=50) / 7, calibration, [-1e30, 1e30]])
    expected = [by_definition(score, calibration) for score in scores]
    assert Calibration(calibration).p_values(scores).tolist() == expected


@pytest.mark.parametrize("levels", [4, 10**9])
@pytest.mark.parametrize("count", [1, 19, 99])
def test_a_score_above_the_threshold_is_one_with_a_small_p_value(levels, count) -> None:
    """The rates include 0.29: in floats, 0.29 * 100 is below the whole number 29."""
    rng = np.random.default_rng(1)
    calibration = rng.integers(levels, size=count) / 7
    scores = np.concatenate([calibration, calibration + 0.1, calibration - 0.1])
    expected = np.array([by_definition(score, calibration) for score in scores])
    known = Calibration(calibration)
    rates = [numerator / (count + 1) for numerator in range(1, count + 1)]
    for fpr in [*rates, *(rate + 0.4 / (count + 1) for rate in rates), 0.05, 0.29]:
        if fpr >= 1 / (count + 1):
            above = scores > known.threshold(fpr)
            np.testing.assert_array_equal(above, expected <= fpr, err_msg=str(fpr))


def false_positives(rng, count: int, fpr: float, levels: int | None) -> np.ndarray:
    """Draw n calibration and 500 other scores 200 times; return the numbers of false positives."""
    found = []
    for _ in range(DRAWS):
        scores = rng.gumbel(size=count + TESTED)
        if levels:
            scores = np.floor(levels * stats.gumbel_r.cdf(scores))
        known = Calibration(scores[:count])
        found.append(int((known.p_values(scores[count:]) <= fpr).sum()))
    return np.array(found)


@pytest.mark.parametrize(("count", "fpr"), [(19, 0.05), (200, 0.05), (100, 0.2)])
def test_the_promised_rate_is_kept(count, fpr) -> None:
    """If scores are continuous, the number of false positives is exactly beta-binomial."""
    found = false_positives(np.random.default_rng(2), count, fpr, levels=None)
    allowed = int(fpr * (count + 1) + 1e-9)
    exact = stats.betabinom(TESTED, allowed, count + 1 - allowed)
    standard_error = exact.std() / np.sqrt(DRAWS)
    assert abs(found.mean() - exact.mean()) < 3 * standard_error
    assert exact.mean() <= fpr * TESTED
    # Shares of draws below the quartiles, and in the interval that has 95 %.
    for quantile in (0.25, 0.5, 0.75):
        level = exact.ppf(quantile)
        share = exact.cdf(level)
        error = np.sqrt(share * (1 - share) / DRAWS)
        assert abs((found <= level).mean() - share) < 3 * error
    low, high = exact.ppf([0.025, 0.975])
    assert ((low <= found) & (found <= high)).mean() > 0.9


def test_with_ties_fewer_are_called_ood_and_never_more() -> None:
    found = false_positives(np.random.default_rng(3), 60, 0.1, levels=8)
    allowed = int(0.1 * 61)
    exact = stats.betabinom(TESTED, allowed, 61 - allowed)
    assert found.mean() < exact.mean() + 3 * exact.std() / np.sqrt(DRAWS)
    assert found.mean() > 0


@pytest.mark.parametrize("count", [1, 19, 100])
def test_a_rate_that_cannot_be_promised_names_the_number_of_images(count) -> None:
    known = Calibration(np.arange(count))
    smallest = 1 / (count + 1)
    assert known.p_values([1e9])[0] == smallest
    assert known.threshold(smallest) == count - 1
    for fpr in (np.nextafter(smallest, 0), 0.01 * smallest):
        with pytest.raises(UserError, match=f"but {count} calibration images .*1/{count + 1} "):
            known.threshold(fpr)


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_out_of_range(fpr) -> None:
    with pytest.raises(UserError, match="^--fpr is .*between 0 and 1"):
        Calibration(np.arange(9)).threshold(fpr)


@pytest.mark.parametrize(
    ("scores", "message"), [([], "no scores"), ([0.0, float("nan")], "1 of 2 scores are not")]
)
def test_calibration_scores_that_say_nothing(scores, message) -> None:
    with pytest.raises(UserError, match=f"^calibration: {message}"):
        Calibration(scores)


def test_a_score_that_is_not_a_number_has_no_p_value() -> None:
    found = Calibration([1.0, 2.0]).p_values([np.nan, 3.0])
    assert np.isnan(found[0]) and found[1] == 1 / 3


@pytest.mark.parametrize(("count", "fpr", "allowed"), [(20, 0.05, 1), (99, 0.05, 5), (30, 0.2, 6)])
def test_the_rate_of_one_calibration_set_is_that_of_drawn_ones(count, fpr, allowed) -> None:
    # The rate of a set is the share of the uniform scores above its threshold.
    rng = np.random.default_rng(0)
    rates = [1 - Calibration(rng.random(count)).threshold(fpr) for _ in range(4000)]
    mean, deviation = rate_of_one_set(fpr, count)
    assert mean == pytest.approx(allowed / (count + 1))
    assert mean == pytest.approx(np.mean(rates), rel=0.05)
    assert deviation == pytest.approx(np.std(rates), rel=0.05)
    assert mean == pytest.approx(stats.beta(allowed, count + 1 - allowed).mean())
    assert deviation == pytest.approx(stats.beta(allowed, count + 1 - allowed).std())
