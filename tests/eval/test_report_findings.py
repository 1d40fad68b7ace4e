"""The findings of a report: what is a warning, what is a note, and what is called clean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.report.findings import Watch, findings
from eval.results.scoring import Scoring
from tests.support.report_cases import BANK, HOSTILE, TEST, full_scoring, large, report
from tests.support.results_cases import interval, with_metrics, with_provenance, with_set


def changed_auroc(
    scoring: Scoring, method: str, column: str, value: float, score: str = "eq6"
) -> Scoring:
    scores = scoring.methods[method].scores
    before = scores.get(score, scores["eq6"])[column]
    return with_metrics(scoring, method, score, column, replace(before, auroc=interval(value)))


def test_nothing_speaks_against_a_good_run() -> None:
    assert findings(large(full_scoring()), [report(50), report(150)], 100).warnings == []


TOLD = {"collapse": "all alike; try less"}


@pytest.mark.parametrize(
    ("change", "reports", "expected"),
    [
        (
            lambda r: changed_auroc(r, "pixel", "mean", 0.93),
            [],
            "pixel cosine is better: ",
        ),
        (
            lambda r: changed_auroc(r, "untrained", "mean", 0.97, "knn-5"),
            [],
            "untrained network is better: its mean AUROC is 97.00 % by 5-th nearest "
            "neighbour, the headline's 92.50 %",
        ),
        (lambda r: changed_auroc(r, "teacher", "svhn", 0.3), [], "AUROC of svhn is 30.0 %, below"),
        (
            lambda r: changed_auroc(r, "teacher", "svhn", 0.505),
            [],
            "AUROC that may be chance, because the interval contains 50 %: svhn 50.5 % "
            "(49.5\u201351.5)",
        ),
        (lambda r: r, [report(1), report(2, warnings=TOLD)], "collapse (step 2): all alike"),
        (lambda r: r, [report(2, warnings=TOLD)] * 3, "collapse (3 reports from step 2 to 2): all"),
        (
            lambda r: changed_auroc(r, "teacher", "mean", 0.95, "mahalanobis"),
            [],
            "trained teacher is better by another score: its mean AUROC is 95.00 % by Mahalanobis",
        ),
        (lambda r: with_provenance(r, overlap={"a and b": 7}), [], "7 images are in both a and b"),
        (lambda r: with_provenance(r, bank_is_training_set=False), [], "bank is not the set"),
        (lambda r: replace(r, equal_images=("svhn",)), [], "All 50,000 images of svhn are equal"),
        (
            lambda r: replace(r, counts={**r.counts, "svhn": 3}),
            [],
            "3 images of svhn: an AUROC of",
        ),
        (
            lambda r: with_set(r, "svhn", resize="none", encoding="jpg"),
            [],
            "Images of svhn are not resized and stored as JPEG, in-distribution test images "
            "resized by pillow-bicubic: that alone may tell them apart",
        ),
        (
            lambda r: with_set(
                with_set(r, "svhn", background="#000000"), "in-dist-test", background="#ffffff"
            ),
            [],
            "svhn was built with background #000000 (transparent images), the "
            "in-distribution test set with #ffffff",
        ),
        (
            lambda r: replace(r, shortcuts={"svhn": {"contrast": interval(0.97)}, HOSTILE: {}}),
            [],
            "Sets can be told apart by contrast alone",
        ),
    ],
)
def test_each_thing_that_speaks_against_the_headline_is_told(change, reports, expected) -> None:
    found = findings(change(large(full_scoring())), reports, 0)
    assert [line for line in found.warnings if expected in line], found


@pytest.mark.parametrize(
    ("change", "expected", "not_clean"),
    [
        (
            lambda r: changed_auroc(r, "pixel", "svhn", 0.95, "mahalanobis"),
            "pixel cosine is at least as good on svhn, by Mahalanobis (SSD)",
            "-",
        ),
        (
            lambda r: changed_auroc(r, "teacher", "mean", 0.93, "entropy"),
            "trained teacher is better by another score: its mean AUROC is 93.00 % by entropy of "
            "prototypes, the headline's 92.50 % by Eq. 6 (paper)",
            "no other score",
        ),
        (
            lambda r: replace(r, shortcuts={"svhn": {}, HOSTILE: {}}),
            "Trivial statistics were not checked on svhn",
            "trivial",
        ),
        (
            lambda r: replace(with_provenance(r, manifests={}), shortcuts=None),
            "images that sets share, and trivial statistics of images, were not checked",
            "pixel",
        ),
        (lambda r: r, "Copies that were stored in another way were not searched for", "-"),
        (
            lambda r: replace(r, methods={"teacher": r.methods["teacher"]}),
            "No other network was scored",
            "no other network",
        ),
        (lambda r: replace(r, counts={**r.counts, "svhn": 150}), "150 images of svhn", "-"),
        (
            lambda r: replace(
                changed_auroc(changed_auroc(r, "teacher", "svhn", 0.55), "pixel", "svhn", 0.5),
                shortcuts={
                    "svhn": {"contrast": interval(0.579)},
                    HOSTILE: {"contrast": interval(0.5)},
                },
            ),
            "no better than contrast alone, and both are weak",
            "trivial",
        ),
    ],
)
def test_what_weighs_less_or_was_not_looked_at_is_told_below(change, expected, not_clean) -> None:
    found = findings(change(large(full_scoring())), [report(5)], 1)
    assert [line for line in found.notes if expected in line], found
    assert found.warnings == []
    assert not [line for line in found.clean if not_clean in line], found.clean


@pytest.mark.parametrize(
    ("reports", "unseen", "told"),
    [
        ([], None, "no reports of its training"),
        ([report(5)], None, "no reports of its training"),
        ([report(50)], 200, "the monitor begins after step 200, and"),
        ([report(200)], 200, "the monitor begins after step 200, and"),
    ],
)
def test_a_monitor_that_did_not_look_is_not_called_clean(reports, unseen, told) -> None:
    found = findings(large(full_scoring()), reports, unseen)
    assert any(told in line for line in found.notes), found
    assert not [line for line in found.clean if "monitor" in line]
    assert not Watch.of(reports, unseen).has_looked


def test_a_monitor_that_looked_and_did_not_warn_is_called_clean() -> None:
    found = findings(large(full_scoring()), [report(201)], 200)
    assert "the health monitor, which looked after step 200, had no warnings" in found.clean
    assert Watch.of([report(201)], 200).has_looked


def test_nothing_is_called_clean_of_sets_that_say_next_to_nothing() -> None:
    scoring = large(full_scoring())
    assert any("trivial" in line for line in findings(scoring).clean)
    few_images = replace(scoring, counts={**scoring.counts, TEST: 3})
    assert not any("trivial" in line for line in findings(few_images).clean)


def test_the_calm_words_are_those_that_the_tables_bear_out() -> None:
    """Whatever scores the networks have: nothing is called worse that is not."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        scoring, means = large(full_scoring()), {}
        for method, network in scoring.methods.items():
            for score, columns in network.scores.items():
                for column in columns:
                    value = round(rng.uniform(0.85, 0.95), 2)
                    scoring = changed_auroc(scoring, method, column, value, score)
                    if column == "mean":
                        means[method, score] = value
        own = means.pop(("teacher", "eq6"))
        others = max(mean for (method, _), mean in means.items() if method != "teacher")
        own_others = max(mean for (method, _), mean in means.items() if method == "teacher")
        clean = " ".join(findings(scoring, [report(5)], 1).clean)
        assert ("no other network has" in clean) == (others < own)
        assert ("no other score of" in clean) == (own_others <= own)


