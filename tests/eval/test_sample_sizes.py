"""Sample sizes against simulations, published examples and other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from eval.audits.sample_sizes import (
    WIDE,
    check_calibration,
    check_neighbours,
    expected_interval,
    expected_width,
    images_needed,
    ood_images_needed,
    sets_of_equal_images,
    sizes_that_say_little,
)
from eval.config import ENSEMBLE, EQ6
from eval.metrics import auroc_interval
from eval.sets.feature_file import FeatureFile
from eval.sets.opening import BANK, TEST, EvalSets
from shards.errors import UserError
from shards.reader import ShardSet
from shards.similarity.equal import FIRST, all_equal
from tests.support.image_sets import build_npy_set, smooth_images


@pytest.mark.parametrize(("in_dist", "ood"), [(900, 300), (300, 900), (60, 60), (2000, 40)])
def test_the_expected_width_is_that_of_drawn_scores(in_dist, ood) -> None:
    # Hanley and McNeil's formula is for exponential scores; here P(ood > in-dist) = 9 / 10.
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(60):
        found = auroc_interval(rng.exponential(size=in_dist), 9 * rng.exponential(size=ood))
        widths.append(found.high - found.low)
    assert expected_width(in_dist, ood) == pytest.approx(np.mean(widths), rel=0.1)


def test_the_variance_is_hanleys_and_mcneils_example() -> None:
    # Their table of standard errors: A = 0.893, 51 abnormal and 58 normal images: 0.032.
    low, high = expected_interval(58, 51, 0.893)
    logits = [math.log(p / (1 - p)) for p in (low, high)]
    deviation = (logits[1] - logits[0]) / 2 / stats.norm.ppf(0.975) * 0.893 * 0.107
    assert deviation == pytest.approx(0.032, abs=0.001)


def test_one_image_and_few_say_no_more_than_pairs_without_a_loss() -> None:
    for in_dist, ood in ((1, 1), (1, 500), (3, 3), (5000, 2)):
        low, high = expected_interval(in_dist, ood)
        pairs = min(in_dist, ood)
        assert 0 <= low <= stats.binomtest(pairs, pairs).proportion_ci().low + 1e-12
        assert 0.9 < high <= 1


def test_the_numbers_that_are_asked_for_are_the_fewest() -> None:
    both = images_needed()
    assert expected_width(both, both) <= WIDE < expected_width(both - 1, both - 1)
    ood = ood_images_needed(900)
    assert ood is not None
    assert expected_width(900, ood) <= WIDE < expected_width(900, ood - 1)
    assert ood_images_needed(30) is None  # whatever the number, 30 others say too little


def test_sets_are_told_by_size_and_the_hopeless_first() -> None:
    counts = {BANK: 5, TEST: 900, "many": 300, "some": 120, "few": 3, "other": 3}
    hopeless, little = sizes_that_say_little(counts)
    assert len(hopeless) == len(little) == 1
    assert hopeless[0].startswith("900 images of in-dist-test and 3 images of few, other: an AUROC")
    assert f"{ood_images_needed(900)} images of an OOD set would narrow" in hopeless[0]
    assert "120 images of some" in little[0]
    assert sizes_that_say_little({BANK: 5, TEST: 10_000, "svhn": 10_000}) == ([], [])
    hopeless, _ = sizes_that_say_little({BANK: 5, TEST: 500, "same": 400}, ["same"])
    assert hopeless[0] == "All 400 images of same are equal and say no more than one image"
    assert "500 images of in-dist-test and 1 image of same" in hopeless[1]


def test_neighbours_are_refused_before_the_work_and_told_if_they_are_most_of_the_bank() -> None:
    with pytest.raises(UserError, match="^--k is 50, but in-dist-train has 20 images; give --k 5$"):
        check_neighbours((5, 50), 20)
    with pytest.raises(UserError, match="has 1 image; give --k 1$"):
        check_neighbours((5, 50), 1)
    assert check_neighbours((5, 50), 100) == []
    (line,) = check_neighbours((5, 50), 99)
    assert line.startswith("--k is 50: more than half of the 99 images")


@pytest.mark.parametrize("differs", [None, 1, FIRST, FIRST + 1, 99])
def test_equal_images_are_found_whichever_differs(differs) -> None:
    images = np.full((100, 2, 2, 1), 7, np.uint8)
    if differs is not None:
        images[differs, 1, 1] = 8
    assert all_equal(100, images.__getitem__) == (differs is None)
    assert all_equal(1, images.__getitem__)


def test_sets_of_equal_images_and_of_equal_features_are_found(tmp_path) -> None:
    same = np.repeat(smooth_images(1, 8, 3, seed=0), 30, axis=0)
    sets = {
        "same": ShardSet.open(build_npy_set(tmp_path, "same", same)),
        "not": ShardSet.open(build_npy_set(tmp_path, "not", smooth_images(30, 8, 3, seed=1))),
    }
    assert sets_of_equal_images(EvalSets({"same": 30, "not": 30}, sets)) == ["same"]
    for opened in sets.values():
        opened.close()
    arrays = {"same": np.ones((4, 2), np.float32), "not": np.eye(4, 2, dtype=np.float32)}
    file = FeatureFile(tmp_path / "x.npz", arrays, torch.device("cpu"))
    assert sets_of_equal_images(EvalSets({"same": 4, "not": 4}, {}), [file]) == ["same"]


def test_a_calibration_set_is_judged_before_the_work(tmp_path) -> None:
    images = smooth_images(400, 8, 1, seed=2)
    of_size = {n: build_npy_set(tmp_path, f"n{n}", images[:n]) for n in (1, 3, 30, 400)}
    with pytest.raises(UserError, match="3 calibration images can promise no rate below 1/4"):
        check_calibration(of_size[3], 0.05, EQ6)
    assert check_calibration(of_size[400], 0.05, EQ6) == []
    assert check_calibration(of_size[3], 0.5, EQ6) == []
    assert check_calibration(of_size[400], 0.1, ENSEMBLE) == []
    with pytest.raises(UserError, match="200 calibration images can promise no rate below 1/201"):
        check_calibration(of_size[400], 0.004, ENSEMBLE)
    # One p-value of 31 is at most 0.05; its rate is Beta (1, 30), as binomials with ties agree.
    (line,) = check_calibration(of_size[30], 0.05, EQ6)
    beta = stats.beta(1, 30)
    mean, deviation = f"{100 * beta.mean():.3g} %", f"{100 * beta.std():.2g} points"
    assert f"{mean} with a standard deviation of {deviation}; with 80 images" in line
    (line,) = check_calibration(of_size[1], 0.5, EQ6)
    assert "its images (1) are all equal" in line
