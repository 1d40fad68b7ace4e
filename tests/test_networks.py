"""Where features come from besides a run: networks of timm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from eval.config import ScoreConfig
from eval.images import Pixels
from eval.networks import Network, all_features
from shards.cli import UserError
from train.world import World

WORLD = World(0, 1, torch.device("cpu"))
SIDE_PX = 160
"""Of timm's `test_` networks, so that nothing is resized."""


def options(**given) -> ScoreConfig:
    return ScoreConfig(in_dist_train=Path(), in_dist_test=Path(), out=Path(), batch=4, **given)


def random_images(count: int) -> np.ndarray:
    shape = (count, SIDE_PX, SIDE_PX, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])  # means of ImageNet; of 0.5
def test_features_of_timm_are_timms(tmp_path, name):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    images = random_images(6)
    given = f"timm:{name}@{tmp_path / 'weights.safetensors'}"
    (features,) = all_features(options(backbone=(given,)), None, [], WORLD)
    assert isinstance(features, Network)
    ours = features.of_images(Pixels(images), range(1, 6))

    own = timm.data.resolve_model_data_config(network)
    pixels = (images[1:6] / 255 - np.array(own["mean"])) / np.array(own["std"])
    with torch.inference_mode():
        theirs = network(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
    assert features.key == f"timm:{name}" and own["input_size"][-1] == SIDE_PX
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"backbone": ("timm:resnet19",)}, "--backbone is timm:resnet19, which timm"),
        ({"backbone": ("timm:test_vit@no.pth",)}, "--backbone is timm:test_vit@no.pth: .*no such"),
    ],
)
def test_what_cannot_be_had_is_named(given, named):
    with pytest.raises(UserError, match=named):
        list(all_features(options(**given), None, [], WORLD))
