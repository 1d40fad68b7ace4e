"""What a detector sees, in words; and the ensemble beside its members in report and results."""

from __future__ import annotations

import json
from dataclasses import replace

from eval.ensemble.sight import as_table, in_words, useless
from eval.report.findings import findings
from eval.results.ensemble_facts import EnsembleFacts, MemberFacts
from eval.results.scoring import Scoring
from tests.support.report_cases import full_scoring, large
from tests.support.results_cases import interval


def test_words_and_table_name_what_is_seen() -> None:
    sight = {
        "paste": interval(0.8),
        "hue": interval(0.599),
        "blur": interval(0.95),
        "scratch": interval(0.6),
        "blot": interval(0.2),
    }
    assert in_words(sight) == [
        "It sees blur and pieces of other images",
        "It hardly sees scratches",
        "It does not see changes of hue and blots",
    ]
    assert useless(sight) is None
    assert as_table(sight)[1].split()[:2] == ["hue", "59.90"]


def test_a_detector_that_sees_nothing_is_called_useless() -> None:
    assert "useless: it sees none of 2 kinds" in str(
        useless({"paste": interval(0.59), "blot": interval(0.3)})
    )
    assert useless({}) is None


def with_ensemble(auroc: float, member: float, seen: float = 0.9) -> Scoring:
    scoring = large(full_scoring())
    columns = {
        name: replace(metrics, auroc=interval(auroc))
        for name, metrics in scoring.eq6_columns.items()
    }
    aurocs = dict.fromkeys(columns, member)
    facts = EnsembleFacts(
        tuning_images=400,
        evaluation_images=390,
        members={"pixels/lof": MemberFacts("pixels, lof", 1.0, 0.7, True, member, aurocs)},
        score=columns,
        sight={"paste": interval(seen)},
        sight_of_members={"paste": {"pixels/lof": 0.7}},
    )
    return replace(scoring, ensemble=facts, score="ensemble")


def test_a_better_member_is_told() -> None:
    others = max(
        columns["all"].auroc.value
        for method in large(full_scoring()).methods.values()
        for columns in method.scores.values()
    )
    high = interval(others + 0.01)
    found = findings(with_ensemble(high.value, others - 0.2))
    assert any("other scores is better" in line for line in found.clean)
    assert "Synthetic outliers: It sees pieces of other images" in found.notes
    found = findings(with_ensemble(high.value, (high.value + high.high) / 2))
    assert any(line.startswith("pixels, lof is better, within") for line in found.notes)
    found = findings(with_ensemble(high.value, (1 + high.high) / 2))
    assert any(line.startswith("pixels, lof is better: ") for line in found.warnings)
    found = findings(with_ensemble(high.value, 0.5, seen=0.4))
    assert found.warnings[0].startswith("This detector is useless")


def test_results_are_read_as_they_were_written_and_without_an_ensemble() -> None:
    scoring = with_ensemble(0.9, 0.8)
    content = json.loads(json.dumps(scoring.to_json()))
    assert Scoring.from_json(content) == scoring
    assert scoring.test_images == 390 and scoring.headline_label == "ensemble"
    del content["ensemble"], content["score"]  # as earlier versions wrote it
    earlier = Scoring.from_json(content)
    assert earlier.ensemble is None and earlier.headline_columns == earlier.eq6_columns
    assert earlier.test_images == earlier.counts["in-dist-test"]
