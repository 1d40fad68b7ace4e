"""Small real shard sets that the tests share."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import pytest

from shards.reader import ShardSet
from tests.support.image_sets import build_npy_set, smooth_images

for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
    os.environ.pop(name, None)  # of a launcher that may have started the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules with the most slow tests first: one that begins last would run alone."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: the order in a module stays


@pytest.fixture(scope="session")
def gray_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 gray images of 28 px in three tars."""
    return build_npy_set(tmp_path_factory.mktemp("gray"), "gray", smooth_images(120, 28, 1, seed=1))


@pytest.fixture(scope="session")
def rgb_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 RGB images of 32 px in three tars."""
    return build_npy_set(tmp_path_factory.mktemp("rgb"), "rgb", smooth_images(120, 32, 3, seed=2))


@pytest.fixture(scope="session")
def aux_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 RGB images of 32 px, the auxiliary stream of `rgb_dir`."""
    return build_npy_set(tmp_path_factory.mktemp("aux"), "aux", smooth_images(70, 32, 3, seed=3))


@pytest.fixture
def gray_set(gray_dir: Path) -> ShardSet:
    return ShardSet.open(gray_dir)


@pytest.fixture
def rgb_set(rgb_dir: Path) -> ShardSet:
    return ShardSet.open(rgb_dir)


@pytest.fixture
def aux_set(aux_dir: Path) -> ShardSet:
    return ShardSet.open(aux_dir)
