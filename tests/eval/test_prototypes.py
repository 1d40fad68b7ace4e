"""Entropy, energy and occupied classes against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from torch import nn

from eval.scores.prototypes import occupied, prototype_scores
from shards.errors import UserError

WIDTH, PROTOTYPES = 6, 10


def features(count, seed=0):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head():
    made = nn.Linear(WIDTH, PROTOTYPES)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1, 1, WIDTH * PROTOTYPES).view(PROTOTYPES, WIDTH).sin())
    return made


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    monkeypatch.setattr("eval.scores.prototypes.TILE", 16)


def logits_of(head, rows):
    return rows.double().numpy() @ head.weight.detach().double().numpy().T + (
        head.bias.detach().double().numpy()
    )


@pytest.mark.parametrize("temp", [0.1, 1.0])
def test_entropy_and_energy(head, temp):
    rows = features(50)
    logits = logits_of(head, rows)
    scores = prototype_scores(head, rows, temp)
    assert {scores[name].dtype for name in ("entropy", "energy")} == {torch.float64}
    np.testing.assert_allclose(
        scores["entropy"].numpy(), entropy(softmax(logits / temp, axis=1), axis=1), atol=1e-5
    )
    np.testing.assert_allclose(
        scores["energy"].numpy(), -temp * logsumexp(logits / temp, axis=1), atol=1e-6
    )


def test_uniform_is_most_ood():
    def head(rows):
        return rows[:, :1] * torch.eye(PROTOTYPES)[0]  # one prototype has all the weight

    scores = prototype_scores(head, torch.tensor([[9.0], [1.0], [1e-6]]), 0.1)
    assert scores["entropy"].diff().gt(0).all() and scores["energy"].diff().gt(0).all()
    assert float(scores["entropy"][-1]) == pytest.approx(math.log(PROTOTYPES), abs=1e-9)
    assert float(scores["entropy"][0]) == pytest.approx(0, abs=1e-9)


def test_outside_autocast_changes_nothing(head):
    rows = features(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = prototype_scores(head, rows, 0.1)
    assert torch.equal(within["energy"], prototype_scores(head, rows, 0.1)["energy"])


@pytest.mark.parametrize("temp", [0.01, 0.3])
def test_occupied(head, temp):
    rows = features(50)
    centre = torch.linspace(-0.5, 0.5, PROTOTYPES)[None]
    mean = softmax((logits_of(head, rows) - centre.numpy()) / temp, axis=1).mean(0)
    assert 0 < (mean > 1 / PROTOTYPES).sum() < PROTOTYPES
    found = occupied(head, rows, centre, temp)
    assert found == ((mean > 1 / PROTOTYPES).sum(), PROTOTYPES)


@pytest.mark.parametrize("prototypes", [1000, 1024])
def test_of_uniform_classes_none_is_occupied(prototypes):
    centre = torch.full((1, prototypes), 0.3)
    found = occupied(lambda rows: rows[:, :1].expand(-1, prototypes), features(33), centre, 0.055)
    assert found == (0, prototypes)


def test_faults_are_named(head):
    rows = features(40)
    rows[21] = math.nan
    with pytest.raises(UserError, match="^svhn: 1 of 40 features have NaN or Inf; ids 21$"):
        prototype_scores(head, rows, 0.1, "svhn")
    with pytest.raises(UserError, match="^svhn: no features"):
        occupied(head, rows[:0], torch.zeros(1, PROTOTYPES), 0.05, "svhn")
    with torch.no_grad():
        head.bias[3] = math.inf
    with pytest.raises(UserError, match="^test set: the head's logits are not finite for id 0$"):
        prototype_scores(head, features(5), 0.1)
