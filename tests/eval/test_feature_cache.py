"""Stored features: read if nothing changed, and never used for other images or networks."""

from __future__ import annotations

import pytest
import torch
from safetensors import SafetensorError

from eval.features import cache as cache_file
from eval.features.cache import FeatureCache
from train.world import World

KEY = {"weights": "abc", "set": "def", "crop_px": 28}
WORLD = World(rank=0, world_size=1, device=torch.device("cpu"))
FEATURES = torch.arange(12.0).reshape(4, 3)


def never():
    raise AssertionError("computed again")


def test_what_was_stored_comes_back(tmp_path):
    made = FeatureCache(tmp_path / "new" / "folder").get(KEY, lambda: FEATURES, WORLD)
    assert torch.equal(made, FEATURES)
    again = FeatureCache(tmp_path / "new" / "folder").get(dict(reversed(KEY.items())), never, WORLD)
    assert torch.equal(again, FEATURES) and again.dtype == torch.float32
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1  # no partial file is left


@pytest.mark.parametrize("changed", [{"weights": "abd"}, {"set": "de"}, {"crop_px": 32}])
def test_another_key_has_other_features(tmp_path, changed):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, lambda: FEATURES, WORLD)
    assert torch.equal(cache.get(KEY | changed, lambda: FEATURES + 1, WORLD), FEATURES + 1)
    assert torch.equal(cache.get(KEY, never, WORLD), FEATURES)


def test_a_file_of_another_key_is_not_believed(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, lambda: FEATURES, WORLD)
    (first,) = tmp_path.iterdir()
    cache.get(KEY | {"crop_px": 32}, lambda: FEATURES + 1, WORLD)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.rename(first)
    assert torch.equal(cache.get(KEY, lambda: FEATURES, WORLD), FEATURES)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, lambda: FEATURES, WORLD)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-3] ^= 4  # a bit of a number: safetensors does not notice
    path.write_bytes(data[: {"flip": len(data), "cut": len(data) - 5, "empty": 0}[damage]])
    assert torch.equal(cache.get(KEY, lambda: FEATURES, WORLD), FEATURES)
    assert torch.equal(cache.get(KEY, never, WORLD), FEATURES)


@pytest.mark.parametrize("fault", ["folder", "file"])
def test_what_cannot_be_written_is_told_once(tmp_path, capsys, monkeypatch, fault):
    if fault == "folder":
        (tmp_path / "run").touch()
    else:  # a read-only folder; simulated, because root can write to any folder

        def refused(*_):
            raise SafetensorError("I/O error: Permission denied (os error 13)")

        monkeypatch.setattr(cache_file, "save_file", refused)
    cache = FeatureCache(tmp_path / "run" / "features")
    for added in range(3):
        key = KEY | {"crop_px": added}
        assert torch.equal(cache.get(key, lambda n=added: FEATURES + n, WORLD), FEATURES + added)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'run' / 'features'}: features are not kept (")
    assert line.endswith("); --cache names another")


def test_without_a_folder_nothing_is_kept(tmp_path):
    cache = FeatureCache(None)
    assert torch.equal(cache.get(KEY, lambda: FEATURES, WORLD), FEATURES)
    assert torch.equal(cache.get(KEY, lambda: FEATURES + 1, WORLD), FEATURES + 1)


def test_what_depends_on_nothing_is_not_kept(tmp_path):
    FeatureCache(tmp_path).get({}, lambda: FEATURES, WORLD)
    assert not list(tmp_path.iterdir())
