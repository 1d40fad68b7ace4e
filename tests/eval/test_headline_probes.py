"""The probes of a scoring: which are made, and what is told where one is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from eval.audits.headline_probes import Probes, probes
from eval.sets.opening import BANK, TEST, EvalSets
from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set
from tests.support.small_sets import SIDE_PX, folder_set

COUNTS = {BANK: 24, TEST: 12}


def labelled_set(folder: Path, name: str, classes: tuple[str, ...]) -> ShardSet:
    """A set whose images are half of one class and half of the other."""
    return ShardSet.open(folder_set(folder / name, COUNTS[name], seed=0, classes=classes))


def found(bank: ShardSet, test: ShardSet) -> tuple[Probes, list[str]]:
    """Return probes, and the lines told, of features that are the label alone."""
    features, shards = {}, {BANK: bank, TEST: test}
    for name, images in shards.items():
        labels = images.labels(np.arange(COUNTS[name])) if images.manifest.classes else 0
        features[name] = torch.from_numpy(np.eye(2, dtype=np.float32)[labels]).reshape(-1, 2)
        features[name] = features[name].expand(COUNTS[name], 2)
    told: list[str] = []
    scores = np.arange(float(COUNTS[TEST]))
    sets = EvalSets(COUNTS, shards)
    return probes(features, sets, scores, 0.04, None, told.append), told


def test_equal_classes_are_probed(tmp_path):
    bank, test = (labelled_set(tmp_path, name, ("tree", "boat")) for name in COUNTS)
    of_sets, told = found(bank, test)
    assert set(of_sets.knn_accuracy.values()) == {1.0} and of_sets.linear_probe == 1.0
    assert told == []


@pytest.mark.parametrize(
    ("classes", "difference"),
    [
        (("boat", "tree"), "label 0 is tree in in-dist-train, boat in in-dist-test"),
        (("tree", "ship"), "label 1 is boat in in-dist-train, ship in in-dist-test"),
    ],
)
def test_a_number_that_means_another_class_is_not(tmp_path, classes, difference):
    bank = labelled_set(tmp_path, BANK, ("tree", "boat"))
    of_sets, told = found(bank, labelled_set(tmp_path, TEST, classes))
    assert of_sets == Probes(sensitivity=of_sets.sensitivity)
    assert told == [f"k-NN accuracy and linear probe are left out: {difference}"]


@pytest.mark.parametrize(
    ("bank", "expected"),
    [
        ([3] * 24, "k-NN accuracy and linear probe are left out: the bank has one class"),
        (
            [3] * 15 + [5] * 9,
            "k-NN accuracy and linear probe say little: label 5 has 9 images in the bank, fewer "
            "than the 10 neighbours that vote",
        ),
        ([3] * 14 + [5] * 10, None),
        (
            [3] * 3 + [5] * 9,  # the vote of 20 is left out too
            "k-NN accuracy and linear probe say little: label 3 has 3 images in the bank, fewer "
            "than the 10 neighbours that vote",
        ),
    ],
)
def test_labels_that_are_too_few_are_told(bank, expected):
    test = torch.eye(2)[torch.arange(12) % 2]
    labels = {BANK: np.array(bank), TEST: np.full(12, 3)}
    manifest = SimpleNamespace(classes=("a", "b"))
    shards = {
        name: SimpleNamespace(manifest=manifest, labels=labels[name].__getitem__) for name in COUNTS
    }
    features = {BANK: torch.eye(2)[torch.arange(len(bank)) % 2], TEST: test}
    told: list[str] = []
    sets = EvalSets({**COUNTS, BANK: len(bank)}, cast(Any, shards))
    found = probes(features, sets, np.arange(12.0), 0.04, None, told.append)
    assert told == ([expected] if expected else [])
    assert (found.linear_probe is not None) == (len({*bank}) > 1)
    votes = [f"k{k}-t{t}" for k in (10, 20) for t in (0.04, 0.07) if k <= len(bank)]
    assert [*(found.knn_accuracy or [])] == (votes if len({*bank}) > 1 else [])


def test_without_labels_nothing_is_told(tmp_path):
    bank = labelled_set(tmp_path, BANK, ("tree", "boat"))
    pixels = np.zeros((COUNTS[TEST], SIDE_PX, SIDE_PX, 3), np.uint8)
    of_sets, told = found(bank, ShardSet.open(build_npy_set(tmp_path, TEST, pixels)))
    assert of_sets == Probes(sensitivity=of_sets.sensitivity) and told == []
