"""AUROC and its sign."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import auroc
from shards.cli import UserError


def by_pairs(in_dist, ood):
    """The definition: share of (OOD, in-distribution) pairs won by the OOD image, ties half."""
    in_dist, ood = np.asarray(in_dist, np.float64), np.asarray(ood, np.float64)
    won = (ood[:, None] > in_dist).sum() + 0.5 * (ood[:, None] == in_dist).sum()
    return won / (len(in_dist) * len(ood))


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
one_ulp_apart = st.integers(0, 4).map(lambda n: 1.0 + n * np.finfo(np.float64).eps)
tied = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
score_sets = st.one_of(
    *(
        st.tuples(st.lists(kind, min_size=1, max_size=40), st.lists(kind, min_size=1, max_size=40))
        for kind in (finite, one_ulp_apart, tied)
    )
)


@settings(max_examples=400, deadline=None)
@given(score_sets)
def test_equals_pair_counting(sets):
    in_dist, ood = sets
    assert auroc(np.array(in_dist), np.array(ood)) == pytest.approx(
        by_pairs(in_dist, ood), abs=1e-12, rel=0
    )


def test_equals_pair_counting_on_many_float32_scores():
    rng = np.random.default_rng(0)
    in_dist = rng.normal(size=2000).astype(np.float32).round(2)
    ood = (rng.normal(size=1500) + 0.7).astype(np.float32).round(2)
    assert auroc(in_dist, ood) == pytest.approx(by_pairs(in_dist, ood), abs=1e-12, rel=0)


IN_DIST, OOD = np.array([0.1, 0.2, 0.2, 0.6]), np.array([0.2, 0.5, 0.7])
# Pairs won by OOD: 0.2 wins 1 and ties 2, 0.5 wins 3, 0.7 wins 4; so (2 + 3 + 4) / 12.
BY_HAND = 9 / 12


def test_higher_is_ood_on_a_case_by_hand():
    assert auroc(IN_DIST, OOD) == pytest.approx(BY_HAND, abs=1e-15)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda in_dist, ood: auroc(-in_dist, -ood),
        lambda in_dist, ood: auroc(ood, in_dist),
    ],
    ids=["negated", "swapped"],
)
def test_a_wrong_sign_shows(mutant):
    assert mutant(IN_DIST, OOD) == pytest.approx(1 - BY_HAND, abs=1e-15)


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
