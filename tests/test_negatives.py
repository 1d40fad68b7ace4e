"""Shifting transformations against numpy, and the strategies."""

from __future__ import annotations

import numpy as np
import pytest

from dali_pipes.negatives import SHIFTS, STRATEGIES, needs_aux
from tests.conftest import smooth_images
from tests.view_cases import run_graph


@pytest.mark.parametrize("channels", [1, 3])
def test_quarter_turns_equal_numpy(channels) -> None:
    images = smooth_images(12, 20, channels, seed=4).reshape(12, 20, 20, channels)
    turns = np.arange(12, dtype=np.int32) % 4
    ours = run_graph(images, SHIFTS["rot90"].apply, {"turns": turns})
    for image, turned, k in zip(images, ours, turns, strict=True):
        assert (turned == np.rot90(image, k)).all(), k


def test_each_turn_but_none_is_as_likely() -> None:
    turns = SHIFTS["rot90"].draw(np.random.default_rng(0), 6000)["turns"]
    values, counts = np.unique(turns, return_counts=True)
    assert values.tolist() == [1, 2, 3]
    assert np.abs(counts - 2000).max() < 150


def test_the_identity_changes_nothing() -> None:
    images = smooth_images(3, 20, 3, seed=5)
    assert SHIFTS["identity"].draw(np.random.default_rng(0), 3) == {}
    ours = run_graph(images, SHIFTS["identity"].apply, {})
    assert (ours == images).all()


def test_strategies_are_those_of_the_paper() -> None:
    sources = {
        name: [(source.stream, source.shift) for source in strategy]
        for name, strategy in STRATEGIES.items()
    }
    assert sources == {
        "none": [],
        "aux": [("aux", "identity")],
        "rot": [("aux", "rot90")],
        "rot-in": [("in-dist", "rot90")],
        "combined": [("in-dist", "rot90"), ("aux", "rot90")],
    }
    assert [name for name in STRATEGIES if needs_aux(name)] == ["aux", "rot", "combined"]
