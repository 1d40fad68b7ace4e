"""The path from features to results.json: every score and probe has the right sign, set and name.

The functions have tests of their own. Here one scoring is compared, number by number, with plain
computations from the features that it cached.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.score import main
from eval.scores.all_scores import all_scores
from tests.support.score_cases import (
    CPU,
    EPOCHS,
    KS,
    LOSS,
    TAU,
    differences,
    expected_of,
    occupied,
    rounding_of,
    write_case,
)
from train.world import World


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp("wiring"))


@pytest.fixture(scope="module")
def out(case, tmp_path_factory):
    """Output folder of one scoring, in batches of which the last is not full."""
    folder = tmp_path_factory.mktemp("scored") / "out"
    main(case.command(folder, "--batch", "7"))
    return folder


@pytest.fixture(scope="module")
def features(case, out):
    return case.kept_features()


@pytest.fixture(scope="module")
def expected(case, features):
    return expected_of(case, features)


@pytest.mark.slow
def test_features_are_the_teachers(case, features):
    for name, plain in case.plain_features().items():
        np.testing.assert_allclose(features[name], plain, rtol=0, atol=2e-5)


def test_numbers_are_those_of_the_features(out, expected):
    assert differences(out, expected) == []


def test_the_case_could_show_a_difference(case, features, expected):
    """No AUROC depends on rounding, each changes with the sign, and no two scores are equal."""
    seen = set()
    for score in expected.scores:
        assert expected.smallest_gap(score) > 4 * rounding_of(score), score
        of_sets = expected.metrics(score)
        # A negated score has one minus the AUROC.
        assert max(abs(metrics["auroc"] - 0.5) for metrics in of_sets.values()) > 0.05, score
        seen.add(tuple(value for metrics in of_sets.values() for value in metrics.values()))
    assert len(seen) == len(expected.scores) - 1  # the first neighbour is the maximum cosine
    assert abs(expected.probes["sensitivity"] - 0.5) > 0.01
    assert 1 / 3 < expected.probes["linear_probe"] < 1
    counts = [
        occupied(case.teacher, features["in-dist-test"], temp, centre)
        for temp in (
            LOSS.student_temp,
            *np.linspace(LOSS.teacher_temp_start, LOSS.teacher_temp_end, EPOCHS),
        )
        for centre in (None, np.zeros((1, 200)))
    ]
    temp = LOSS.teacher_temp_start + (LOSS.teacher_temp_end - LOSS.teacher_temp_start) / 4
    counts += [
        occupied(case.teacher, features["in-dist-train"], temp),
        occupied(case.teacher, features["in-dist-test"], temp, -case.teacher.centre.numpy()),
    ]
    assert counts.count(expected.probes["occupied"]["count"]) == 1


def test_every_image_has_the_score_of_its_definition(case, features, expected):
    found = all_scores(
        {name: torch.from_numpy(values) for name, values in features.items()},
        TAU,
        KS,
        World(0, 1, CPU),
        "teacher",
        has_covariance=True,
        teacher=case.teacher,
        tell=pytest.fail,
    )
    assert list(found) == list(expected.scores)
    for score, of_sets in expected.scores.items():
        assert list(found[score]) == list(of_sets)
        for name, values in of_sets.items():
            np.testing.assert_allclose(
                found[score][name], values, 0, rounding_of(score), err_msg=f"{score} {name}"
            )
