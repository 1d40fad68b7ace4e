"""The metrics, their sign and their intervals."""

from __future__ import annotations

import math
import re
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_curve

from eval.metrics import auroc, auroc_interval, mean_of_sets, measure
from shards.errors import UserError


def by_pairs(in_dist, ood):
    """The definition: share of (OOD, in-distribution) pairs won by the OOD image, ties half."""
    in_dist, ood = np.asarray(in_dist, np.float64), np.asarray(ood, np.float64)
    won = (ood[:, None] > in_dist).sum() + 0.5 * (ood[:, None] == in_dist).sum()
    return won / (len(in_dist) * len(ood))


METRICS = ("auroc", "aupr_ood", "aupr_in", "fpr95")
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
one_ulp_apart = st.integers(0, 4).map(lambda n: 1.0 + n * np.finfo(np.float64).eps)
tied = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
score_sets = st.one_of(
    *(
        st.tuples(st.lists(kind, min_size=1, max_size=40), st.lists(kind, min_size=1, max_size=40))
        for kind in (finite, one_ulp_apart, tied)
    )
)


def by_thresholds(in_dist, ood):
    """AUPR with OOD positive, and FPR at 95 % TPR, by every threshold that changes anything."""
    area, rate, found = 0.0, None, 0.0
    for threshold in sorted({*in_dist, *ood}, reverse=True):
        tp, fp = sum(s >= threshold for s in ood), sum(s >= threshold for s in in_dist)
        area += (tp / len(ood) - found) * tp / (tp + fp)
        found = tp / len(ood)
        if rate is None and 100 * tp >= 95 * len(ood):
            rate = fp / len(in_dist)
    return area, rate


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(score_sets)
def test_equals_the_definitions(sets):
    in_dist, ood = sets
    found = measure(np.array(in_dist), np.array(ood))
    aupr_ood, fpr95 = by_thresholds(in_dist, ood)
    aupr_in, _ = by_thresholds([-s for s in ood], [-s for s in in_dist])
    expected = [by_pairs(in_dist, ood), aupr_ood, aupr_in, fpr95]
    values = [getattr(found, name).value for name in METRICS]
    assert values == pytest.approx(expected, abs=1e-12, rel=0)
    assert auroc(np.array(in_dist), np.array(ood)) == values[0]
    for name in METRICS:
        ends = getattr(found, name)
        assert 0 <= ends.low <= ends.value <= ends.high <= 1


def test_equals_pair_counting_on_many_float32_scores():
    rng = np.random.default_rng(0)
    in_dist = rng.normal(size=2000).astype(np.float32).round(2)
    ood = (rng.normal(size=1500) + 0.7).astype(np.float32).round(2)
    assert auroc(in_dist, ood) == pytest.approx(by_pairs(in_dist, ood), abs=1e-12, rel=0)


def labelled(in_dist, ood):
    """Return labels, with OOD as the positive class, and scores, for scikit-learn."""
    return np.r_[np.zeros(len(in_dist)), np.ones(len(ood))], np.r_[in_dist, ood]


def test_equals_scikit_learn():
    rng = np.random.default_rng(1)
    in_dist, ood = rng.normal(size=3000).round(2), (rng.normal(size=1237) + 1.5).round(2)
    found = measure(in_dist, ood)
    is_ood, scores = labelled(in_dist, ood)
    fpr, tpr, _ = roc_curve(is_ood, scores, drop_intermediate=False)
    assert found.samples == 1237
    assert [getattr(found, name).value for name in METRICS[1:]] == pytest.approx(
        [
            average_precision_score(is_ood, scores),
            average_precision_score(1 - is_ood, -scores),
            fpr[np.argmax(tpr >= 0.95)],
        ],
        abs=1e-12,
        rel=0,
    )


@pytest.mark.parametrize(("ood_images", "missed"), [(19, 0), (20, 1), (39, 1), (40, 2), (100, 5)])
def test_fpr95_misses_no_more_than_5_percent(ood_images, missed):
    ood, in_dist = np.arange(ood_images), np.arange(200) - 100
    assert measure(in_dist, ood).fpr95.value == (100 - missed) / 200


