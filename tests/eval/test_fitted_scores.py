"""Every fitted score against scikit-learn or numpy, and as an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.neighbors import LocalOutlierFactor as SklearnLof

from eval.scores.bank import Bank, UnfitError
from eval.scores.covariance_scores import LedoitWolfMahalanobis, PcaResidual, SsdMahalanobis
from eval.scores.eq6 import Eq6
from eval.scores.fitted import FittedScore, ProductScore, scores_of
from eval.scores.forest_and_density import IsolationForest, LocalOutlierFactor
from eval.scores.neighbour_scores import (
    CentredCosineNeighbours,
    CosineNeighbours,
    EuclidNeighbours,
)

pytestmark = pytest.mark.slow

Float = np.ndarray
TAU = 0.04


def features(count: int, seed: int) -> Float:
    """Correlated features of width 12, far from the origin, some of them equal."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(12, 12))
    found = rng.normal(size=(count, 12)) @ mixing + 5
    found[: count // 10] = found[0]
    return found.astype(np.float32)


def unit(values: Float) -> Float:
    values = values.astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def euclid(bank: Float, test: Float) -> Float:
    return np.sort(cdist(test.astype(float), bank.astype(float)), axis=1)[:, :5].mean(1)


def cosine(bank: Float, test: Float) -> Float:
    return 1 - np.sort(unit(test) @ unit(bank).T, axis=1)[:, -5]


def centred_cosine(bank: Float, test: Float) -> Float:
    mean = bank.astype(np.float64).mean(0)
    return cosine(bank - mean, test - mean)


def ledoit_wolf(bank: Float, test: Float) -> Float:
    return LedoitWolf().fit(bank.astype(np.float64)).mahalanobis(test.astype(np.float64))


def ssd(bank: Float, test: Float) -> Float:
    covariance = np.cov(unit(bank).T, bias=True)
    covariance = 0.999 * covariance + 0.001 * np.trace(covariance) / 12 * np.eye(12)
    away = unit(test) - unit(bank).mean(0)
    return np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)


def pca(bank: Float, test: Float) -> Float:
    fitted = PCA(6).fit(bank.astype(np.float64))
    left = test - fitted.inverse_transform(fitted.transform(test.astype(np.float64)))
    return (left**2).sum(1)


def forest(bank: Float, test: Float) -> Float:
    return -SklearnForest(n_estimators=200, random_state=0).fit(bank).score_samples(test)


def lof(bank: Float, test: Float) -> Float:
    return -SklearnLof(n_neighbors=20, novelty=True).fit(bank).score_samples(test)


def eq6(bank: Float, test: Float) -> Float:
    return -np.log(np.exp(unit(test) @ unit(bank).T / TAU).mean(1))


@dataclass(frozen=True)
class Case:
    fit: Callable[[Bank], FittedScore]
    reference: Callable[[Float, Float], Float]


CASES = {
    "euclid": Case(EuclidNeighbours.fit, euclid),
    "cosine": Case(CosineNeighbours.fit, cosine),
    "centred": Case(CentredCosineNeighbours.fit, centred_cosine),
    "ledoit-wolf": Case(LedoitWolfMahalanobis.fit, ledoit_wolf),
    "ssd": Case(SsdMahalanobis.fit, ssd),
    "pca": Case(PcaResidual.fit, pca),
    "forest": Case(IsolationForest.fit, forest),
    "lof": Case(LocalOutlierFactor.fit, lof),
    "eq6": Case(lambda bank: Eq6.fit(bank, TAU), eq6),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_reference(name) -> None:
    bank = features(400, 1)
    # The first feature is 40 times in the bank, where the distance 0 must not be lost to rounding.
    test = np.concatenate([features(1500, 2), 30 + features(3, 3), bank[:2], bank[-2:]])
    expected = CASES[name].reference(bank, test)
    score = CASES[name].fit(Bank(torch.from_numpy(bank)))
    (found,) = scores_of([score], torch.from_numpy(test))
    assert found.dtype == np.float64 and len(np.unique(found)) > 1000
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * expected.std())


@pytest.mark.parametrize("name", CASES)
def test_the_graph_gives_the_same_scores_for_any_batch(name) -> None:
    bank, test = torch.from_numpy(features(200, 1)), torch.from_numpy(features(37, 2))
    score = CASES[name].fit(Bank(bank)).eval()
    program = torch.onnx.export(
        score,
        (test[:2],),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["features"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (expected,) = scores_of([score], test)
    for rows in (test, test[:1]):
        (found,) = session.run(None, {"features": rows.numpy()})
        np.testing.assert_allclose(found, expected[: len(rows)], atol=1e-4 * expected.std())


@pytest.mark.parametrize("name", [name for name in CASES if name != "eq6"])
@pytest.mark.parametrize(
    ("bank", "reason"),
    [
        (torch.ones(30, 12), "do not differ"),
        (torch.randn(1, 12), "too few"),
        (torch.full((30, 12), torch.nan), "NaN or Inf"),
    ],
    ids=["equal", "one", "nan"],
)
def test_a_bank_that_gives_no_score_is_refused(name, bank, reason) -> None:
    with pytest.raises(UnfitError, match=reason):
        CASES[name].fit(Bank(bank))


def test_a_small_forest_and_a_small_bank() -> None:
    """Banks of 2 to 5 features: trees of one leaf level, fewer neighbours than usual."""
    for count in (3, 5):
        bank, test = features(60, 1)[-count:], features(40, 2)
        expected = -SklearnForest(n_estimators=200, random_state=0).fit(bank).score_samples(test)
        (found,) = scores_of(
            [IsolationForest.fit(Bank(torch.from_numpy(bank)))], torch.from_numpy(test)
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)
        fitted = SklearnLof(n_neighbors=count - 1, novelty=True).fit(bank)
        (found,) = scores_of(
            [LocalOutlierFactor.fit(Bank(torch.from_numpy(bank)))], torch.from_numpy(test)
        )
        np.testing.assert_allclose(found, -fitted.score_samples(test), rtol=1e-4)


def test_images_of_which_the_bank_has_many_copies_are_normal() -> None:
    """Wide features: rounding gives equal ones a distance that would be infinitely far for LOF."""
    bank = np.random.default_rng(0).random((400, 784), np.float32)
    bank[:300] = np.repeat(bank[:12], 25, axis=0)
    test = bank[::20]
    (found,) = scores_of(
        [LocalOutlierFactor.fit(Bank(torch.from_numpy(bank)))], torch.from_numpy(test)
    )
    np.testing.assert_allclose(found, lof(bank, test), rtol=1e-4)
    assert found[:15].max() < 1.01


def test_scores_of_one_bank_share_its_products() -> None:
    """They are what each is alone, and the product with the bank is computed once a batch."""
    bank, test = Bank(torch.from_numpy(features(200, 1))), torch.from_numpy(features(1500, 2))
    kinds = EuclidNeighbours, CentredCosineNeighbours, LocalOutlierFactor, IsolationForest
    together = [kind.fit(bank) for kind in kinds]
    calls = []
    bank.products.register_forward_hook(lambda *_: calls.append(1))
    found = scores_of(together, test)
    assert len(calls) == 2 and sum(isinstance(score, ProductScore) for score in together) == 3
    for kind, scores in zip(kinds, found, strict=True):
        (alone,) = scores_of([kind.fit(Bank(bank.features))], test)
        np.testing.assert_array_equal(scores, alone)
