"""A bank that is divided among ranks gives the same scores and errors as a whole bank."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from eval.scores.cosine import TILE_SHAPE, nearest_scores, score
from shards.errors import UserError
from tests.support.commands import on_ranks
from train.world import World

CPU = torch.device("cpu")
KS = (1, 7)


def features(count, seed):
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))


def queries():
    return torch.cat([features(90, 1), features(50, 2) + 0.3])


def bank():
    return features(203, 3)


def rank_scores(rank: int, slices: list[tuple[int, int]], out: str) -> None:
    world = World(rank, len(slices), CPU)
    ours = bank()[slice(*slices[rank])]
    with patch.dict(TILE_SHAPE, cpu=(32, 40)):
        found = nearest_scores(queries(), ours, 0.04, KS, world=world)
    weights = torch.arange(1.0, 204)[slice(*slices[rank])]
    found["weighted"] = score(queries(), ours, weights=weights, world=world)
    refusals = []
    damaged = bank()
    damaged[[150, 201], 3] = torch.nan
    for part, ks in ((damaged, KS), (bank(), (204,)), (bank()[:0], KS)):
        with pytest.raises(UserError) as refused:
            nearest_scores(queries(), part[slice(*slices[rank])], 0.04, ks, world=world)
        refusals.append(str(refused.value))
    torch.save((found, refusals), f"{out}-{rank}.pt")


# Parts of unequal size; one part smaller than k and one empty.
@pytest.mark.slow
@pytest.mark.parametrize("slices", [[(0, 120), (120, 203)], [(0, 3), (3, 203), (203, 203)]])
def test_as_one_rank(tmp_path, slices):
    on_ranks(rank_scores, slices, str(tmp_path / "found"), ranks=len(slices))
    results = [torch.load(tmp_path / f"found-{rank}.pt") for rank in range(len(slices))]
    expected = nearest_scores(queries(), bank(), 0.04, KS)
    expected["weighted"] = score(queries(), bank(), weights=torch.arange(1.0, 204))
    is_ood = np.arange(140) >= 90
    for found, refusals in results:
        assert list(found) == list(expected)
        for name, values in found.items():
            assert torch.equal(values, results[0][0][name])
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-6)
            assert roc_auc_score(is_ood, values) == roc_auc_score(is_ood, expected[name])
        damaged, too_few, empty = refusals
        assert damaged.startswith("bank: 2 of") and damaged.endswith("NaN or Inf; ids 150, 201")
        assert too_few == "bank: 203 features, too few for 204 neighbours"
        assert empty.startswith("bank: no features")