IN_DIST, OOD = np.array([0.1, 0.2, 0.2, 0.6]), np.array([0.2, 0.5, 0.7])
BY_HAND = {
    # Pairs won by OOD: 0.2 wins 1 and ties 2, 0.5 wins 3, 0.7 wins 4.
    "auroc": (2 + 3 + 4) / 12,
    # Of the images at or above 0.7, 0.5 and 0.2, the share of OOD.
    "aupr_ood": (1 + 2 / 3 + 3 / 6) / 3,
    # Of the images at or below 0.1, 0.2, 0.2 and 0.6, the share of in-distribution.
    "aupr_in": (1 + 3 / 4 + 3 / 4 + 4 / 6) / 4,
    # All three OOD images are needed, so the threshold is 0.2.
    "fpr95": 3 / 4,
}


def test_higher_is_ood_on_a_case_by_hand():
    assert auroc(IN_DIST, OOD) == pytest.approx(BY_HAND["auroc"], abs=1e-15)
    for found in (measure(IN_DIST, OOD), mean_of_sets(IN_DIST, [OOD, OOD])):
        values = {name: getattr(found, name).value for name in METRICS}
        assert values == pytest.approx(BY_HAND, abs=1e-15)


def test_extremes():
    assert auroc([0.0, 1.0], [2.0, 3.0]) == 1.0
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 0.0
    assert auroc([1.0], [1.0, 1.0]) == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["in-distribution", "OOD"])
def test_not_finite_is_an_error_that_names_the_set_and_positions(which, bad):
    broken = np.linspace(0, 1, 12)
    broken[[3, 7]] = bad
    sets = (broken, OOD) if which == "in-distribution" else (IN_DIST, broken)
    with pytest.raises(UserError, match=re.escape(f"{which} scores: 2 of 12")) as error:
        auroc(*sets)
    assert f"positions 3 ({bad}), 7 ({bad})" in str(error.value)


def test_empty_is_an_error_that_names_the_set():
    with pytest.raises(UserError, match="in-distribution scores are empty"):
        auroc([], OOD)
    with pytest.raises(UserError, match="OOD scores are empty"):
        auroc(IN_DIST, [])


def test_a_matrix_is_an_error():
    with pytest.raises(UserError, match=r"OOD scores have shape \(1, 3\)"):
        auroc(IN_DIST, OOD[None])


# ------------------------------------------------------------------------------------- intervals
Z = stats.norm.ppf(0.975)


def on_logit_scale(value, variance):
    """Value, low and high: the 95 % interval of a value whose variance is known."""
    half = Z * math.sqrt(variance) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    return value, 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def drawn_sets(seed, in_dist=40, ood=(30, 50, 20)):
    """Scores with many ties: in-distribution, and OOD sets that lie ever farther above."""
    rng = np.random.default_rng(seed)
    shifted = [(rng.normal(size=count) + 1 + i / 2).round(1) for i, count in enumerate(ood)]
    return rng.normal(size=in_dist).round(1), shifted


def pairs_won(in_dist, ood):
    """[M, N]: 1 where the OOD image scores higher, 0.5 for a tie."""
    return (ood[:, None] > in_dist) + 0.5 * (ood[:, None] == in_dist)


def test_auroc_interval_is_delongs():
    in_dist, (ood, *_) = drawn_sets(0)
    won = pairs_won(in_dist, ood)
    variance = won.mean(1).var(ddof=1) / len(ood) + won.mean(0).var(ddof=1) / len(in_dist)
    expected = pytest.approx(on_logit_scale(won.mean(), variance), abs=1e-12, rel=0)
    assert astuple(measure(in_dist, ood).auroc) == expected
    assert astuple(auroc_interval(in_dist, ood)) == expected


def test_mean_of_sets_knows_that_they_share_the_in_distribution_images():
    in_dist, sets = drawn_sets(1)
    won = [pairs_won(in_dist, ood) for ood in sets]
    of_shared = np.mean([w.mean(0) for w in won], axis=0)
    variance = of_shared.var(ddof=1) / len(in_dist)
    variance += sum(w.mean(1).var(ddof=1) / len(w) for w in won) / 9
    value = np.mean([w.mean() for w in won])
    found = mean_of_sets(in_dist, sets)
    assert found.samples == 100
    expected = pytest.approx(on_logit_scale(value, variance), abs=1e-12, rel=0)
    assert astuple(found.auroc) == expected
    for name in METRICS:
        values = [getattr(measure(in_dist, ood), name).value for ood in sets]
        assert getattr(found, name).value == pytest.approx(np.mean(values), abs=1e-12, rel=0)


