"""Features of the images that a loader yields."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.features.embed import embed, pixel_features
from eval.features.in_memory import ImagesInMemory
from shards.errors import UserError
from tests.support.commands import on_ranks
from train.world import World, over_ranks, share_of_rank

CPU = torch.device("cpu")


class Backbone(torch.nn.Module):
    """A network with the feature (mean of the image, 1); it records the state it was called in."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1, bias=False)
        self.linear.weight.data.fill_(1.0)
        self.seen = []

    def forward(self, images):
        means = self.linear(images.mean(dim=(1, 2, 3))[:, None])
        self.seen.append((self.training, torch.is_inference_mode_enabled(), means.dtype))
        return torch.cat([means, torch.ones_like(means)], dim=1)


def batches(*id_lists):
    """A loader of images: every pixel of image i is i."""
    for ids in id_lists:
        ids = torch.tensor(ids, dtype=torch.int64)
        yield ids, ids.float()[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def test_rows_stand_in_id_order():
    features = embed(Backbone(), batches([3, 0], [4, 1], [2]), CPU, ids=range(5))
    assert features.dtype == torch.float32
    assert features.tolist() == [[float(i), 1.0] for i in range(5)]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_backbone_runs_for_inference_at_the_wanted_precision(precision, dtype):
    backbone = Backbone().train()
    features = embed(backbone, batches([0, 1]), CPU, precision, ids=range(2))
    assert backbone.seen == [(False, True, dtype)]
    assert features.dtype == torch.float32


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        embed(Backbone(), batches([0]), CPU, "fp8", ids=range(1))


@pytest.mark.parametrize(
    ("id_lists", "message"),
    [
        (([0, 1], [3]), "left out ids 2 of 0..3"),
        (([0, 1], [2]), "left out ids 3 of 0..3"),
        ((), "left out ids 0, 1, 2, 3 of 0..3"),
        (([0, 1], [1, 2, 3]), "more than once: 1"),
        (([0, 1, 2, 3], [4]), r"outside 0\.\.3: 4"),
        (([-1, 0, 1, 2, 3],), r"outside 0\.\.3: -1"),
    ],
)
def test_each_id_must_come_once(id_lists, message):
    with pytest.raises(UserError, match=message):
        embed(Backbone(), batches(*id_lists), CPU, ids=range(4))


def test_a_backbone_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"returned \[2, 3, 4, 4\] for 2 images"):
        embed(torch.nn.Identity(), batches([0, 1]), CPU, ids=range(2))


def test_the_ids_of_a_share_are_its_own():
    features = embed(Backbone(), batches([6, 5], [7]), CPU, ids=range(5, 8))
    assert features[:, 0].tolist() == [5, 6, 7]
    with pytest.raises(UserError, match=r"outside 5\.\.7: 4"):
        embed(Backbone(), batches([4, 5, 6, 7]), CPU, ids=range(5, 8))
    with pytest.raises(UserError, match=r"left out ids 6 of 5\.\.7"):
        embed(Backbone(), batches([5, 7]), CPU, ids=range(5, 8))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 10])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_shares_have_each_id_once(count, world_size):
    shares = [share_of_rank(count, rank, world_size) for rank in range(world_size)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(map(len, shares)) == -(-count // world_size)


def gather(rank: int, count: int, results: str) -> None:
    world = World(rank, 3, CPU)

    def features(ids):
        columns = [[float(i), 10.0 * i] for i in ids]
        return torch.tensor(columns) if columns else torch.empty(0, 0)

    np.save(f"{results}-{rank}.npy", over_ranks(count, world, features).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 7])  # with 2, a rank has no image
def test_every_rank_gets_the_whole_set(tmp_path, count):
    on_ranks(gather, count, str(tmp_path / "features"), ranks=3)
    for rank in range(3):
        features = np.load(tmp_path / f"features-{rank}.npy")
        assert features.tolist() == [[i, 10 * i] for i in range(count)]


def test_pixel_features_are_the_pixels(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (12, 2, 4, 3), dtype=np.uint8)
    images[5] = 0
    monkeypatch.setattr("eval.features.embed.PIXEL_CHUNK", 4)  # three reads, the last one shorter
    features = pixel_features(ImagesInMemory(images), range(1, 11))
    assert features.dtype == torch.float32 and features.shape == (10, 24)
    expected = images[1:11].reshape(10, 24) / 255
    expected[4] = 1 / 255
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-6)
