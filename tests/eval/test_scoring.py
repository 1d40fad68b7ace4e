"""results.json: its keys, and that reading it gives the scoring that was written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from eval.audits.headline_probes import Probes
from eval.results.scoring import Scoring
from shards.errors import UserError
from tests.support.results_cases import (
    interval,
    made_up_probes,
    made_up_scoring,
    set_facts,
    trained,
    with_provenance,
)


def full_scoring() -> Scoring:
    scoring = made_up_scoring(
        groups={"near": ["lsun"], "far": ["svhn"]},
        training=trained("rot", "imagenet"),
        probes=made_up_probes(),
    )
    facts = set_facts("svhn", 3, background="#ffffff", intensity=(0.0, 4095.0), excluded=7)
    scoring = with_provenance(scoring, overlap={"a and b": 3}, manifests={"in-dist-test": facts})
    shortcuts = {"svhn": {"contrast": interval(0.7)}}
    return replace(scoring, shortcuts=shortcuts, equal_images=("svhn",))


def bare_scoring() -> Scoring:
    """A scoring of features alone."""
    scoring = made_up_scoring(baselines=False)
    return with_provenance(scoring, manifests={}, checkpoint=None, bank_is_training_set=False)


@pytest.mark.parametrize("scoring", [full_scoring(), bare_scoring()], ids=["full", "bare"])
def test_reading_gives_what_was_written(scoring) -> None:
    text = json.dumps(scoring.to_json(), indent=1)
    read = Scoring.from_json(json.loads(text))
    assert read == scoring
    assert json.dumps(read.to_json(), indent=1) == text


def test_the_keys_and_their_order_are_those_of_the_format() -> None:
    content = full_scoring().to_json()
    assert list(content) == [
        *("format_version", "higher_is", "headline", "score", "tau", "counts", "groups"),
        *(
            "methods",
            "ensemble",
            "probes",
            "shortcuts",
            "protocol",
            "bank_size",
            "bank_is_training_set",
            "checkpoint",
        ),
        *("manifests", "overlap", "equal_images", "settings", "versions", "command"),
    ]
    assert content["format_version"] == 2 and content["higher_is"] == "ood"
    assert list(content["methods"]["teacher"]) == ["label", "feature_dim", "scores"]
    column = content["methods"]["teacher"]["scores"]["eq6"]["svhn"]
    assert list(column) == ["samples", "auroc", "aupr_ood", "aupr_in", "fpr95"]
    assert list(column["auroc"]) == ["value", "low", "high"]
    assert list(content["probes"]) == ["knn_accuracy", "linear_probe", "sensitivity", "occupied"]
    assert list(content["manifests"]["in-dist-test"]) == [
        *("name", "split", "protocol", "resize", "encoding"),
        *("background", "intensity", "excluded", "sha256"),
    ]
    assert list(content["settings"]) == [
        *("negatives", "aux", "training_command", "precision", "batch", "k", "device", "ranks")
    ]


def test_what_was_not_measured_has_no_key() -> None:
    content = bare_scoring().to_json()
    assert "shortcuts" not in content and list(content["probes"]) == ["sensitivity"]
    assert list(content["settings"]) == ["precision", "batch", "k", "device", "ranks"]
    assert content["checkpoint"] is None and content["manifests"] == {}


def test_a_file_from_before_a_key_came_is_read() -> None:
    content = json.loads(json.dumps(full_scoring().to_json()))
    del content["equal_images"], content["settings"]["training_command"]
    for facts in content["manifests"].values():
        for key in ("resize", "encoding", "background", "intensity", "excluded"):
            del facts[key]
    read = Scoring.from_json(content)
    assert read.equal_images == () and read.settings.training == trained("rot", "imagenet")
    assert read.provenance.manifests["in-dist-test"].excluded == 0
    assert read.headline_columns == full_scoring().headline_columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"format_version": 1}, "format_version is 1, expected 2; score the run"),
        (lambda c: [c], "format_version is None"),
        (lambda c: {key: c[key] for key in c if key != "methods"}, "is of --images, not of OOD"),
        (lambda c: c | {"probes": {}}, "has no probe sensitivity; score the run again"),
    ],
)
def test_another_file_is_refused(change, message) -> None:
    with pytest.raises(UserError, match=message):
        Scoring.from_json(change(full_scoring().to_json()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"tau": None}, "tau is None, expected float"),
        (lambda c: c | {"more": 1}, "more is unknown"),
        (lambda c: {key: c[key] for key in c if key != "protocol"}, "protocol is missing"),
        (lambda c: c | {"counts": {"svhn": 1.5}}, "counts is .*1.5"),
        (lambda c: c | {"shortcuts": {"svhn": {"contrast": {"value": 1.0}}}}, "low is missing"),
    ],
)
def test_a_damaged_field_is_named(change, message) -> None:
    content = json.loads(json.dumps(full_scoring().to_json()))
    with pytest.raises(ValueError, match=message):
        Scoring.from_json(change(content))


def test_the_headline_is_the_eq6_of_its_network() -> None:
    scoring = full_scoring()
    assert scoring.headline_network is scoring.methods["teacher"]
    assert scoring.headline_columns is scoring.methods["teacher"].scores["eq6"]
    assert scoring.ood_names == ["svhn", "lsun"]
    assert scoring.probes != Probes(sensitivity=scoring.probes.sensitivity)
