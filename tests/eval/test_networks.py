"""Features of timm's networks."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from eval.config import SetsConfig
from eval.features.in_memory import ImagesInMemory
from eval.features.networks import Network, all_features
from eval.sets.feature_file import FeatureFile
from shards.errors import UserError
from tests.support.world_cases import OneOfTwo
from train.world import World

WORLD = World(0, 1, torch.device("cpu"))
SIDE_PX = 160
"""View size of timm's `test_` networks, so that nothing is resized."""


def options(**given) -> SetsConfig:
    folders = {"in_dist_train": Path(), "in_dist_test": Path(), "out": Path()}
    return SetsConfig(**folders, ood=(), batch=4, **given)


def random_images(count: int) -> np.ndarray:
    shape = (count, SIDE_PX, SIDE_PX, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# test_resnet is normalised with ImageNet's mean, test_vit with 0.5.
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_features_of_timm_are_timms(tmp_path, name):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    images = random_images(6)
    given = f"timm:{name}@{tmp_path / 'weights.safetensors'}"
    (features,) = all_features(options(backbone=(given,)), None, [], WORLD)
    assert isinstance(features, Network)
    ours = features.of_images(ImagesInMemory(images), range(1, 6))

    own = timm.data.resolve_model_data_config(network)
    pixels = (images[1:6] / 255 - np.array(own["mean"])) / np.array(own["std"])
    with torch.inference_mode():
        theirs = network(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
    assert features.key == f"timm:{name}" and own["input_size"][-1] == SIDE_PX
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_size_of_views_can_be_chosen(tmp_path):
    """Of images of one colour, which every resizing leaves as they are."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    colours = random_images(4)[:, :1, :1]
    given = (f"timm:test_resnet@{tmp_path / 'weights.safetensors'}",)
    (features,) = all_features(options(backbone=given, backbone_px=64), None, [], WORLD)
    assert isinstance(features, Network)
    images = np.broadcast_to(colours, (4, SIDE_PX, SIDE_PX, 3))
    ours = features.of_images(ImagesInMemory(np.ascontiguousarray(images)), range(4))

    own = timm.data.resolve_model_data_config(network)
    pixels = (images[:, :64, :64] / 255 - np.array(own["mean"])) / np.array(own["std"])
    with torch.inference_mode():
        theirs = network(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
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


@pytest.mark.parametrize("name", ["test_vit", "pixel cosine", "trained teacher"])
def test_a_file_that_is_called_as_another_network_is(name):
    file = FeatureFile(Path("folder", name), {}, WORLD.device)
    with pytest.raises(UserError, match=f"^--features folder/{name}: another network is called"):
        next(all_features(options(backbone=("timm:test_vit@no.pth",)), None, [file], WORLD))


def test_a_file_and_a_network_of_one_name_are_told_apart():
    file = FeatureFile(Path("test_vit.npz"), {}, WORLD.device)
    assert (file.label, file.key) == ("test_vit.npz", "npz:test_vit")
    with pytest.raises(UserError, match="^--backbone is .*no such"):  # the file is not refused
        next(all_features(options(backbone=("timm:test_vit@no.pth",)), None, [file], WORLD))


def test_ranks_whose_files_hold_other_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    given = f"timm:test_resnet@{path}"
    world = OneOfTwo(0, 2, WORLD.device)
    for bias in (0.0, 0.0, 1.0):
        weights["bn1.bias"].fill_(bias)
        save_file(weights, path)
        refused = pytest.raises(UserError, match=f"^--backbone is {given} differs")
        with refused if bias else contextlib.nullcontext():
            next(all_features(options(backbone=(given,)), None, [], world))


def test_kept_features_depend_on_what_makes_them(tmp_path):
    import nvidia.dali

    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    given = options(backbone=(f"timm:test_resnet@{weights}",))
    (network,) = all_features(given, None, [], WORLD)
    assert isinstance(network, Network)
    versions = {key: network.depends_on[key] for key in ("torch", "timm", "dali")}
    assert versions == {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "dali": nvidia.dali.__version__,
    }