def test_warnings_come_by_weight() -> None:
    scoring = with_provenance(large(full_scoring()), overlap={"a and b": 7})
    scoring = with_set(changed_auroc(scoring, "pixel", "mean", 0.99), "svhn", resize="none")
    shortcuts = {
        "svhn": {"contrast": interval(0.93)},
        HOSTILE: {"brightness": interval(0.96)},
    }
    scoring = replace(scoring, equal_images=("svhn",), shortcuts=shortcuts)
    told = findings(scoring, [report(2, warnings=TOLD)], 1).warnings
    words = ("equal", "say", "both a and b", "collapse", "pixel", "96.0 %", "93.0 %", "resized")
    places = [next(i for i, line in enumerate(told) if word in line) for word in words[:1]]
    places += [next(i for i, line in enumerate(told) if word in line) for word in words[2:]]
    assert places == sorted(places)


def test_sets_whose_pixels_came_about_in_one_way_are_told_together() -> None:
    scoring = large(full_scoring())
    same = with_set(scoring, "svhn", encoding="png")
    assert findings(same).warnings == []  # the same pixels
    assert findings(with_set(scoring, BANK, resize="none")).warnings == []
    (line,) = findings(with_set(scoring, TEST, resize="none")).warnings
    assert line == (
        f"Images of svhn, {HOSTILE} are resized by pillow-bicubic, in-distribution test images "
        "not resized: that alone may tell them apart"
    )