def slopes(is_positive, scores):
    """Derivatives of scikit-learn's average precision by the weight of each image: [N + M]."""
    step = 1e-5
    found = []
    for image in range(len(scores)):
        at = []
        for change in (step, -step):
            weights = np.ones(len(scores))
            weights[image] += change
            at.append(average_precision_score(is_positive, scores, sample_weight=weights))
        found.append((at[0] - at[1]) / (2 * step))
    return np.array(found)


@pytest.mark.slow
def test_aupr_intervals_are_those_of_the_slopes():
    in_dist, sets = drawn_sets(2, in_dist=15, ood=(10, 12))
    for name, sign in (("aupr_ood", 1), ("aupr_in", -1)):
        values, of_in_dist, of_ood = [], [], []
        for ood in sets:
            is_ood, scores = labelled(in_dist, ood)
            is_positive, scores = (is_ood if sign == 1 else 1 - is_ood), sign * scores
            values.append(average_precision_score(is_positive, scores))
            # An image has the weight 1 / N of its kind, so its component is N times the slope.
            components = slopes(is_positive, scores)
            of_in_dist.append(len(in_dist) * components[: len(in_dist)])
            of_ood.append((len(ood) * components[len(in_dist) :]).var(ddof=1) / len(ood))
        variance = np.mean(of_in_dist, 0).var(ddof=1) / len(in_dist) + sum(of_ood) / 4
        value, low, high = on_logit_scale(np.mean(values), variance)
        # Ten pairs without a loss would not say more.
        expected = value, min(low, stats.binomtest(10, 10).proportion_ci().low), high
        found = getattr(mean_of_sets(in_dist, sets), name)
        assert astuple(found) == pytest.approx(expected, abs=1e-7, rel=0)


def test_fpr95_interval_of_a_known_threshold_is_jeffreys():
    in_dist, ood = np.arange(300.0), np.full(2000, 270.0)
    found = measure(in_dist, ood).fpr95
    low, high = stats.beta.ppf([0.025, 0.975], 30 + 0.5, 270 + 0.5)
    assert found.value == 0.1
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_fpr95_interval_of_a_known_in_distribution_is_that_of_the_quantile():
    # In-distribution is uniform on [0, 1]: the rate is 1 - the OOD set's true 5 % quantile.
    in_dist, ood = np.arange(200_000) / 200_000, np.arange(400) / 400
    found = measure(in_dist, ood).fpr95
    below = 400 - stats.binom.ppf([0.975, 0.025], 400, 0.95)  # images below it, at either end
    low, high = 1 - below[1] / 400, 1 - (below[0] - 1) / 400
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.003)


def test_fpr95_interval_of_none_called_ood_is_not_empty():
    found = measure(np.arange(100.0), np.full(2000, 200.0)).fpr95
    assert found.value == found.low == 0
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 0.5, 100.5), rel=0.1)


def test_fpr95_of_few_ood_images_may_be_anything_above():
    # With a chance of 0.95^40 = 13 %, the true 5 % quantile lies below all 40 images.
    found = measure(np.arange(1000.0), np.arange(40) + 2000.0).fpr95
    assert found.value == 0 and found.high > 0.99


def test_fpr95_interval_of_a_mean_shares_the_in_distribution_images():
    in_dist = np.arange(1000.0)
    found = mean_of_sets(in_dist, [np.full(2000, 700.0), np.full(2000, 500.0)]).fpr95
    # Of an image, (is it above 700 + is it above 500) / 2.
    sd = ((in_dist >= 700).astype(float) + (in_dist >= 500)).std() / 2 / math.sqrt(1000)
    assert found.value == pytest.approx(0.4)
    assert found.high - found.low == pytest.approx(2 * Z * sd, rel=0.05)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_promise():
    rng = np.random.default_rng(3)
    shift, held = 1.5, dict.fromkeys(("auroc", "fpr95"), 0)
    truth = {
        "auroc": stats.norm.cdf(shift / math.sqrt(2)),
        "fpr95": stats.norm.sf(shift - stats.norm.ppf(0.95)),
    }
    for _ in range(150):
        found = measure(rng.normal(size=80), rng.normal(size=120) + shift)
        for name, value in truth.items():
            held[name] += getattr(found, name).low <= value <= getattr(found, name).high
    assert all(0.9 * 150 <= count < 150 for count in held.values()), held
