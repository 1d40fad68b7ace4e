"""Features over a loader."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eval.embed import embed, pixel_features
from shards.cli import UserError

CPU = torch.device("cpu")


class Backbone(torch.nn.Module):
    """Feature = (mean of the image, 1); notes the state it was called in."""

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
    """Image `i` is filled with the value i."""
    for ids in id_lists:
        ids = torch.tensor(ids, dtype=torch.int64)
        yield ids, ids.float()[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def test_rows_stand_in_id_order():
    features = embed(Backbone(), batches([3, 0], [4, 1], [2]), CPU, samples=5)
    assert features.dtype == torch.float32
    assert features.tolist() == [[float(i), 1.0] for i in range(5)]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_backbone_runs_for_inference_at_the_wanted_precision(precision, dtype):
    backbone = Backbone().train()
    features = embed(backbone, batches([0, 1]), CPU, precision, samples=2)
    assert backbone.seen == [(False, True, dtype)]
    assert features.dtype == torch.float32


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        embed(Backbone(), batches([0]), CPU, "fp8", samples=1)


@pytest.mark.parametrize(
    ("id_lists", "message"),
    [
        (([0, 1], [3]), "left out ids 2 of 4"),
        (([0, 1], [2]), "left out ids 3 of 4"),
        ((), "left out ids 0, 1, 2, 3 of 4"),
        (([0, 1], [1, 2, 3]), "more than once: 1"),
        (([0, 1, 2, 3], [4]), r"outside 0\.\.3: 4"),
        (([-1, 0, 1, 2, 3],), r"outside 0\.\.3: -1"),
    ],
)
def test_each_id_must_come_once(id_lists, message):
    with pytest.raises(UserError, match=message):
        embed(Backbone(), batches(*id_lists), CPU, samples=4)


def test_a_backbone_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"returned \[2, 3, 4, 4\] for 2 images"):
        embed(torch.nn.Identity(), batches([0, 1]), CPU, samples=2)


def test_pixel_features_are_the_pixels(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 2, 4, 3), dtype=np.uint8)

    class Shards:
        manifest = SimpleNamespace(sample_shape=(2, 4, 3))

        def __len__(self):
            return len(images)

        def read(self, ids):
            return images[ids]

    monkeypatch.setattr("eval.embed.PIXEL_CHUNK", 4)  # three reads, the last shorter
    features = pixel_features(Shards())
    assert features.dtype == torch.float32 and features.shape == (10, 24)
    np.testing.assert_allclose(features.numpy(), images.reshape(10, 24) / 255, rtol=1e-6)
